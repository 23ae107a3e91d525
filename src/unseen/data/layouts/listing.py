"""What a layout gives: rows of a list, what was found beside what is expected, and what is missing."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from unseen.types import InputError, Label

__all__ = [
    "PICTURES",
    "VIDEOS",
    "Count",
    "ListRow",
    "Listing",
    "celeb_people",
    "ffpp_people",
    "folder",
    "media",
    "no_data",
    "read_text_list",
]

PICTURES = frozenset((".jpg", ".jpeg", ".png", ".webp", ".bmp"))
VIDEOS = frozenset((".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v"))


@dataclass(frozen=True, slots=True)
class ListRow:
    """One file of a public data set, and what its place and name tell.

    Args:
        path: The file.
        label: Real or fake.
        dataset: Our name of the set (`unseen.data.names`), with the compression where the set has several.
        video: Unique inside the data set; the frames of an unpacked video share it.
        method: `real`, or who forged it.
        split: `train`, `val`, `test`, or None where the set has no official one.
        identity: Who is seen, as `set/name`: equal in two sets that show the same person's video.
        donor: Whose face or movement was put in.
        source: The real file that a fake was made from, if it is there.
        frame: Number of the frame, for a picture that is one of a video's.
    """

    path: Path
    label: Label
    dataset: str
    video: str
    method: str
    split: str | None = None
    identity: str | None = None
    donor: str | None = None
    source: Path | None = None
    frame: int | None = None


@dataclass(frozen=True, slots=True)
class Count:
    """How many of something were found; `expected` is None where the number is not certain."""

    what: str
    found: int
    expected: int | None = None

    @property
    def short(self) -> bool:
        """Whether some are missing."""
        return self.expected is not None and self.found < self.expected

    def __str__(self) -> str:
        of = "" if self.expected is None else f" of {self.expected:,}"
        return f"{self.what}: found {self.found:,}{of}"


@dataclass(frozen=True)
class Listing:
    """What a layout made of a folder.

    Args:
        name: The layout.
        rows: Every file, in the order of data set and video.
        counts: What was found.
        missing: Files that the set's own lists name and that are not there.
        notes: What a user of the rows should know.
    """

    name: str
    rows: list[ListRow]
    counts: list[Count] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def check_complete(self) -> None:
        """Refuse a data set of which a part is missing.

        Raises:
            InputError: Names what is short and the first missing files.
        """
        short = [str(count) for count in self.counts if count.short]
        if short or self.missing:
            examples = f"; missing: {', '.join(self.missing[:3])}" if self.missing else ""
            more = f" and {len(self.missing) - 3:,} more" if len(self.missing) > 3 else ""
            lacking = "; ".join(short) or "files of its own lists"
            raise InputError(
                f"{self.name}: not complete ({lacking}{examples}{more}); "
                "download the rest, or leave out --complete to take what is there",
                reason="incomplete",
            )


def folder(root: Path, *names: str, what: str, where: str) -> Path:
    """Return the first of several sub-folders that is there.

    Raises:
        InputError: None is; says what was expected and where one gets it.
    """
    for name in names:
        if (root / name).is_dir():
            return root / name
    inside = sorted(p.name for p in root.iterdir())[:6] if root.is_dir() else []
    raise InputError(
        f"{root}: no folder {' or '.join(names)} ({what}); there is "
        f"{', '.join(inside) if inside else 'nothing'}. {where}",
        reason="layout",
    )


def media(root: Path, suffixes: frozenset[str] = VIDEOS) -> list[Path]:
    """Return every visible file of some kinds in a folder and below, sorted."""
    return sorted(
        path
        for path in root.rglob("*")
        if path.suffix.lower() in suffixes
        and not any(part.startswith(".") for part in path.relative_to(root).parts)
    )


def no_data(root: Path, name: str, expected: str, where: str) -> InputError:
    """Return the error for a folder that is something else."""
    return InputError(f"{root}: nothing of {name} here; expected {expected}. {where}", reason="layout")


def read_text_list(path: Path, where: str) -> list[str]:
    """Return the lines of a list, without blanks.

    Raises:
        InputError: It is missing or not text.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise InputError(f"{path}: no such list. {where}", reason="layout") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error})", reason="unreadable") from error
    return [line.strip() for line in text.splitlines() if line.strip()]


def ffpp_people(stem: str) -> tuple[str | None, str | None]:
    """Return identity and donor of a FaceForensics++ video: `033_097` shows 033, driven by or with 097.

    Each of the 1,000 YouTube videos counts as a person; that some show the same one, the set does not tell.

    Example:
        >>> ffpp_people("033_097"), ffpp_people("033")
        (('ff++/033', 'ff++/097'), ('ff++/033', None))
    """
    found = re.fullmatch(r"(\d{3})(?:_(\d{3}))?", stem)
    if not found:
        return None, None
    return f"ff++/{found[1]}", f"ff++/{found[2]}" if found[2] else None


def celeb_people(stem: str) -> tuple[str | None, str | None, str | None]:
    """Return identity, donor, and the stem of the real video behind a Celeb-DF video.

    `id3_id7_0005` is video `id3_0005` with the face of id7. The YouTube-real videos have no identities.

    Example:
        >>> celeb_people("id3_id7_0005"), celeb_people("id3_0005")
        (('celeb-df/id3', 'celeb-df/id7', 'id3_0005'), ('celeb-df/id3', None, None))
    """
    found = re.fullmatch(r"(id\d+)_(?:(id\d+)_)?(\d+)", stem)
    if not found:
        return None, None, None
    identity, donor = f"celeb-df/{found[1]}", f"celeb-df/{found[2]}" if found[2] else None
    return identity, donor, f"{found[1]}_{found[3]}" if donor else None


def there(path: Path, known: Iterable[Path]) -> Path | None:
    """Return the path if it is among the known ones."""
    return path if path in known else None


def number_of(path: Path) -> int | None:
    """Return the number at the end of a file's name, such as 12 of `frame_0012.png`."""
    found = re.search(r"(\d+)$", path.stem)
    return int(found[1]) if found else None


def frames_of(root: Path) -> Iterator[tuple[Path, list[tuple[int, Path]]]]:
    """Yield each folder that directly holds pictures, with its frames in the order of their numbers.

    Pictures whose names end in no number, or in the same one, are numbered in the order of their names.
    """
    groups: dict[Path, list[Path]] = {}
    for picture in media(root, PICTURES):
        groups.setdefault(picture.parent, []).append(picture)
    for place, pictures in sorted(groups.items()):
        numbers = [number_of(p) for p in pictures]
        told = [n for n in numbers if n is not None]
        if len(set(told)) == len(pictures):
            yield place, sorted(zip(told, pictures, strict=True))
        else:
            yield place, list(enumerate(pictures))
