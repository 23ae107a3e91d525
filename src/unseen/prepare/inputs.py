"""What a user named on the command line, as a list of files with what is known of each."""

from __future__ import annotations

import csv
import glob
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path, PurePosixPath

from unseen.data.layouts import Listing, ListRow
from unseen.data.places import address, exists, listed, name_of, read_place
from unseen.types import InputError, Label

__all__ = ["MEDIA_SUFFIXES", "InputFile", "far_files", "from_listing", "list_inputs", "read_list"]

# Only for walking folders: a file that is named is opened whatever its name, and its content decides.
_PICTURES = (".jpg", ".jpeg", ".jpe", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".avif")
_VIDEOS = (
    ".mp4",
    ".m4v",
    ".mov",
    ".mkv",
    ".webm",
    ".avi",
    ".mpg",
    ".mpeg",
    ".wmv",
    ".flv",
    ".ts",
    ".3gp",
    ".ogv",
)
MEDIA_SUFFIXES = frozenset(_PICTURES + _VIDEOS)
_KNOWN = ("label", "dataset", "video", "method", "split", "identity", "source", "donor", "frame")


@dataclass(frozen=True, slots=True)
class InputFile:
    """One file to take faces from, with what its list or the command line says of it.

    Args:
        path: Where it is, absolute.
        video: Unique inside its data set; the manifest's `video`.
        source: Absolute path of the real file that a fake was made from, another input of the same run.
        donor: Whose face or movement was put into a fake.
        frame: For a picture that is one frame of a video: its number. The frames of a video share its name.
    """

    path: Path
    dataset: str
    video: str
    label: Label | None = None
    method: str | None = None
    split: str | None = None
    identity: str | None = None
    source: Path | None = None
    donor: str | None = None
    frame: int | None = None


def list_inputs(
    inputs: Sequence[str | Path],
    *,
    label: Label | None = None,
    dataset: str | None = None,
    method: str | None = None,
    split: str | None = None,
) -> list[InputFile]:
    """Expand files, folders, globs and CSV lists into files, sorted, each once.

    Args:
        inputs: A file; a folder, walked for media by name; a glob (`**` goes deep), each of them also an
            address of object storage (`s3://bucket/clips`); or a `.csv` with a
            `path` column (relative to the list) and any of `label` (0, 1, real, fake), `dataset`, `video`,
            `method`, `split`, `identity`, `donor`, `source` (path of the real file a fake was made from),
            `frame` (of a picture that is one frame of `video`).
        label: For all files that no list labels.
        dataset: For all files that no list gives one; default: the folder's own name.
        method: Who forged them; `real` is filled in for real ones.
        split: For all files that no list gives one.

    Raises:
        InputError: nothing found (`missing`), a list without `path`, a bad label or source, two files of
            one data set with one video name; the message names file and row.
    """
    found: dict[Path, InputFile] = {}
    for given in inputs:
        for item in _expand(str(given), dataset):
            filled = replace(
                item,
                label=label if item.label is None else item.label,
                method=item.method or method,
                split=item.split or split,
            )
            if filled.method is None and filled.label is Label.REAL:
                filled = replace(filled, method="real")
            known = found.setdefault(filled.path, filled)
            if known.label != filled.label and None not in (known.label, filled.label):
                raise InputError(
                    f"{given}: {filled.path} is listed twice, as real and as fake; keep one of them",
                    reason="duplicate",
                )
    return _checked(_tell_apart(found.values()))


def from_listing(listing: Listing, *, frames: int | None = None, split: str | None = None) -> list[InputFile]:
    """Return the rows of a public data set's layout (`unseen.data.layouts`) as files to prepare.

    Args:
        listing: From `list_dataset`.
        frames: Of a video that lies there as pictures, take so many: the middle of each of as many equal
            parts.
        split: For rows that have none.

    Raises:
        InputError: A fake's source is not among the rows.
    """
    return _checked(
        InputFile(
            row.path.resolve(), row.dataset, row.video, row.label, row.method, row.split or split,
            row.identity, row.source.resolve() if row.source else None, row.donor, row.frame,
        )
        for row in _thinned(listing.rows, frames)
    )  # fmt: skip


def _thinned(rows: Sequence[ListRow], count: int | None) -> Iterator[ListRow]:
    videos: dict[tuple[str, str], list[ListRow]] = {}
    for row in rows:
        if count is None or row.frame is None:
            yield row
        else:
            videos.setdefault((row.dataset, row.video), []).append(row)
    for group in videos.values():
        take = min(count or 0, len(group))
        ordered = sorted(group, key=lambda row: row.frame or 0)
        yield from (ordered[(2 * i + 1) * len(group) // (2 * take)] for i in range(take))


def _checked(given: Iterable[InputFile]) -> list[InputFile]:
    items = list(given)
    found = {item.path for item in items}
    for item in items:
        if ".." in Path(item.dataset, item.video).parts or Path(item.dataset, item.video).is_absolute():
            raise InputError(
                f"{item.path}: video {item.dataset}/{item.video} leaves the output folder; rename it"
            )
        if item.source is not None and item.source not in found:
            raise InputError(
                f"{item.path}: its source {item.source} is not among the inputs; list the real file too, or "
                "leave the source column empty",
                reason="missing",
            )
    return sorted(items, key=lambda item: (item.dataset, item.video, item.frame or 0))


def _expand(given: str, dataset: str | None) -> Iterator[InputFile]:
    path = Path(given)
    url = address(given)
    if url is not None and path.suffix.lower() != ".csv":
        yield from _far(url, dataset)
    elif path.is_dir():
        root = path.resolve()
        files = sorted(p for p in root.rglob("*") if p.suffix.lower() in MEDIA_SUFFIXES and _visible(p, root))
        if not files:
            raise InputError(f"{given}: no pictures or videos in this folder or below", reason="missing")
        for file in files:
            yield InputFile(file, dataset or root.name, _name(file, root))
    elif path.suffix.lower() == ".csv" and exists(given):
        yield from read_list(path, dataset)
    elif path.exists():
        yield InputFile(path.resolve(), dataset or path.resolve().parent.name, path.stem)
    elif any(mark in given for mark in "*?["):
        matches = sorted(Path(m) for m in glob.glob(given, recursive=True))  # noqa: PTH207 - absolute patterns
        files = [m for m in matches if m.is_file()]
        if not files:
            raise InputError(f"{given}: no file matches this pattern", reason="missing")
        root = _common_folder(files)
        for file in files:
            yield InputFile(file.resolve(), dataset or root.name, _name(file.resolve(), root))
    else:
        raise InputError(
            f"{given}: no such file or folder; expected a file, a folder, a glob or a .csv list",
            reason="missing",
        )


def far_files(url: str) -> list[Path]:
    """List an address of object storage: a file, a folder or a pattern.

    `Path(url)` stands for each file: `unseen.data.places.address` brings the address back.

    Raises:
        InputError: There is no media (`missing`).
    """
    files = [Path(one) for one in listed(url)]
    # A file that is named is opened whatever its name; of a folder, media.
    if [name_of(file) for file in files] != [url]:
        files = [file for file in files if file.suffix.lower() in MEDIA_SUFFIXES]
    if not files:
        raise InputError(f"{url}: no pictures or videos there", reason="missing")
    return files


def _far(url: str, dataset: str | None) -> Iterator[InputFile]:
    files = far_files(url)
    root = files[0].parent
    while not all(file.is_relative_to(root) for file in files):
        root = root.parent
    for file in files:
        yield InputFile(file, dataset or root.name, _name(file, root))


def _found(root: Path, text: str) -> Path:
    if address(text):
        return Path(text)
    return root / text if address(root) else (root / text).resolve()


def read_list(path: Path, dataset: str | None = None) -> Iterator[InputFile]:
    """Read a `.csv` of files; see `list_inputs` for its columns.

    Raises:
        InputError: A column or a value is wrong; says in which row.
    """
    root = path.parent if address(path) else path.resolve().parent
    try:
        text = read_place(name_of(path)).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}: byte {error.start} is not UTF-8; save the list as UTF-8", reason="unreadable"
        ) from error
    with StringIO(text, newline="") as file:
        rows = csv.DictReader(file)
        if "path" not in (rows.fieldnames or ()):
            there = ", ".join(map(repr, rows.fieldnames or ())) or "none at all"
            raise InputError(
                f"{path}: no column 'path'; its first line names {there}; expected names with commas between",
                reason="invalid",
            )
        number = 1
        for number, row in enumerate(rows, start=2):
            if not (row.get("path") or "").strip():
                raise InputError(f"{path} row {number}: empty path", reason="invalid")
            known = {k: (row.get(k) or "").strip() or None for k in _KNOWN}
            file_path = _found(root, row["path"].strip())
            yield InputFile(
                file_path,
                dataset=known["dataset"] or dataset or path.stem,
                video=known["video"] or _name(file_path, root),
                label=_label(known["label"], path, number),
                method=known["method"],
                split=known["split"],
                identity=known["identity"],
                source=_found(root, known["source"]) if known["source"] else None,
                donor=known["donor"],
                frame=_frame(known["frame"], path, number),
            )
        if number == 1:
            raise InputError(f"{path}: a list without rows; expected a file a line", reason="missing")


def _label(text: str | None, path: Path, row: int) -> Label | None:
    if text is None:
        return None
    try:
        return {"0": Label.REAL, "real": Label.REAL, "1": Label.FAKE, "fake": Label.FAKE}[text.lower()]
    except KeyError:
        raise InputError(f"{path} row {row}: label {text}; expected 0 (real) or 1 (fake)") from None


def _frame(text: str | None, path: Path, row: int) -> int | None:
    if text is None:
        return None
    if not text.isdigit():
        raise InputError(f"{path} row {row}: frame {text}; expected a whole number from 0, or nothing")
    return int(text)


def _visible(path: Path, root: Path) -> bool:
    return path.is_file() and not any(part.startswith(".") for part in path.relative_to(root).parts)


def _common_folder(files: Sequence[Path]) -> Path:
    folders = [file.resolve().parent for file in files]
    common = folders[0]
    while not all(folder.is_relative_to(common) for folder in folders):
        common = common.parent
    return common


def _name(path: Path, root: Path) -> str:
    inside = path.relative_to(root) if path.is_relative_to(root) else Path(path.name)
    return PurePosixPath(inside).with_suffix("").as_posix()


def _tell_apart(items: Iterable[InputFile]) -> list[InputFile]:
    """Files that differ only in their suffix or folder get it back as part of the name."""
    items = list(items)
    spellings: list[Callable[[InputFile], str]] = [
        lambda item: item.video + item.path.suffix,
        lambda item: item.path.as_posix().lstrip("/"),
    ]
    for spell in spellings:
        count = Counter((item.dataset, item.video, item.frame) for item in items)
        items = [replace(i, video=spell(i)) if count[i.dataset, i.video, i.frame] > 1 else i for i in items]
    return items
