"""A manifest of clips to forged clips of several families, with a list that `unseen prepare` takes."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from unseen.data.manifest import Manifest
from unseen.forge.clips import forge_clip
from unseen.forge.families import FAMILIES
from unseen.forge.groups import learn_groups, missing
from unseen.forge.run import Steps, plan
from unseen.forge.work import ForgeRule, Job, Row, portrait, ready
from unseen.prepare.journal import Journal, claim_folder, write_whole
from unseen.prepare.pool import open_pool, work_off
from unseen.types import InputError

__all__ = ["Films", "forge_clips"]

_COLUMNS = ("path", "label", "dataset", "video", "method", "split", "identity", "source", "donor")


@dataclass(frozen=True)
class Films:
    """What a folder of clips holds after one call.

    Args:
        list: A `.csv` for `unseen prepare`, a row a clip, fakes with their source.
        kept: Clips by method, `real` among them.
        dropped: Clips that could not be made, by reason.
    """

    list: Path
    kept: dict[str, int]
    dropped: dict[str, int]


@dataclass(frozen=True, eq=False)
class _Film:
    """One clip to make; `job` is None for a real one, which is only encoded again."""

    name: str
    file: str
    facts: Mapping[str, Any]
    identity: str
    job: Job | None

    @property
    def group(self) -> str | None:
        """Whose network it needs."""
        return None if self.job is None else self.job.group


def forge_clips(
    manifest: Manifest | str | Path,
    out: str | Path,
    *,
    families: Sequence[str] = FAMILIES,
    crf: int = 23,
    seed: int = 0,
    workers: int | None = None,
    seconds_per_clip: float = 3600.0,
    report: Callable[[int, int], None] | None = None,
) -> Films:
    """Forge one clip of each person by each family, and encode every real clip again by the same path.

    Killed at any moment and called again, it goes on where it was. Donors come from the target's own split.

    Args:
        manifest: From `unseen prepare` on clips; its `file` column says where they are.
        out: The folder.
        families: Which, see `unseen.forge.families.FAMILIES`.
        crf: H.264's constant rate factor, for real and forged alike.
        seed: Of everything random.
        workers: Processes; default: one a core.
        seconds_per_clip: A clip, or the network of a group, that takes longer is dropped as `timeout`.
        report: Called with (clips and networks done, both in all).

    Raises:
        InputError: No clips in the manifest, `crf` is not 0 to 51, or as for `unseen.forge.run.forge`.
    """
    if not 0 <= crf <= 51:
        raise InputError(f"forge: crf {crf}; expected 0 (lossless) to 51 (worst)")
    out = Path(out)
    manifest = manifest if isinstance(manifest, Manifest) else Manifest.read(manifest)
    files = _files(manifest)
    rule = ForgeRule(seed)
    planned = plan(manifest, families=families, per_identity=1, rule=rule)
    films = _films(planned.jobs, files, manifest.name)
    claim_folder(out, "clips", {"seed": seed, "crf": crf})
    with Journal(out / "journal.jsonl") as journal:
        todo = [film for film in films if not journal.has(film.name, _stamp(film))]
        unlearned = missing([film.job for film in todo if film.job], planned.groups, out)
        steps = Steps(len(films) - len(todo), len(films) + len(unlearned), report)
        with open_pool(len(todo), workers) as pool:
            given: dict[str, Any] = {"pool": pool, "seconds": seconds_per_clip}
            trouble = learn_groups(unlearned, rule, out, report=steps.next, **given)
            able = [film for film in todo if film.group not in trouble]
            hopeless = ((film, _lost(film, *trouble[film.group])) for film in todo if film.group in trouble)
            for film, rows in chain(hopeless, work_off(_make, able, crf, out, lost=_lost, **given)):
                journal.add(film.name, _stamp(film), rows)
                steps.next()
    rows = sorted(journal.rows(), key=lambda row: str(row["video"]))
    kept = [row for row in rows if row["status"] == "kept"]
    text = io.StringIO()
    table = csv.DictWriter(text, _COLUMNS, extrasaction="ignore", lineterminator="\n")
    table.writeheader()
    table.writerows(kept)
    write_whole(out / "list.csv", text.getvalue().encode())
    return Films(
        out / "list.csv",
        dict(Counter(str(row["method"]) for row in kept)),
        dict(sorted(Counter(str(row["reason"]) for row in rows if row["status"] == "dropped").items())),
    )


def _files(manifest: Manifest) -> dict[tuple[str, str], str]:
    """The clip behind each video of more than one frame."""
    frame = manifest.frame
    if "file" not in frame.columns:
        raise InputError(
            f"{manifest.name}: no column 'file' to say which clips the crops came from; make the manifest "
            "with `unseen prepare`",
            reason="no_clips",
        )
    found: dict[tuple[str, str], str] = {}
    seen: Counter[tuple[str, str]] = Counter()
    for dataset, video, file in frame.select("dataset", "video", "file").iter_rows():
        seen[dataset, video] += 1
        if seen[dataset, video] > 1:
            found[dataset, video] = file
    if not found:
        raise InputError(
            f"{manifest.name}: no video among its rows, only pictures; leave out --video", reason="no_clips"
        )
    return found


def _films(jobs: Sequence[Job], files: Mapping[tuple[str, str], str], name: str) -> list[_Film]:
    films: dict[str, _Film] = {}
    for job in jobs:
        facts = job.target.facts
        file = files.get((facts["dataset"], facts["video"]))
        if file is None:
            continue
        real = f"real/{facts['dataset']}/{facts['video']}"
        films.setdefault(real, _Film(real, file, facts, job.target.identity, None))
        if job.method != "real":
            films[job.name] = _Film(job.name, file, facts, job.target.identity, job)
    if not films:
        raise InputError(f"{name}: no usable real face in its videos", reason="no_faces")
    return list(films.values())


def _make(film: _Film, crf: int, out: Path) -> list[Row]:
    job = film.job
    path = Path("clips") / f"{film.name}.mp4"
    mask = None if job is None else out / "masks" / f"{film.name}.mkv"
    try:
        donor = None
        if job is not None and job.donor is not None:
            donor = portrait(job.donor)
        if mask is not None:
            mask.parent.mkdir(parents=True, exist_ok=True)
        # By its name a family would learn the two people alone; a group's network is there already.
        method = None if job is None else job.method if job.group is None else ready(job, {}, out)
        seed = 0 if job is None else job.seed
        who = film.identity
        made = forge_clip(film.file, donor, method, out / path, crf=crf, seed=seed, mask=mask, identity=who)
    except InputError as error:
        return [_row(film) | {"status": "dropped", "reason": error.reason, "note": str(error)}]
    facts = {"parameters": json.dumps(made.parameters), "frames": made.frames, "forged": made.forged}
    return [_row(film) | facts | {"path": path.as_posix(), "status": "kept", "sound": made.sound}]


def _row(film: _Film) -> Row:
    job, facts = film.job, film.facts
    return {
        "label": 0 if job is None else 1,
        "dataset": facts["dataset"],
        "video": film.name,
        "method": "real" if job is None else job.method,
        "split": facts["split"],
        "identity": film.identity,
        "source": "" if job is None else f"clips/real/{facts['dataset']}/{facts['video']}.mp4",
        "donor": "" if job is None or job.donor is None else job.donor.identity,
    }


def _lost(film: _Film, reason: str, note: str) -> list[Row]:
    return [_row(film) | {"status": "dropped", "reason": reason, "note": note}]


def _stamp(film: _Film) -> str:
    state = Path(film.file).stat() if Path(film.file).exists() else None
    job = film.job
    told: list[Any] = [film.file, None if state is None else [state.st_size, state.st_mtime_ns]]
    if job is not None:
        told += [job.seed, None if job.donor is None else job.donor.path, job.group]
    return json.dumps(told)
