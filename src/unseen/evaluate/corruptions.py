"""What happens to pictures on their way: corruptions at five levels, the same for the same row.

| name | what | its parameter at levels 1 to 5 | from |
|---|---|---|---|
| `saturation` | chroma times a factor | 0.4, 0.3, 0.2, 0.1, 0 | DeeperForensics-1.0 |
| `contrast` | values times a factor, darker | 0.85, 0.725, 0.6, 0.475, 0.35 | DeeperForensics-1.0 |
| `block` | grey squares of 8 pixels, so many on 256 | 16, 32, 48, 64, 80 | DeeperForensics-1.0 |
| `noise` | Gaussian, in YCbCr; its variance | 0.001, 0.002, 0.005, 0.01, 0.05 | DeeperForensics-1.0 |
| `blur` | Gaussian, so many pixels wide, sigma a sixth | 7, 9, 13, 17, 21 | DeeperForensics-1.0 |
| `pixelation` | made so many times smaller, and back | 2, 3, 4, 5, 6 | DeeperForensics-1.0 |
| `jpeg`, `webp` | quality | 80, 60, 45, 30, 15 | ours |
| `h264` | constant rate factor | 30, 32, 35, 38, 40 | DeeperForensics-1.0 |
| `h265` | constant rate factor | 32, 35, 38, 41, 44 | ours |
| `resize` | made smaller by area, and back | 0.8, 0.65, 0.5, 0.35, 0.25 | ours |
| `reshare` | resized, H.264, JPEG: a messenger's way | see `LEVELS` | ours |
| `screenshot` | shown at another size, edges covered, JPEG | see `LEVELS` | ours |

The first six are those of CADDM's Table 4, which took them from LipForensics (Haliassos et al., CVPR 2021),
and those from DeeperForensics-1.0 (Jiang et al., CVPR 2020), whose public parameters these are. Ours differ
in two points: squares are counted by `round(n * side / 256)`, at least one, where theirs round the side down
to a multiple of 256 and so leave every smaller picture as it is; values are clipped where theirs wrap around.

Crops are corrupted as they lie on disk, in the frame's own pixels, before they are aligned; a corrupted crop
has the size and the landmarks of the clean one. A single crop passes H.264 and H.265 as *one key frame*:
prediction between frames is not there. `clips.corrupt_clip` compresses whole clips, to be prepared anew.

Example:
    >>> grey = np.full((64, 64, 3), 200, np.uint8)
    >>> int(corrupt(grey, "contrast", 3, np.random.default_rng(0))[0, 0, 0])
    120
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from unseen.data.changes import jpeg
from unseen.data.transforms import Transform
from unseen.evaluate.codecs import key_frame
from unseen.types import FaceRecord, FaceSample, InputError

__all__ = ["LEVELS", "NAMES", "SIX", "Corrupt", "check_corruption", "corrupt", "generator"]

_Image = NDArray[np.uint8]

SIX = ("saturation", "contrast", "block", "noise", "blur", "pixelation")
LEVELS: dict[str, tuple[Any, ...]] = {
    "saturation": (0.4, 0.3, 0.2, 0.1, 0.0),
    "contrast": (0.85, 0.725, 0.6, 0.475, 0.35),
    "block": (16, 32, 48, 64, 80),
    "noise": (0.001, 0.002, 0.005, 0.01, 0.05),
    "blur": (7, 9, 13, 17, 21),
    "pixelation": (2, 3, 4, 5, 6),
    "jpeg": (80, 60, 45, 30, 15),
    "webp": (80, 60, 45, 30, 15),
    "h264": (30, 32, 35, 38, 40),
    "h265": (32, 35, 38, 41, 44),
    "resize": (0.8, 0.65, 0.5, 0.35, 0.25),
    # size as a share, constant rate factor of H.264, JPEG quality
    "reshare": ((0.8, 26, 80), (0.65, 28, 70), (0.5, 30, 60), (0.4, 33, 50), (0.3, 36, 40)),
    # size on the screen as a share, share of each side that is covered, JPEG quality
    "screenshot": ((0.95, 0.01, 95), (0.85, 0.02, 90), (0.7, 0.03, 85), (0.55, 0.04, 75), (0.4, 0.05, 60)),
}
NAMES = tuple(LEVELS)
BLOCK = 8
# From noise in Y, Cr, Cb of the range that television uses, 219 and 224 of 255 values, to R, G, B.
_TO_RGB = np.array([[1, 1, 1], [1.403, -0.714, 0], [0, -0.344, 1.773]], np.float32)
_NOISE = np.array([255 * 255 / 219, 255 * 255 / 224, 255 * 255 / 224], np.float32)[:, None] * _TO_RGB


def check_corruption(name: str, level: int) -> None:
    """Refuse what is not in `LEVELS`.

    Raises:
        InputError: An unknown corruption or a level other than 1 to 5.
    """
    if name not in LEVELS:
        raise InputError(
            f"no corruption {name!r}; there are {', '.join(NAMES)}, and `six` for CADDM's",
            reason="corruption",
        )
    if level not in range(1, 6):
        raise InputError(f"{name}: level {level}; expected 1 (mild) to 5 (severe)", reason="corruption")


def generator(record: FaceRecord, name: str, level: int, seed: int = 0) -> np.random.Generator:
    """Return the generator of one row's corruption, whatever the other rows and their order are."""
    file = record.path.replace("\\", "/").rpartition("/")[2]
    row = f"{record.dataset}\0{record.video}\0{record.method}\0{record.frame}\0{file}"
    return np.random.default_rng([seed, level, zlib.crc32(name.encode()), zlib.crc32(row.encode())])


def corrupt(image: _Image, name: str, level: int, rng: np.random.Generator) -> _Image:
    """Return a corrupted copy.

    Shape:
        image: (H, W, 3) uint8 RGB, and so is the result.

    Raises:
        InputError: An unknown corruption or level, or a codec that PyAV was built without.
    """
    check_corruption(name, level)
    return _WAYS[name](image, LEVELS[name][level - 1], rng)


class Corrupt(Transform):
    """Corrupt every picture; goes before alignment, and belongs to evaluation.

    Args:
        name: In `NAMES`.
        level: 1 to 5.
        seed: With the row's name and the level it decides what is drawn; the generator handed in does not.
    """

    augment = False

    def __init__(self, name: str, level: int, *, seed: int = 0) -> None:
        check_corruption(name, level)
        self.name, self.level, self.seed = name, level, seed

    def __call__(self, sample: FaceSample, rng: np.random.Generator) -> FaceSample:
        """Return the sample with a corrupted picture."""
        own = generator(sample.record, self.name, self.level, self.seed)
        return replace(sample, image=corrupt(sample.image, self.name, self.level, own))


def _bytes(image: NDArray[Any]) -> _Image:
    return np.asarray(np.clip(np.rint(image), 0, 255), np.uint8)


def _scaled(image: _Image, share: float, way: int) -> _Image:
    height, width = image.shape[:2]
    size = max(1, round(width * share)), max(1, round(height * share))
    return np.asarray(cv2.resize(image, size, interpolation=way), np.uint8)


def _back(image: _Image, like: _Image, way: int) -> _Image:
    return np.asarray(cv2.resize(image, (like.shape[1], like.shape[0]), interpolation=way), np.uint8)


def _saturation(image: _Image, factor: float, rng: np.random.Generator) -> _Image:
    # Chroma is linear in the distance from grey: scaling Cr and Cb scales R - Y, G - Y and B - Y alike.
    grey = cv2.cvtColor(image.astype(np.float32), cv2.COLOR_RGB2GRAY)[..., None]
    return _bytes(grey + np.float32(factor) * (image - grey))


def _contrast(image: _Image, factor: float, rng: np.random.Generator) -> _Image:
    return _bytes(image.astype(np.float32) * np.float32(factor))


def _block(image: _Image, count: int, rng: np.random.Generator) -> _Image:
    image = image.copy()
    height, width = image.shape[:2]
    for _ in range(max(1, round(count * min(height, width) / 256))):
        y, x = (int(rng.integers(max(1, side - BLOCK))) for side in (height, width))
        image[y : y + BLOCK, x : x + BLOCK] = 128
    return image


def _noise(image: _Image, variance: float, rng: np.random.Generator) -> _Image:
    grain = rng.standard_normal(image.shape, np.float32) @ (np.float32(variance**0.5) * _NOISE)
    return _bytes(image + grain)


def _blur(image: _Image, side: int, rng: np.random.Generator) -> _Image:
    return np.asarray(cv2.GaussianBlur(image, (side, side), side / 6), np.uint8)


def _pixelation(image: _Image, times: int, rng: np.random.Generator) -> _Image:
    size = max(1, image.shape[1] // times), max(1, image.shape[0] // times)
    small = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_LINEAR), np.uint8)
    return _back(small, image, cv2.INTER_LINEAR)


def _jpeg(image: _Image, quality: int, rng: np.random.Generator) -> _Image:
    return jpeg(image, quality)


def _webp(image: _Image, quality: int, rng: np.random.Generator) -> _Image:
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    _, data = cv2.imencode(".webp", bgr, [cv2.IMWRITE_WEBP_QUALITY, quality])
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR_RGB), np.uint8)


def _h264(image: _Image, crf: int, rng: np.random.Generator) -> _Image:
    return key_frame(image, "h264", crf)


def _h265(image: _Image, crf: int, rng: np.random.Generator) -> _Image:
    return key_frame(image, "h265", crf)


def _resize(image: _Image, share: float, rng: np.random.Generator) -> _Image:
    return _back(_scaled(image, share, cv2.INTER_AREA), image, cv2.INTER_CUBIC)


def _reshare(image: _Image, chain: tuple[float, int, int], rng: np.random.Generator) -> _Image:
    share, crf, quality = chain
    small = key_frame(_scaled(image, share, cv2.INTER_AREA), "h264", crf)
    return _back(jpeg(small, quality), image, cv2.INTER_CUBIC)


def _screenshot(image: _Image, shown: tuple[float, float, int], rng: np.random.Generator) -> _Image:
    share, cover, quality = shown
    height, width = image.shape[:2]
    # On the screen pixels fall between those of the file.
    shift = rng.random(2)
    there = np.array([[share, 0, shift[0]], [0, share, shift[1]]], np.float64)
    size = max(1, int(width * share) + 1), max(1, int(height * share) + 1)
    screen = cv2.warpAffine(image, there, size, flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REPLICATE)
    edge = max(1, round(cover * min(size)))
    screen[:edge] = screen[-edge:] = screen[:, :edge] = screen[:, -edge:] = 24  # a dark window's frame
    saved = jpeg(np.asarray(screen, np.uint8), quality)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(
        cv2.warpAffine(saved, there, (width, height), flags=flags, borderMode=cv2.BORDER_REPLICATE), np.uint8
    )


_WAYS: dict[str, Callable[[_Image, Any, np.random.Generator], _Image]] = {
    "saturation": _saturation,
    "contrast": _contrast,
    "block": _block,
    "noise": _noise,
    "blur": _blur,
    "pixelation": _pixelation,
    "jpeg": _jpeg,
    "webp": _webp,
    "h264": _h264,
    "h265": _h265,
    "resize": _resize,
    "reshare": _reshare,
    "screenshot": _screenshot,
}
