"""Celeb-DF v1 and v2, and UADFV."""

from __future__ import annotations

from pathlib import Path

from unseen.data.layouts.listing import (
    Count,
    Listing,
    ListRow,
    celeb_people,
    folder,
    media,
    no_data,
    read_text_list,
)
from unseen.types import InputError, Label

__all__ = ["celeb_df_v1", "celeb_df_v2", "uadfv"]

_WHERE = "Celeb-DF is given out on request: the form on the page of its authors (celeb-deepfakeforensics)"
_LIST = "List_of_testing_videos.txt"
_FOLDERS = {"Celeb-real": Label.REAL, "YouTube-real": Label.REAL, "Celeb-synthesis": Label.FAKE}


def celeb_df_v1(root: Path) -> Listing:
    """Celeb-DF v1: 408 real and 795 fake videos; see `celeb_df_v2` for folders, names and the test list."""
    return _celeb("celeb-df-v1", root, {}, {"real": 408, "fake": 795})


def celeb_df_v2(root: Path) -> Listing:
    """Celeb-DF v2: 590 real videos of celebrities, 300 of YouTube, 5,639 fakes; 518 of them are the test set.

    Expects `Celeb-real/idA_NNNN.mp4`, `YouTube-real/NNNNN.mp4`, `Celeb-synthesis/idA_idB_NNNN.mp4` (that
    video of A with the face of B) and `List_of_testing_videos.txt`. In the list 1 stands for real, the
    opposite of our labels: the label is taken from the folder, the list only says which videos are the test
    set, 178 real and 340 fake ones. What it does not name is `train`; the same celebrities are in both, as
    the set was made, and `unseen audit` will say so.

    Args:
        root: The folder that holds the three folders and the list.
    """
    expected = {"Celeb-real": 590, "YouTube-real": 300, "Celeb-synthesis": 5639}
    return _celeb("celeb-df-v2", root, expected, {"real in test": 178, "fake in test": 340})


def _celeb(name: str, root: Path, folders: dict[str, int], further: dict[str, int]) -> Listing:
    found: dict[str, list[Path]] = {}
    for place in _FOLDERS:
        # Some copies spell the second folder in another case.
        inside = next((p for p in root.glob("*") if p.name.lower() == place.lower() and p.is_dir()), None)
        found[place] = media(inside) if inside else []
    if not any(found.values()):
        folder(root, *_FOLDERS, what="videos", where=_WHERE)
        raise no_data(root, name, "Celeb-real/*.mp4", _WHERE)
    tested = _test_list(root / _LIST)
    reals = {path.stem: path for path in found["Celeb-real"]}
    rows = []
    for place, label in _FOLDERS.items():
        for path in found[place]:
            identity, donor, behind = celeb_people(path.stem)
            rows.append(
                ListRow(
                    path, label, name, f"{place}/{path.stem}", "real" if label is Label.REAL else "celeb-df",
                    "test" if (place.lower(), path.stem) in tested else "train",
                    identity, donor, reals.get(behind) if behind else None,
                )
            )  # fmt: skip
    here = {(place.lower(), path.stem) for place, paths in found.items() for path in paths}
    missing = [f"{place}/{stem}.mp4" for place, stem in sorted(tested - here)]
    real = [row for row in rows if row.label is Label.REAL]
    fake = [row for row in rows if row.label is Label.FAKE]
    numbers = {
        "real": len(real),
        "fake": len(fake),
        "real in test": sum(row.split == "test" for row in real),
        "fake in test": sum(row.split == "test" for row in fake),
    }
    counts = [Count(place, len(found[place]), expected) for place, expected in folders.items()]
    counts += [Count(what, numbers[what], expected) for what, expected in further.items()]
    counts.append(Count("test list", len(tested) - len(missing), len(tested)))
    notes = ["no validation split: take some of `train`, by `Manifest.split`, and never the test list"]
    return Listing(name, rows, counts, missing, notes)


def _test_list(path: Path) -> set[tuple[str, str]]:
    """Return (folder in lower case, stem) of each line `1 YouTube-real/00170.mp4`; the number is not used."""
    found = set()
    for number, line in enumerate(read_text_list(path, f"{_LIST} comes with the videos. {_WHERE}"), 1):
        place, _, file = line.split()[-1].replace("\\", "/").rpartition("/")
        place = place.rpartition("/")[2].lower()
        if place not in {name.lower() for name in _FOLDERS}:
            raise InputError(
                f"{path} line {number}: {line!r}; expected a number and FOLDER/NAME.mp4 with FOLDER one of "
                f"{', '.join(_FOLDERS)}",
                reason="layout",
            )
        found.add((place, Path(file).stem))
    return found


def uadfv(root: Path) -> Listing:
    """UADFV: 49 real videos and a fake of each; no official split.

    Expects `real/NNNN.mp4` and `fake/NNNN_fake.mp4`, directly or in a folder `videos` below.

    Args:
        root: The folder that holds `real` and `fake`.
    """
    where = "UADFV is given out on request: its authors' form"
    reals = {p.stem: p for p in media(folder(root, "real", what="the real videos", where=where))}
    fakes = media(folder(root, "fake", what="the fakes", where=where))
    if not reals and not fakes:
        raise no_data(root, "UADFV", "real/*.mp4 and fake/*.mp4", where)
    rows = [ListRow(p, Label.REAL, "uadfv", f"real/{s}", "real") for s, p in reals.items()]
    rows += [
        ListRow(
            p, Label.FAKE, "uadfv", f"fake/{p.stem}", "uadfv", source=reals.get(p.stem.removesuffix("_fake"))
        )
        for p in fakes
    ]
    notes = ["no official split: `--split test` marks all rows as test, which is how UADFV is commonly used"]
    return Listing("uadfv", rows, [Count("real", len(reals), 49), Count("fake", len(fakes), 49)], notes=notes)
