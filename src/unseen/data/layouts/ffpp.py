"""FaceForensics++ and what is built on it: FaceShifter, DeepFakeDetection, DeeperForensics-1.0."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

from unseen.data.layouts.listing import (
    VIDEOS,
    Count,
    Listing,
    ListRow,
    ffpp_people,
    folder,
    media,
    no_data,
    read_text_list,
)
from unseen.data.names import method_name
from unseen.types import InputError, Label

__all__ = ["COMPRESSIONS", "METHODS", "deeperforensics", "dfd", "faceshifter", "ffpp"]

COMPRESSIONS = ("raw", "c23", "c40")
METHODS = ("Deepfakes", "Face2Face", "FaceSwap", "NeuralTextures", "FaceShifter")
_WHERE = (
    "FaceForensics++ is given out on request: its authors' form, then their download script "
    "(`-d all -c c23 -t videos`)"
)
_SPLITS = (
    "the official lists are train.json, val.json and test.json of the folder dataset/splits in the "
    "FaceForensics repository: put them beside the data or name their folder with --splits; "
    "`--splits derive` makes other ones of the same sizes, `--splits none` makes none"
)


def ffpp(root: Path, *, compression: str | None = None, splits: str | None = None) -> Listing:
    """FaceForensics++: 1,000 real videos and 1,000 of each manipulation, FaceShifter among them.

    Expects `original_sequences/youtube/<c>/videos/NNN.mp4` and
    `manipulated_sequences/<Method>/<c>/videos/NNN_MMM.mp4`, with c one of raw, c23, c40. `NNN_MMM` is target
    NNN with the face, or the movement, of MMM. The official split has 720, 140 and 140 videos of each kind,
    given as pairs, so that both people of a pair are in one split.

    Args:
        root: The folder that holds both.
        compression: Which one; may be left out if only one is there.
        splits: Folder of the three lists; `derive` or `none` (see the error when they are missing).

    Raises:
        InputError: Folders or lists are missing, or several compressions are there and none was named.
    """
    return _swaps("ff++", root, METHODS, compression, splits)


def faceshifter(root: Path, *, compression: str | None = None, splits: str | None = None) -> Listing:
    """FaceShifter alone with the real videos of FaceForensics++, as a set of its own; see `ffpp`."""
    return _swaps("faceshifter", root, ("FaceShifter",), compression, splits)


def _swaps(
    name: str, root: Path, methods: tuple[str, ...], compression: str | None, splits: str | None
) -> Listing:
    originals = folder(root, "original_sequences/youtube", what="the real videos", where=_WHERE)
    compression = _compression(originals, compression)
    dataset = f"{name}_{compression}"
    reals = {p.stem: p for p in _videos(originals / compression)}
    if not reals:
        raise no_data(root, name, f"{originals / compression}/videos/*.mp4", _WHERE)
    fakes = {
        method: _videos(root / "manipulated_sequences" / method / compression)
        for method in methods
        if (root / "manipulated_sequences" / method / compression).is_dir()
    }
    part, notes = _parts(root, splits, [p.stem for found in fakes.values() for p in found])
    absent = [m for m in methods if not fakes.get(m)]
    if absent:
        notes.append(f"no videos of {', '.join(absent)} in {compression}. {_WHERE}")
    rows = [
        ListRow(p, Label.REAL, dataset, f"original/{s}", "real", part.get(s), *ffpp_people(s))
        for s, p in reals.items()
    ]
    for method, found in fakes.items():
        ours = method_name(method)
        for path in found:
            identity, donor = ffpp_people(path.stem)
            source = reals.get(path.stem.split("_")[0])
            rows.append(
                ListRow(
                    path, Label.FAKE, dataset, f"{ours}/{path.stem}", ours, part.get(path.stem),
                    identity, donor, source,
                )
            )  # fmt: skip
    counts = [Count("real", len(reals), 1000)]
    counts += [Count(method_name(m), len(fakes.get(m, [])), 1000) for m in methods]
    if splits != "none":
        official = {"train": 720, "val": 140, "test": 140}
        inside = {s: sum(part.get(stem) == s for stem in reals) for s in official}
        counts += [Count(f"real in {s}", inside[s], number) for s, number in official.items()]
        without = [row.video for row in rows if row.split is None]
        if without:
            notes.append(f"{len(without):,} videos are in no split, such as {without[0]}: they get none")
    return Listing(name, rows, counts, notes=notes)


def _compression(place: Path, wanted: str | None) -> str:
    found = [c for c in COMPRESSIONS if (place / c).is_dir()]
    if wanted is not None and wanted not in COMPRESSIONS:
        raise InputError(f"compression {wanted!r}; expected {', '.join(COMPRESSIONS)}", reason="usage")
    if wanted is None and len(found) == 1:
        return found[0]
    if wanted is None and found:
        raise InputError(
            f"{place}: {' and '.join(found)} are there; choose with --compression", reason="usage"
        )
    if wanted not in found:
        raise InputError(
            f"{place}: no folder {wanted or ' or '.join(COMPRESSIONS)}; there is "
            f"{', '.join(found) or 'no compression at all'}. {_WHERE}",
            reason="layout",
        )
    assert wanted is not None
    return wanted


def _videos(place: Path) -> list[Path]:
    inside = place / "videos"
    return media(inside if inside.is_dir() else place, VIDEOS)


def _parts(root: Path, splits: str | None, fakes: list[str]) -> tuple[dict[str, str], list[str]]:
    """Return the split of every stem, real (`033`) and pair (`033_097`), and what to say of it."""
    if splits == "none":
        return {}, ["no splits were asked for"]
    if splits == "derive":
        return _derive(fakes), [
            "splits were derived from the pairs: not the official ones, not comparable to published numbers"
        ]
    places = [Path(splits)] if splits else [root, root / "splits", root / "dataset" / "splits"]
    place = next((p for p in places if (p / "train.json").is_file()), None)
    if place is None:
        raise InputError(f"{places[0]}: no train.json; {_SPLITS}", reason="no_splits")
    part: dict[str, str] = {}
    for name in ("train", "val", "test"):
        for first, second in _read_pairs(place / f"{name}.json"):
            for stem in (first, second, f"{first}_{second}", f"{second}_{first}"):
                if part.setdefault(stem, name) != name:
                    raise InputError(
                        f"{place / name}.json: {stem} is in {part[stem]}.json too; take the official lists",
                        reason="leak",
                    )
    return part, []


def _read_pairs(path: Path) -> list[tuple[str, str]]:
    try:
        pairs = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: missing; {_SPLITS}", reason="no_splits") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not readable JSON ({error})", reason="unreadable") from error
    good = isinstance(pairs, list) and all(
        isinstance(pair, list) and len(pair) == 2 and all(isinstance(x, str) for x in pair) for pair in pairs
    )
    if not good:
        raise InputError(
            f'{path}: expected a list of pairs such as [["071", "054"], ...]; {_SPLITS}', reason="no_splits"
        )
    return [(first, second) for first, second in pairs]


def _derive(fakes: list[str]) -> dict[str, str]:
    """Split by whole pairs, 72, 14 and 14 %; which one a pair is in depends on nothing but the names."""
    pairs = [m.groups() for stem in fakes if (m := re.fullmatch(r"(\d{3})_(\d{3})", stem))]
    group: dict[str, set[str]] = {}
    for first, second in pairs:  # official pairs are closed; with others, whole chains stay together
        joined = group.get(first, {first}) | group.get(second, {second})
        group.update(dict.fromkeys(joined, joined))
    chains = {tuple(sorted(people)) for people in group.values()}
    order = sorted(chains, key=lambda chain: hashlib.sha256("_".join(chain).encode()).digest())
    part: dict[str, str] = {}
    done, total = 0, len(group)
    for chain in order:
        share = (done + len(chain) / 2) / total
        done += len(chain)
        part.update(dict.fromkeys(chain, "train" if share < 0.72 else "val" if share < 0.86 else "test"))
    return part | {f"{first}_{second}": part[first] for first, second in pairs}


def dfd(root: Path, *, compression: str | None = None) -> Listing:
    """DeepFakeDetection (Google and Jigsaw): 363 real videos of actors, over 3,000 fakes; no official split.

    Expects `original_sequences/actors/<c>/videos/01__scene.mp4` and
    `manipulated_sequences/DeepFakeDetection/<c>/videos/01_02__scene__XXXXXXXX.mp4`: actor 01 in that scene
    with the face of 02. Only the first is certain about numbers: the set's page says "over 3000" fakes.

    Args:
        root: The folder of FaceForensics++, which DFD comes with.
        compression: Which one; may be left out if only one is there.
    """
    originals = folder(root, "original_sequences/actors", what="the real videos of DFD", where=_WHERE)
    compression = _compression(originals, compression)
    dataset = f"dfd_{compression}"
    reals = {p.stem: p for p in _videos(originals / compression)}
    fakes = _videos(root / "manipulated_sequences" / "DeepFakeDetection" / compression)
    if not reals and not fakes:
        raise no_data(root, "DFD", f"{originals / compression}/videos/*.mp4", _WHERE)
    rows = []
    for stem, path in reals.items():
        who = re.match(r"(\d\d)__", stem)
        rows.append(
            ListRow(
                path, Label.REAL, dataset, f"original/{stem}", "real",
                identity=f"dfd/{who[1]}" if who else None,
            )
        )  # fmt: skip
    for path in fakes:
        who = re.match(r"(\d\d)_(\d\d)__(.+?)__[A-Z0-9]+$", path.stem)
        rows.append(
            ListRow(
                path, Label.FAKE, dataset, f"deepfakedetection/{path.stem}", "deepfakedetection",
                identity=f"dfd/{who[1]}" if who else None,
                donor=f"dfd/{who[2]}" if who else None,
                source=reals.get(f"{who[1]}__{who[3]}") if who else None,
            )
        )  # fmt: skip
    notes = ["no official split: `--split test` marks all rows as test, which is how DFD is commonly used"]
    return Listing("dfd", rows, [Count("real", len(reals), 363), Count("fake", len(fakes))], notes=notes)


def deeperforensics(root: Path, *, variant: str | None = None) -> Listing:
    """DeeperForensics-1.0: 11 sets of 1,000 manipulated videos, ten of them distorted or post-processed.

    Expects `manipulated_videos/<variant>/NNN_ACTOR.mp4` and `lists/splits/{train,val,test}.txt`, as the set's
    own page describes it. The variants are `end_to_end`, `reenact_postprocess`, `end_to_end_level_1` to `_5`,
    `end_to_end_random_level` and `end_to_end_mix_2_distortions` to `_4_`; each is a `method`. `source_videos`
    are recordings of the actors and *not* the real class: the reals are the FF++ videos NNN in c23, so
    prepare these with the layout `ff++`; the identities `ff++/NNN` are the same in both.

    Args:
        root: The folder that holds `manipulated_videos`.
        variant: One variant only.
    """
    where = "DeeperForensics-1.0 is given out on request: its authors' form; run their unzip.sh afterwards"
    place = folder(root, "manipulated_videos", what="the fakes", where=where)
    found = sorted(p for p in place.iterdir() if p.is_dir() and variant in (None, p.name))
    if not found:
        there = ", ".join(sorted(p.name for p in place.iterdir())) or "nothing"
        raise InputError(f"{place}: no variant {variant or ''}; there is {there}. {where}", reason="layout")
    part = {
        Path(line).stem: split
        for split in ("train", "val", "test")
        for line in read_text_list(root / "lists" / "splits" / f"{split}.txt", where)
    }
    rows, counts = [], []
    for folder_ in found:
        videos = media(folder_)
        counts.append(Count(folder_.name, len(videos), 1000))
        for path in videos:
            who = re.fullmatch(r"(\d{3})_([MW]\d+)", path.stem)
            rows.append(
                ListRow(
                    path, Label.FAKE, "deeperforensics-1.0", f"{folder_.name}/{path.stem}", folder_.name,
                    part.get(path.stem),
                    identity=f"ff++/{who[1]}" if who else None,
                    donor=f"deeperforensics-1.0/{who[2]}" if who else None,
                )
            )  # fmt: skip
    if not rows:
        raise no_data(root, "DeeperForensics-1.0", f"{found[0]}/*.mp4", where)
    notes = ["no real videos here: they are those of FaceForensics++ in c23 (layout ff++)"]
    without = [row.video for row in rows if row.split is None]
    if without:
        notes.append(f"{len(without):,} videos are in none of the lists, such as {without[0]}: no split")
    return Listing("deeperforensics-1.0", rows, counts, notes=notes)
