"""What DeepfakeBench calls things, and what we call them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath

from unseen.data.layouts.listing import celeb_people, ffpp_people
from unseen.data.names import method_name, set_name
from unseen.types import InputError, Label

__all__ = ["COMPRESSED", "Place", "label_of", "labels_for", "place_of", "slashes", "their_set", "who"]

# Top-level keys below which its JSON has one more level, the compression.
COMPRESSED = frozenset(
    ("FaceForensics++", "FF-DF", "FF-F2F", "FF-FS", "FF-NT", "FF-FH", "FaceShifter", "DeepFakeDetection")
)
# Our data set: its label of real, its labels of fakes by our method (None: of all).
_LABELS: dict[str, tuple[str, dict[str | None, str]]] = {
    "ff++": ("FF-real", {"deepfakes": "FF-DF", "face2face": "FF-F2F", "faceswap": "FF-FS",
                         "neuraltextures": "FF-NT", "faceshifter": "FF-FH"}),
    "faceshifter": ("FF-real", {None: "FF-FH"}),
    "dfd": ("DFD_real", {None: "DFD_fake"}),
    "celeb-df-v1": ("CelebDFv1_real", {None: "CelebDFv1_fake"}),
    "celeb-df-v2": ("CelebDFv2_real", {None: "CelebDFv2_fake"}),
    "dfdc": ("DFDC_Real", {None: "DFDC_Fake"}),
    "dfdc-preview": ("DFDCP_Real", {"method_A": "DFDCP_FakeA", "method_B": "DFDCP_FakeB"}),
    "deeperforensics-1.0": ("DF_real", {None: "DF_fake"}),
    "uadfv": ("UADFV_Real", {None: "UADFV_Fake"}),
}  # fmt: skip
_SETS = {
    "ff++": "FaceForensics++", "faceshifter": "FaceShifter", "dfd": "DeepFakeDetection",
    "celeb-df-v1": "Celeb-DF-v1", "celeb-df-v2": "Celeb-DF-v2", "dfdc": "DFDC", "dfdc-preview": "DFDCP",
    "deeperforensics-1.0": "DeeperForensics-1.0", "uadfv": "UADFV",
}  # fmt: skip


def slashes(path: str) -> str:
    r"""Return a path with slashes, whatever machine wrote it.

    Example:
        >>> slashes(r"FaceForensics++\original_sequences\youtube\c23\frames\000\000.png")
        'FaceForensics++/original_sequences/youtube/c23/frames/000/000.png'
    """
    return path.replace("\\", "/").removeprefix("./")


def label_of(name: str, where: str) -> Label:
    """Return what one of its label names stands for, such as `FF-DF` or `CelebDFv2_real`.

    Raises:
        InputError: The name says neither.
    """
    bare = name.lower()
    if re.search(r"real(?![a-z])", bare):
        return Label.REAL
    if re.search(r"fake", bare) or re.match(r"ff-(df|f2f|fs|nt|fh|sh)$", bare):
        return Label.FAKE
    raise InputError(
        f"{where}: label {name!r} says neither real nor fake; give --labels {name}=0 or {name}=1",
        reason="bad_label",
    )


@dataclass(frozen=True, slots=True)
class Place:
    """What the place of a crop tells, in our words."""

    dataset: str
    label: Label | None
    method: str | None
    video: str
    frame: int


_FOLDERS = {  # lower-case name of a folder above `frames`: our set, label, method, prefix of the video
    "youtube": ("ff++", Label.REAL, "real", "original"),
    "actors": ("dfd", Label.REAL, "real", "original"),
    "deepfakedetection": ("dfd", Label.FAKE, "deepfakedetection", "deepfakedetection"),
    **{
        m: ("ff++", Label.FAKE, m, m)
        for m in ("deepfakes", "face2face", "faceswap", "neuraltextures", "faceshifter")
    },
}


def place_of(path: str, root: str = "") -> Place:
    """Infer data set, label, method, video and frame from the place of a crop, without any JSON.

    The video's folder is the one that holds the picture, `frames` the one above it: any other folder called
    `frames` further up is just a name.

    Args:
        path: `.../GROUP/frames/VIDEO/NNN.png`, either slash.
        root: The folder that stands for the data set if no folder has the name of a public one.

    Raises:
        InputError: The path has another shape.

    Example:
        >>>
        place_of("x/frames/FaceForensics++/manipulated_sequences/Face2Face/c23/frames/000_003/012.png").video
        'face2face/000_003'
    """
    parts = PurePosixPath(slashes(path)).parts
    stem = PurePosixPath(parts[-1]).stem if parts else ""
    if len(parts) < 4 or parts[-3] != "frames" or not stem.isdigit():
        raise InputError(f"{path}: expected .../GROUP/frames/VIDEO/NNN.png", reason="layout")
    above, video = list(parts[:-3]), parts[-2]
    compression = above.pop() if above[-1] in ("raw", "c23", "c40") else None
    group = above[-1] if above else ""
    known = _FOLDERS.get(group.lower())
    if known and any(part in ("original_sequences", "manipulated_sequences") for part in above):
        dataset, label, method, prefix = known
        name = f"{dataset}_{compression}" if compression else dataset
        return Place(name, label, method, f"{prefix}/{video}", int(stem))
    named = [(at, ours) for at, part in enumerate(above) if (ours := set_name(part))]
    if named:
        at, dataset = named[-1]
    else:
        at = max(len(PurePosixPath(slashes(root)).parts) - 1, 0)
        dataset = above[at] if at < len(above) else group
    below = above[at + 1 :]
    words = [part.lower() for part in below]
    found: Label | None = None
    if any(re.search(r"(^|[-_ ])real$", w) or w in ("original_videos", "source_videos") for w in words):
        found = Label.REAL
    elif any(
        re.search(r"(^|[-_ ])(fake|synthesis)$", w) or w.startswith(("method_", "manipulated")) for w in words
    ):
        found = Label.FAKE
    forged: str | None = None if found is None else "real" if found is Label.REAL else below[-1]
    if found is Label.FAKE and words[-1] in ("fake", "celeb-synthesis"):
        forged = dataset
    return Place(dataset, found, forged, "/".join([*below, video]) if below else video, int(stem))


def who(dataset: str, video: str) -> tuple[str | None, str | None]:
    """Return identity and donor where the video's name tells them."""
    stem = video.rpartition("/")[2]
    if dataset.startswith(("ff++", "faceshifter")):
        return ffpp_people(stem)
    if dataset.startswith("celeb-df"):
        return celeb_people(stem)[:2]
    if dataset.startswith("dfd_") or dataset == "dfd":
        found = re.match(r"(\d\d)_(?:(\d\d)_)?_", stem)
        return (f"dfd/{found[1]}", f"dfd/{found[2]}" if found[2] else None) if found else (None, None)
    if dataset.startswith("deeperforensics"):
        found = re.fullmatch(r"(\d{3})_([MW]\d+)", stem)
        return (f"ff++/{found[1]}", f"{dataset}/{found[2]}") if found else (None, None)
    return None, None


def their_set(dataset: str) -> tuple[str, str | None]:
    """Return its name of a set, and the compression: `("FaceForensics++", "c23")` of `ff++_c23`."""
    bare, _, end = dataset.rpartition("_")
    if end in ("raw", "c23", "c40") and set_name(bare):
        return _SETS.get(set_name(bare) or "", bare), end
    ours = set_name(dataset) or dataset
    name = _SETS.get(ours, dataset)
    return name, "c23" if name in COMPRESSED else None


def labels_for(dataset: str, label: Label, method: str | None) -> str:
    """Return its label name; for sets that it does not know, `<set>_Real` and `<set>_Fake`."""
    real, fakes = _LABELS.get(set_name(dataset) or "", (f"{dataset}_Real", {None: f"{dataset}_Fake"}))
    if label is Label.REAL:
        return real
    return (
        fakes.get(method_name(method or "")) or fakes.get(method) or fakes.get(None) or f"{dataset}_{method}"
    )
