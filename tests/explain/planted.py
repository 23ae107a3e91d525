"""Made-up faces with an artifact at a known place, people who differ in colour, a net that learns them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from unseen.models.backbone import Backbone
from unseen.types import Features

__all__ = ["PATCH", "Small", "checkered", "smooth"]

PATCH = 16  # pixels a side of a planted artifact


class Small(Backbone):
    """Three layers, a map an eighth of the picture; learns a planted patch in seconds."""

    def __init__(self, side: int = 56) -> None:
        super().__init__(24, 24, side, mean=(0.5,) * 3, std=(0.25,) * 3)
        layers = [nn.Conv2d(3, 12, 3, 2, 1), nn.Conv2d(12, 24, 3, 2, 1), nn.Conv2d(24, 24, 3, 2, 1)]
        self.net = nn.Sequential(*(step for layer in layers for step in (layer, nn.ReLU())))

    def forward(self, image: Tensor) -> Features:
        map = self.net(self.normalize(image))
        return Features(map, map.mean((2, 3)))


def smooth(look: np.ndarray, side: int, rng: np.random.Generator) -> np.ndarray:
    """Pictures from coarse colours (N, 3, k, k), with a little noise and light; (N, 3, side, side)."""
    grown = nn.functional.interpolate(torch.from_numpy(look), size=(side, side), mode="bicubic").numpy()
    return grown + rng.normal(0, 0.01, grown.shape) + rng.normal(0, 0.03, (len(look), 3, 1, 1))


def checkered(
    picture: np.ndarray,
    label: np.ndarray,
    rng: np.random.Generator,
    size: int = PATCH,
    contrast: tuple[float, float] = (0.2, 0.3),
) -> tuple[Tensor, np.ndarray]:
    """Plant a checkered patch somewhere in each fake; return pictures and boxes (N, 4), zero for reals."""
    picture, boxes = picture.copy(), np.zeros((len(label), 4), np.float32)
    checks = np.where(np.add.outer(np.arange(size), np.arange(size)) // 2 % 2 == 0, 1.0, -1.0)
    for row in np.flatnonzero(label):
        top, left = rng.integers(0, picture.shape[2] - size, 2)
        picture[row, :, top : top + size, left : left + size] += checks * rng.uniform(*contrast)
        boxes[row] = (left, top, left + size, top + size)
    return torch.from_numpy(picture.clip(0, 1)).float(), boxes
