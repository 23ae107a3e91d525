"""Whether a heat map can be trusted: does erasing what is hot change the score, is what is hot forged?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from unseen.explain.gradcam import resting
from unseen.types import Explanation, InputError

if TYPE_CHECKING:
    from torch import Tensor

    from unseen.models.detector import Detector

__all__ = ["Trust", "deletion", "heat_iou", "insertion", "peak_inside", "trust_of"]


@dataclass(frozen=True)
class Trust:
    """What one heat map, or list of boxes, of one face is worth; None where it cannot be said.

    Args:
        inside: The hottest place, or the middle of the most certain box, is forged (the pointing game).
        iou: Intersection over union of the hottest pixels, as many as are forged, with the forged ones; of a
            box with the box around them.
        deletion: Mean probability of fake while the hottest pixels are erased first; low is good.
        deletion_random: The same in a random order, to compare with.
        insertion: Mean probability of fake while the hottest pixels are shown first; high is good.
        insertion_random: The same in a random order.
    """

    inside: bool | None = None
    iou: float | None = None
    deletion: float | None = None
    deletion_random: float | None = None
    insertion: float | None = None
    insertion_random: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """What is known, for JSON."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def trust_of(
    detector: Detector,
    image: Tensor,
    found: Sequence[Explanation],
    mask: NDArray[Any] | None,
    *,
    steps: int = 0,
    seed: int = 0,
) -> Trust:
    """Measure the evidence of one kind about one face, by its first heat map or else its boxes.

    Args:
        detector: What gave it.
        image: Its input.
        found: The evidence.
        mask: What is forged, in the input's pixels; None leaves out what needs it, as a mask without a
            forged pixel does.
        steps: Of deletion and insertion; 0 leaves them out.
        seed: Of the random order.

    Shape:
        image: (3, H, W). mask: (H, W) in [0, 1].
    """
    heat = next((one.heatmap for one in found if one.heatmap is not None), None)
    forged = None if mask is None or not (np.asarray(mask) > 0.5).any() else np.asarray(mask) > 0.5
    if heat is None:
        boxes = next((one.boxes for one in found if one.boxes is not None), None)
        if boxes is None or forged is None:
            return Trust()
        return Trust(*_box_trust(boxes, forged))
    inside = iou = None
    if forged is not None:
        inside, iou = peak_inside(heat, forged), heat_iou(heat, forged)
    if not steps:
        return Trust(inside, iou)
    rng = np.random.default_rng(seed)
    control = rng.permutation(heat.size).reshape(heat.shape).astype(np.float32) / heat.size
    curves = [
        way(detector, image, map, steps=steps) for way in (deletion, insertion) for map in (heat, control)
    ]
    return Trust(inside, iou, *(round(float(curve.mean()), 5) for curve in curves))


def peak_inside(heat: NDArray[Any], forged: NDArray[np.bool_]) -> bool:
    """Return whether the hottest pixel is forged: the pointing game. A map of zeros points nowhere.

    Shape:
        heat: (h, w), brought to the mask's size. forged: (H, W).

    Source:
        Zhang et al., Top-down Neural Attention by Excitation Backprop, 2016.
    """
    large = _fit(heat, forged.shape)
    return bool(large.max() > 0 and forged[np.unravel_index(int(large.argmax()), large.shape)])


def heat_iou(heat: NDArray[Any], forged: NDArray[np.bool_]) -> float:
    """Return intersection over union of the forged pixels with as many of the hottest ones.

    A map that is positive on fewer pixels counts with those. A fixed threshold would measure how wide a map
    is as much as where it lies.

    Shape:
        heat: (h, w), brought to the mask's size. forged: (H, W).
    """
    large = _fit(heat, forged.shape)
    order = np.argsort(-large, axis=None, kind="stable")[: int(forged.sum())]
    hot = np.zeros(forged.size, bool)
    hot[order] = True
    hot &= large.ravel() > 0
    either = int((hot | forged.ravel()).sum())
    return float((hot & forged.ravel()).sum() / either) if either else float("nan")


def deletion(
    detector: Detector, image: Tensor, heat: NDArray[Any], *, steps: int = 20
) -> NDArray[np.float64]:
    """Return the probability of fake with more and more of the hottest pixels replaced by a blurred face.

    Shape:
        image: (3, H, W) float in [0, 1]. heat: (h, w). Result: (steps + 1,), from nothing to all.

    Source:
        Petsiuk et al., RISE, 2018; blurred instead of grey, which by itself looks forged.
    """
    return _curve(detector, image, heat, steps, "deletion")


def insertion(
    detector: Detector, image: Tensor, heat: NDArray[Any], *, steps: int = 20
) -> NDArray[np.float64]:
    """Return the probability of fake of a blurred face with more and more of the hottest pixels sharp.

    Shape:
        image: (3, H, W) float in [0, 1]. heat: (h, w). Result: (steps + 1,), from nothing to all.

    Source:
        Petsiuk et al., RISE, 2018.
    """
    return _curve(detector, image, heat, steps, "insertion")


def _curve(
    detector: Detector,
    image: Tensor,
    heat: NDArray[Any],
    steps: int,
    way: Literal["deletion", "insertion"],
) -> NDArray[np.float64]:
    import torch

    if steps < 1:
        raise InputError(f"{way}: {steps} steps; expected one at least")
    height, width = image.shape[1:]
    sharp = image.detach().float().cpu().permute(1, 2, 0).numpy()
    blurred = cv2.GaussianBlur(sharp, (0, 0), max(height, width) / 12, borderType=cv2.BORDER_REFLECT)
    order = np.argsort(-_fit(heat, (height, width)), axis=None, kind="stable")
    start, end = (sharp, blurred) if way == "deletion" else (blurred, sharp)
    pictures = np.repeat(start.reshape(1, -1, 3), steps + 1, 0)
    for step in range(1, steps + 1):
        changed = order[: round(step / steps * len(order))]
        pictures[step, changed] = end.reshape(-1, 3)[changed]
    batch = torch.from_numpy(pictures.reshape(steps + 1, height, width, 3)).permute(0, 3, 1, 2)
    with resting(detector), torch.inference_mode():
        score = detector(batch.contiguous().to(image.device)).score.double()
    return np.asarray(score.sigmoid().cpu().numpy())


def _fit(heat: NDArray[Any], size: tuple[int, ...]) -> NDArray[np.float32]:
    heat = np.asarray(heat, np.float32)
    if heat.shape == tuple(size):
        return heat
    return np.asarray(cv2.resize(heat, (size[1], size[0]), interpolation=cv2.INTER_LINEAR), np.float32)


def _box_trust(boxes: NDArray[Any], forged: NDArray[np.bool_]) -> tuple[bool, float]:
    """Return both numbers for the most certain box, which is the first."""
    if not len(boxes):
        return False, 0.0
    from unseen.evaluate.boxes import overlaps

    x0, y0, x1, y1 = (float(value) for value in boxes[0])
    rows, columns = np.flatnonzero(forged.any(1)), np.flatnonzero(forged.any(0))
    around = np.array([[columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]], np.float64)
    y = min(max(int((y0 + y1) / 2), 0), forged.shape[0] - 1)
    x = min(max(int((x0 + x1) / 2), 0), forged.shape[1] - 1)
    return bool(forged[y, x]), float(overlaps(boxes[:1], around)[0, 0])
