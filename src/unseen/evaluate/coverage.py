"""Does a score file hold every row of a manifest? Rows that a detector skipped flatter its numbers."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from unseen.evaluate.scores import ScoreTable
from unseen.types import FaceRecord, InputError

__all__ = ["check_coverage"]


def check_coverage(table: ScoreTable, records: Sequence[FaceRecord], manifest: str) -> None:
    """Refuse a score file that lacks rows of a manifest, has rows beyond it, or labels them otherwise.

    Rows are told apart by the ends of their paths if the file has paths, else by video and frame, else by
    video.

    Args:
        table: The scores.
        records: The rows that should be there.
        manifest: What messages call them.

    Raises:
        InputError: Naming the file, the row and the mend.
    """
    rows = table.rows.select("path", "video", "frame", "label").collect()
    theirs: list[Hashable]
    ours: list[Hashable]
    if len(rows) and rows["path"].null_count() == 0:
        by, theirs, ours = "path", *_ends(rows["path"].to_list(), [r.path for r in records])
    elif len(rows) and rows["frame"].null_count() == 0:
        by, theirs = "video and frame", list(rows.select("video", "frame").iter_rows())
        ours = [(r.video, r.frame) for r in records]
    else:
        by, theirs = "video", rows["video"].to_list()
        ours = [r.video for r in records]
    there: dict[Hashable, int] = {key: i for i, key in enumerate(theirs)}
    missing = [i for i, key in enumerate(ours) if key not in there]
    if missing:
        first = records[missing[0]]
        raise InputError(
            f"{table.name}: {len(missing)} of {len(records)} rows of {manifest} are missing, the first is "
            f"number {missing[0] + 1} ({first.path}, video {first.video!r}, frame {first.frame}); compared "
            f"by {by}. Score them too, or give them an empty score and a `reason`: then they are counted",
            reason="missing_rows",
        )
    wanted = set(ours)
    more = [i for i, key in enumerate(theirs) if key not in wanted]
    if more:
        raise InputError(
            f"{table.name} row {more[0] + 1}: not in {manifest} ({by} {theirs[more[0]]!r}; {len(more)} such "
            "rows); leave them out, or name the --split that they are of",
            reason="extra_rows",
        )
    labels = rows["label"].to_list()
    for key, record in zip(ours, records, strict=True):
        given = labels[there[key]]
        if given is not None and record.label is not None and given != int(record.label):
            raise InputError(
                f"{table.name} row {there[key] + 1}: label {given}, but {manifest} says {int(record.label)} "
                f"for {record.path}; one of the two is wrong",
                reason="label",
            )


def _ends(*lists: Sequence[str]) -> tuple[list[Hashable], ...]:
    """Return the last parts of paths, three or as many as all have: folders above differ between machines."""
    parts = [[path.replace("\\", "/").split("/") for path in paths] for paths in lists]
    depth = min(3, *(len(path) for paths in parts for path in paths))
    return tuple(["/".join(path[-depth:]) for path in paths] for paths in parts)
