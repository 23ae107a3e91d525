"""Maps of a network's own making, brought to pictures of its input's size."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["stretched"]

FLAT = 1e-3  # attention that varies by less says nothing about places, and must not be made to look as if


def stretched(maps: Tensor, side: int) -> list[NDArray[np.float32]]:
    """Bring each map from its own least and largest value to 0 and 1, and to the input's size.

    Args:
        maps: Attention, in [0, 1]; one that varies by less than a thousandth becomes all zero.
        side: Of the square result, in pixels.

    Shape:
        maps: (B, h, w), any float dtype, on any device. Result: B arrays (side, side) float32.
    """
    import torch
    from torch.nn import functional

    maps = maps.detach().float()[:, None]
    large = functional.interpolate(maps, size=(side, side), mode="bilinear", align_corners=False)[:, 0]
    low, high = large.amin((1, 2), keepdim=True), large.amax((1, 2), keepdim=True)
    even = torch.where(
        high - low < FLAT, torch.zeros_like(large), (large - low) / (high - low).clamp_min(FLAT)
    )
    return list(even.cpu().numpy())
