"""Making one face's colours and light those of another."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["match_colors"]

_FLOAT = np.float32


def match_colors(
    source: NDArray[np.uint8],
    target: NDArray[np.uint8],
    weight: NDArray[np.float32],
    *,
    strength: float = 1.0,
    light: float = 0.0,
    reach: float = 40.0,
) -> NDArray[np.uint8]:
    """Give a picture the colours that another has in the same place.

    Mean and spread of each channel of L*a*b* are matched where `weight` is (Reinhard et al., 2001); then, if
    wished, what is left of the difference in light after a wide blur, which moves shadows along.

    Args:
        source: What is recoloured.
        target: Whose colours are wanted, in the same pixels.
        weight: Where to measure.
        strength: Share of the mean's and spread's difference that is removed, 0 to 1.
        light: Share of the slow variation's difference that is removed, 0 to 1.
        reach: Standard deviation of the wide blur, pixels.

    Shape:
        source, target: (H, W, 3) uint8 RGB. weight: (H, W) in [0, 1]. Returns (H, W, 3) uint8.
    """
    height, width = weight.shape
    shrink = max(1, round(min(height, width) / 64))  # statistics need no more pixels than this
    size = max(1, width // shrink), max(1, height // shrink)
    small = [cv2.resize(p, size, interpolation=cv2.INTER_AREA) for p in (source, target)]
    mine, wanted = (cv2.cvtColor(p.astype(_FLOAT) / 255, cv2.COLOR_RGB2LAB) for p in small)
    where = cv2.resize(weight, size, interpolation=cv2.INTER_AREA)[..., None]
    total = float(where.sum())
    if total < 1e-3:
        return source
    mean, goal = ((p * where).sum((0, 1)) / total for p in (mine, wanted))
    spread, aim = (
        np.sqrt(((p - m) ** 2 * where).sum((0, 1)) / total) for p, m in ((mine, mean), (wanted, goal))
    )
    # A flat face would have its noise blown up by a contrasted one's spread.
    gain = 1 + strength * (np.clip(aim / np.maximum(spread, 0.5), 0.6, 1.6) - 1)
    shift = mean + strength * (goal - mean)
    lab = cv2.cvtColor(source.astype(_FLOAT) * _FLOAT(1 / 255), cv2.COLOR_RGB2LAB)
    lab = cv2.transform(lab, np.column_stack([np.diag(gain), shift - gain * mean]).astype(_FLOAT))
    if light > 0:
        matched = (mine - mean) * gain + shift
        sigma = max(reach / shrink, 0.5)
        soft = cv2.GaussianBlur(where, (0, 0), sigma)[..., None] + _FLOAT(1e-3)
        slow = cv2.GaussianBlur((wanted - matched) * where, (0, 0), sigma) / soft
        lab += cv2.resize((light * slow).astype(_FLOAT), (width, height), interpolation=cv2.INTER_LINEAR)
    rgb = cv2.cvtColor(lab, cv2.COLOR_LAB2RGB)
    return np.asarray(cv2.convertScaleAbs(np.maximum(rgb, 0), alpha=255), np.uint8)
