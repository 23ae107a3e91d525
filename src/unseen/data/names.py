"""What public data sets and forgery methods are called, whatever a manifest or a paper spells them like.

The first name of each line is ours: manifests and protocols use it. Case, spaces and punctuation do not
matter, `+` reads as `p`, and a compression at the end (`_c23`, `raw`) is no part of a data set's name.
"""

from __future__ import annotations

import difflib
import re

__all__ = ["METHODS", "SETS", "method_name", "near_set", "set_name"]

SETS: dict[str, tuple[str, ...]] = {
    "ff++": ("FaceForensics++", "FaceForensics", "FF", "FFPP"),
    "faceshifter": (),
    "dfd": ("DeepFakeDetection", "Google DFD"),
    "celeb-df-v1": ("CelebDFv1", "CDFv1", "CDF1"),
    "celeb-df-v2": ("Celeb-DF", "CDF", "CDFv2", "CDF2"),
    "dfdc": ("DeepFake Detection Challenge", "DFDC-V2"),
    "dfdc-preview": ("DFDCp",),
    "uadfv": (),
    "deeperforensics-1.0": ("DeeperForensics", "DF-1.0", "DF1.0"),
    "dffd": (),
    "forgerynet": (),
    "lfw": ("Labeled Faces in the Wild",),
    "wilddeepfake": ("WDF",),
    "ffiw": ("FFIW10K",),
    "df40": (),
}
METHODS: dict[str, tuple[str, ...]] = {
    "deepfakes": ("DF", "FF-DF", "deepfake"),
    "face2face": ("F2F", "FF-F2F"),
    "faceswap": ("FS", "FSW", "FF-FS"),
    "neuraltextures": ("NT", "FF-NT"),
    "faceshifter": ("FSh", "FF-FH", "FF-FSh"),
    "end_to_end_mix_3_distortions": ("mix-3", "mix3 distortions"),
}
_COMPRESSION = re.compile(r"(c0|c23|c40|raw|hq|lq)$")


def _bare(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower().replace("+", "p"))


_SETS = {_bare(spelling): ours for ours, others in SETS.items() for spelling in (ours, *others)}
_METHODS = {_bare(spelling): ours for ours, others in METHODS.items() for spelling in (ours, *others)}


def set_name(name: str) -> str | None:
    """Return our name of a data set, or None if it is not one of the public ones.

    Example:
        >>> set_name("FaceForensics++_c23"), set_name("CDFv2"), set_name("my faces")
        ('ff++', 'celeb-df-v2', None)
    """
    bare = _bare(name)
    return _SETS.get(bare) or _SETS.get(_COMPRESSION.sub("", bare))


def method_name(name: str) -> str:
    """Return our name of a forgery method, or the name itself if it is none of the known ones.

    Example:
        >>> method_name("F2F"), method_name("my swap")
        ('face2face', 'my swap')
    """
    return _METHODS.get(_bare(name), name)


def near_set(name: str) -> list[str]:
    """Return our names of the data sets that are spelt most like a name, the nearest first."""
    near = difflib.get_close_matches(_bare(name), list(_SETS), 3, 0.5)
    return list(dict.fromkeys(_SETS[spelling] for spelling in near))
