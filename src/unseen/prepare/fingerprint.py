"""What a crop's file tells without looking at the face: digest, perceptual hash, and traces of its codec."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from unseen.data.places import read_place
from unseen.types import InputError

__all__ = ["BITS", "Fingerprint", "file_statistics", "fingerprint", "near_pairs"]

BITS = 256
_BANDS = 16  # of 16 bits: two hashes that differ in fewer than 16 bits are equal in at least one band


@dataclass(frozen=True)
class Fingerprint:
    """One file.

    Shape:
        hash: (32,) uint8, 256 bits: in a 16 x 17 grey miniature, whether each pixel is brighter than the
            next.
        statistics: (18,) float64, see `file_statistics`.
    """

    digest: str
    kind: str
    size: tuple[int, int]
    hash: NDArray[np.uint8]
    statistics: NDArray[np.float64]


def fingerprint(path: str | PurePath) -> Fingerprint:
    """Read a file once, for all of it.

    Raises:
        InputError: It is missing (`missing`), or cannot be decoded whole (`unreadable`).
    """
    content = read_place(str(path))
    # A cut JPEG decodes, its rest is grey.
    cut = content[:2] == b"\xff\xd8" and b"\xff\xd9" not in content[-1024:]
    image = None
    if content and not cut:
        try:
            image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_GRAYSCALE)
        except cv2.error:
            image = None
    if image is None:
        said = "empty file" if not content else "cut short" if cut else "cannot be decoded"
        raise InputError(f"{path}: {said}", reason="unreadable")
    grey = np.asarray(image, np.uint8)
    small = cv2.resize(grey, (17, 16), interpolation=cv2.INTER_AREA).astype(np.int16)
    kind = (
        "jpeg"
        if content[:2] == b"\xff\xd8"
        else "png"
        if content[1:4] == b"PNG"
        else PurePath(path).suffix.lower()
    )
    return Fingerprint(
        hashlib.sha256(content).hexdigest(),
        kind,
        (grey.shape[0], grey.shape[1]),
        np.packbits(small[:, 1:] > small[:, :-1]),
        file_statistics(len(content), grey),
    )


def file_statistics(size: int, grey: NDArray[Any]) -> NDArray[np.float64]:
    """Return what a codec leaves: bytes, bytes a pixel, strength of edges at each place of JPEG's grid.

    Args:
        size: Of the file, bytes.
        grey: The picture.

    Shape:
        grey: (H, W), at least 16 x 16 for the last 16 numbers, which are 1 otherwise. Returns (18,).
    """
    grey = np.asarray(grey, np.float32)
    values = [float(size), size / grey.size]
    for edges in (np.abs(np.diff(grey, axis=1)).mean(0), np.abs(np.diff(grey, axis=0)).mean(1)):
        if len(edges) < 15:
            values += [1.0] * 8
            continue
        phases = edges[: len(edges) // 8 * 8].reshape(-1, 8).mean(0)
        values += (phases / max(float(phases.mean()), 1e-9)).tolist()
    return np.asarray(values, np.float64)


def near_pairs(
    hashes: NDArray[np.uint8], *, distance: int = 10, most: int = 64
) -> Iterator[tuple[int, int, int]]:
    """Yield pairs of hashes that differ in few bits, each once, in time that grows about linearly.

    Rows are sorted by each of 16 bands in turn; only those with an equal band are compared, so no pair below
    16 bits of difference is overlooked, except in crowds: within more than `most` rows of an equal band each
    is compared with the `most` that follow it.

    Args:
        hashes: From `fingerprint`.
        distance: Largest number of differing bits, below 16.
        most: See above.

    Shape:
        hashes: (N, 32) uint8. Yields (first row, second row, bits).
    """
    bands = hashes.copy().view(np.uint16)  # (N, 16)
    found: set[tuple[int, int]] = set()
    for band in range(_BANDS):
        order = np.argsort(bands[:, band], kind="stable")
        key = bands[order, band]
        for step in range(1, most + 1):
            same = np.flatnonzero(key[step:] == key[:-step])
            if not len(same):
                break
            first, second = order[same], order[same + step]
            bits = np.bitwise_count(hashes[first] ^ hashes[second]).sum(1)
            for i in np.flatnonzero(bits <= distance):
                pair = (int(min(first[i], second[i])), int(max(first[i], second[i])))
                if pair not in found:
                    found.add(pair)
                    yield (*pair, int(bits[i]))
