"""Sets of pictures and of unpacked frames: WildDeepfake, DF40, DFFD, ForgeryNet, FFIW, LFW, plain folders."""

from __future__ import annotations

import re
from pathlib import Path

from unseen.data.layouts.listing import (
    PICTURES,
    VIDEOS,
    Count,
    Listing,
    ListRow,
    celeb_people,
    ffpp_people,
    folder,
    frames_of,
    media,
    no_data,
    read_text_list,
)
from unseen.data.names import method_name
from unseen.types import InputError, Label

__all__ = ["df40", "dffd", "ffiw", "folders", "forgerynet_real", "lfw", "wilddeepfake"]

_SPLITS = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
_LABELS = {
    "real": Label.REAL, "0_real": Label.REAL, "original": Label.REAL,
    "fake": Label.FAKE, "1_fake": Label.FAKE, "manipulated": Label.FAKE,
}  # fmt: skip


def wilddeepfake(root: Path) -> Listing:
    """WildDeepfake: folders of face crops, `{real,fake}_{train,test}`, below them the unpacked archives.

    Each archive unpacks to folders of pictures, one a face sequence; how deep they lie differs between
    copies, so every folder that directly holds pictures is a video. Nothing is read inside archives: unpack
    them first. The crops are tight; `unseen prepare` finds the face in each again. Numbers: its paper counts
    7,314 sequences, we have not seen the set and expect none.

    Args:
        root: The folder that holds the four folders.
    """
    where = "WildDeepfake is given out on request by its authors (wild-deepfake), and unpacked with tar"
    rows: list[ListRow] = []
    counts = []
    packed = []
    for label in Label:
        for split in ("train", "test"):
            name = f"{label.name.lower()}_{split}"
            place = root / name
            if not place.is_dir():
                continue
            archives = [p for p in place.rglob("*") if p.name.endswith((".tar", ".tar.gz", ".tgz"))]
            packed += [p for p in archives if not p.with_name(p.name.split(".")[0]).is_dir()]
            sequences = list(frames_of(place))
            counts.append(Count(f"{name} sequences", len(sequences)))
            for folder_, frames in sequences:
                video = folder_.relative_to(root).as_posix()
                method = "real" if label is Label.REAL else "wild"
                rows += [
                    ListRow(path, label, "wilddeepfake", video, method, split, frame=number)
                    for number, path in frames
                ]
    if not rows:
        mend = f"; {len(packed)} archives are there, such as {packed[0]}: unpack them" if packed else ""
        raise no_data(root, "WildDeepfake", f"real_train, fake_train, real_test, fake_test{mend}", where)
    notes = [f"{len(packed)} archives are not unpacked, such as {packed[0]}"] if packed else []
    return Listing("wilddeepfake", rows, counts, [str(p) for p in packed], notes)


def df40(root: Path) -> Listing:
    """DF40: a folder a method, below it pictures in folders; as its test and training data are given out.

    Below a method `ff` or `cdf` says whose videos were forged, in `frames/VIDEO/NNN.png` or as pictures of
    their own; nine methods bring `real` and `fake` folders instead. The identities are those of
    FaceForensics++ and Celeb-DF where the names are theirs. A part called train or test is the split. Written
    from its page and from DeepfakeBench's conventions, not from the data: look at `--dry-run` before you
    trust it. The reals of the other methods are those of FF++ and Celeb-DF.

    Args:
        root: The folder that holds the methods' folders.
    """
    where = "DF40 is given out on request: its authors' form"
    rows: list[ListRow] = []
    for place, frames in frames_of(root):
        inside = place.relative_to(root).parts
        words = [part.lower() for part in inside]
        if not inside or {"landmarks", "masks"} & set(words):
            continue
        split = next((_SPLITS[w] for w in words if w in _SPLITS), None)
        kept = [p for p in inside if p.lower() not in _SPLITS and p.lower() not in ("frames", "df40")]
        if not kept:
            continue
        label = Label.REAL if "real" in words else Label.FAKE
        domain = next((w for w in words if w in ("ff", "cdf")), "")
        method = "real" if label is Label.REAL else kept[0].lower()
        sequence = "frames" in words and words[-1] != "frames"
        for number, path in frames:
            stem = inside[-1] if sequence else path.stem
            who = ffpp_people(stem) if domain == "ff" else celeb_people(stem)[:2]
            video = "/".join(kept if sequence else [*kept, path.stem])
            rows.append(
                ListRow(
                    path, label, "df40", video, method, split, *who,
                    frame=number if sequence else None,
                )
            )  # fmt: skip
    if not rows:
        raise no_data(root, "DF40", "METHOD/{ff,cdf}/frames/VIDEO/NNN.png or METHOD/{real,fake}/*", where)
    methods = sorted({row.method for row in rows} - {"real"})
    counts = [Count("methods", len(methods), 40), Count("pictures", len(rows))]
    return Listing("df40", rows, counts, notes=["methods found: " + ", ".join(methods)])


_DFFD_REAL = ("youtube", "ffhq", "celeba", "celeba_2w")
_DFFD_FAKE = {
    "deepfakes": "deepfakes", "faceswap": "faceswap", "face2face": "face2face", "faceapp": "faceapp",
    "stargan": "stargan", "pggan_v1": "pggan", "pggan_v2": "pggan", "stylegan_celeba": "stylegan",
    "stylegan_ffhq": "stylegan",
}  # fmt: skip


def dffd(root: Path) -> Listing:
    """DFFD: a folder a source, below it `train`, `validation` and `test` with pictures.

    Real: youtube, ffhq, celeba. Fake: Deepfakes, FaceSwap, Face2Face, faceapp, stargan, pggan_v1, pggan_v2,
    stylegan_celeba, stylegan_ffhq. The parts of FaceForensics++ are not given out with it. Folder names are
    those that public readers of the set use; any other folder is an error, never a guess. No counts are
    expected.

    Args:
        root: The folder that holds the sources.
    """
    where = "DFFD is given out on request by Michigan State University's computer vision lab"
    rows, counts = [], []
    for place in sorted(p for p in root.iterdir() if p.is_dir()) if root.is_dir() else []:
        name = place.name.lower()
        if name not in _DFFD_REAL and name not in _DFFD_FAKE:
            raise InputError(
                f"{place}: not a source of DFFD; move it away. Expected "
                f"{', '.join((*_DFFD_REAL, *_DFFD_FAKE))}",
                reason="layout",
            )
        label = Label.REAL if name in _DFFD_REAL else Label.FAKE
        pictures = media(place, PICTURES)
        counts.append(Count(place.name, len(pictures)))
        for path in pictures:
            words = [part.lower() for part in path.relative_to(place).parts]
            if any("mask" in word for word in words[:-1]):
                continue
            split = next((_SPLITS[w] for w in words[:-1] if w in _SPLITS), None)
            video = path.relative_to(root).with_suffix("").as_posix()
            rows.append(ListRow(path, label, "dffd", video, _DFFD_FAKE.get(name, "real"), split))
    if not rows:
        raise no_data(root, "DFFD", "faceapp/train/*.png, ffhq/train/*.png, ...", where)
    absent = [name for name in ("youtube", "deepfakes", "faceswap", "face2face") if name not in
              {count.what.lower() for count in counts}]  # fmt: skip
    notes = [f"{', '.join(absent)} not here: they come from FaceForensics++ (layout ff++)"] if absent else []
    return Listing("dffd", rows, counts, notes=notes)


def forgerynet_real(root: Path) -> Listing:
    """The real pictures of ForgeryNet, for training an inpainter of real faces (RFFR).

    Expects `Training/image_list.txt` and `Validation/image_list.txt`; each line a path below the split's
    folder (or its folder `image`) and one or more class numbers, of which 0 is real in each. Written from
    descriptions of the set, not from the data: a line that says real in one column and fake in another is an
    error. No counts are expected.

    Args:
        root: The folder that holds `Training` and `Validation`.
    """
    where = "ForgeryNet is given out by its authors (challenge page)"
    rows: list[ListRow] = []
    missing: list[str] = []
    counts = []
    for part, split in (("Training", "train"), ("Validation", "val")):
        if not (root / part).is_dir():
            continue
        listed = root / part / "image_list.txt"
        found = 0
        for number, line in enumerate(read_text_list(listed, where), 1):
            words = line.split()
            classes = words[1:]
            if not classes or not all(word.isdigit() for word in classes):
                raise InputError(
                    f"{listed} line {number}: {line[:80]!r}; expected a path and class numbers",
                    reason="layout",
                )
            if len({word == "0" for word in classes}) > 1:
                raise InputError(
                    f"{listed} line {number}: {line[:80]!r} is real (0) in one column and fake in another",
                    reason="bad_label",
                )
            if classes[0] != "0":
                continue
            places = [root / part / words[0], root / part / "image" / words[0]]
            path = next((p for p in places if p.is_file()), None)
            if path is None:
                missing.append(f"{part}/{words[0]}")
                continue
            found += 1
            video = Path(words[0]).with_suffix("").as_posix()
            rows.append(ListRow(path, Label.REAL, "forgerynet", f"{part}/{video}", "real", split))
        counts.append(Count(f"real in {split}", found))
    if not rows:
        raise no_data(root, "ForgeryNet", "Training/image_list.txt and the pictures that it names", where)
    return Listing("forgerynet", rows, counts, missing)


def ffiw(root: Path) -> Listing:
    """FFIW-10K: `source/SPLIT/` holds real videos, `target/SPLIT/` fakes, one or more faces forged in each.

    Expects `{source,target}/{train,val,test}/**/*.mp4` below the root, which may also be the folder of
    several releases. A fake whose name is a real one's of the same split has it as source. No counts are
    expected.

    Args:
        root: The folder that holds `source` and `target`, or folders that do.
    """
    where = "FFIW-10K is given out on request by its authors; the mask videos (target_mask) are not needed"
    reals: dict[tuple[str | None, str], Path] = {}
    rows: list[ListRow] = []
    for place, label in (("source", Label.REAL), ("target", Label.FAKE)):
        for path in media(root, VIDEOS):
            parts = [part.lower() for part in path.relative_to(root).parts[:-1]]
            if place not in parts:
                continue
            split = next((_SPLITS[part] for part in parts if part in _SPLITS), None)
            split = split or ("test" if any(part.endswith("-test") for part in parts) else None)
            key = (split, path.stem)
            if label is Label.REAL:
                reals[key] = path
            rows.append(
                ListRow(
                    path, label, "ffiw", f"{place}/{split or 'all'}/{path.stem}",
                    "real" if label is Label.REAL else "ffiw", split,
                    source=reals.get(key) if label is Label.FAKE else None,
                )
            )  # fmt: skip
    if not rows:
        raise no_data(root, "FFIW-10K", "source/train/*.mp4 and target/train/*.mp4", where)
    counts = [
        Count("real", sum(row.label is Label.REAL for row in rows)),
        Count("fake", sum(row.label is Label.FAKE for row in rows)),
    ]
    notes = [
        "several people a video, not all of them forged: prepare with `--people all` and look at the faces"
    ]
    return Listing("ffiw", rows, counts, notes=notes)


def lfw(root: Path) -> Listing:
    """Labeled Faces in the Wild: 13,233 real pictures of 5,749 people, `First_Last/First_Last_0001.jpg`.

    For identities only (how much of a person a detector's features hold); it has no fakes.

    Args:
        root: The folder of people.
    """
    where = (
        "LFW is a free download of the University of Massachusetts; unpack lfw.tgz or lfw-deepfunneled.tgz"
    )
    place = next((root / n for n in ("lfw", "lfw-deepfunneled", "lfw_funneled") if (root / n).is_dir()), root)
    rows = [
        ListRow(path, Label.REAL, "lfw", f"{path.parent.name}/{path.stem}", "real",
                identity=f"lfw/{path.parent.name}")
        for path in media(place, PICTURES)
        if re.fullmatch(re.escape(path.parent.name) + r"_\d{4}", path.stem)
    ]  # fmt: skip
    if not rows:
        raise no_data(root, "LFW", "First_Last/First_Last_0001.jpg", where)
    people = len({row.identity for row in rows})
    return Listing("lfw", rows, [Count("pictures", len(rows), 13233), Count("people", people, 5749)])


def folders(root: Path) -> Listing:
    """Your own data in plain folders: the words in a path say what a file is.

    One part of the path must be `real` or `fake` (or `0_real`, `1_fake`, `original`, `manipulated`). A part
    called train, val or test is the split. A folder directly below `fake` is the method. The data set has the
    root's name.

    Args:
        root: Any folder.

    Raises:
        InputError: A file's path says neither real nor fake, or both.
    """
    if not root.is_dir():
        folder(root.parent, root.name, what="your data", where="give the folder above real and fake")
    rows = []
    for path in media(root, PICTURES | VIDEOS):
        parts = path.relative_to(root).parts[:-1]
        told = {_LABELS[part.lower()] for part in parts if part.lower() in _LABELS}
        if len(told) != 1:
            raise InputError(
                f"{path}: its folders say {'both real and fake' if told else 'neither real nor fake'}; "
                f"expected one of {', '.join(_LABELS)} in the path below {root}, or give a .csv list instead",
                reason="layout",
            )
        (label,) = told
        split = next((_SPLITS[part.lower()] for part in parts if part.lower() in _SPLITS), None)
        at = next(i for i, part in enumerate(parts) if part.lower() in _LABELS)
        below = [part for part in parts[at + 1 :] if part.lower() not in _SPLITS]
        method = "real" if label is Label.REAL else method_name(below[0]) if below else "fake"
        video = path.relative_to(root).with_suffix("").as_posix()
        rows.append(ListRow(path, label, root.resolve().name, video, method, split))
    if not rows:
        raise no_data(root, "pictures or videos", "real/* and fake/*", "Any folder of yours will do")
    counts = [
        Count("real", sum(row.label is Label.REAL for row in rows)),
        Count("fake", sum(row.label is Label.FAKE for row in rows)),
    ]
    return Listing("folders", rows, counts)
