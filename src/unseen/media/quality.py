"""How good the picture of a face is: plain measures, the same for a stored crop and for an examined file.

They say nothing about forgery. A calibration keeps what they are for its real people (`evaluate.scope`),
so that a verdict can say when a picture is of another kind than anything its promise was made from.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass, fields

import cv2
import numpy as np
from numpy.typing import NDArray

from unseen.media.crop import sharpness

__all__ = ["MEASURES", "Quality", "blockiness", "flatness", "quality_of"]

FLAT_SIDE = 192  # pixels to which a face is brought before flat places are counted
FLAT = 1.0  # grey levels: a place whose neighbours differ less is flat


@dataclass(frozen=True, slots=True)
class Quality:
    """Measures of one face.

    Attributes:
        size: Longer side of the box round the landmarks, in pixels of the crop.
        sharpness: `unseen.media.crop.sharpness` of that box.
        blocks: `blockiness` of that box: how much stronger steps at every eighth pixel are.
        flat: `flatness` of that box: share of places without any texture, as in smoothed pictures.
        drawn: sharpness times flatness: hard edges beside empty areas, as in drawings. A camera gives noise
            with its edges.
    """

    size: float
    sharpness: float
    blocks: float
    flat: float
    drawn: float

    def values(self) -> tuple[float, ...]:
        """In the order of `MEASURES`."""
        return astuple(self)


MEASURES = tuple(item.name for item in fields(Quality))


def quality_of(crop: NDArray[np.uint8], landmarks: NDArray[np.floating]) -> Quality | None:
    """Measure a face in its crop; None without a landmark inside the crop.

    Shape:
        crop: (h, w, 3) uint8 RGB. landmarks: (81, 2) in the crop's pixels; missing ones are NaN.
    """
    height, width = crop.shape[:2]
    known = landmarks[np.isfinite(landmarks).all(1)]
    if not len(known):
        return None
    low, high = known.min(0), known.max(0)
    x0, y0 = (int(np.clip(np.floor(low[i]), 0, n - 1)) for i, n in ((0, width), (1, height)))
    x1, y1 = (int(np.clip(np.ceil(high[i]) + 1, s + 1, n)) for i, s, n in ((0, x0, width), (1, y0, height)))
    if min(x1 - x0, y1 - y0) < 16:  # nothing can be said of so few pixels but that they are few
        return Quality(float((high - low).max()), 0.0, 0.0, 0.0, 0.0)
    grey = np.asarray(cv2.cvtColor(np.ascontiguousarray(crop[y0:y1, x0:x1]), cv2.COLOR_RGB2GRAY), np.uint8)
    box = np.array([x0, y0, x1 - 1, y1 - 1], np.float32)
    sharp, flat = sharpness(crop, box), flatness(grey)
    return Quality(
        round(float((high - low).max()), 1),
        round(sharp, 1),
        round(blockiness(grey), 4),
        round(flat, 4),
        round(sharp * flat, 2),
    )


def blockiness(grey: NDArray[np.uint8]) -> float:
    """Return how much larger steps between pixels are on the strongest grid of eight than elsewhere.

    0.1 is ten per cent larger. Compression of low quality leaves such a grid; where it starts in a crop is
    not known, so each of the eight places is tried, for rows and columns apart.

    Shape:
        grey: (h, w) uint8, at least 16 each way.
    """
    found = []
    for axis in (0, 1):
        steps = np.abs(np.diff(grey.astype(np.float32), axis=axis)).mean(1 - axis)  # one a line
        steps = steps[: len(steps) // 8 * 8].reshape(-1, 8).mean(0)  # (8,) by place in the grid
        best = int(steps.argmax())
        rest = np.delete(steps, best).mean()
        found.append(float(steps[best] / max(rest, 1e-3) - 1))
    return min(found)  # a grid has both directions; an eyelid has one


def flatness(grey: NDArray[np.uint8]) -> float:
    """Return the share of places whose eight neighbours differ by less than about a grey level.

    Shape:
        grey: (h, w) uint8.
    """
    side = max(grey.shape)
    if side > FLAT_SIDE:
        scale = FLAT_SIDE / side
        size = (max(3, round(grey.shape[1] * scale)), max(3, round(grey.shape[0] * scale)))
        grey = np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), np.uint8)
    picture = grey.astype(np.float32)
    mean = cv2.blur(picture, (3, 3))
    spread = cv2.blur(picture * picture, (3, 3)) - mean * mean
    return float((spread < FLAT * FLAT).mean())
