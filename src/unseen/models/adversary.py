"""Two players: a discriminator of pairs, and the reversal by which features are made to deceive it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from unseen.models.precision import at_least_single

__all__ = ["GRID", "Discriminator", "derangement", "flat_map", "reverse_gradient"]

GRID = 7  # side of the map that flattened layers see: 224 pixels through a stride of 32


class _Reverse(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor, scale: float) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, float], output: Tensor) -> None:
        ctx.scale = inputs[1]

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None]:
        return -ctx.scale * slope, None


def reverse_gradient(x: Tensor, scale: float) -> Tensor:
    """Return `x` itself, whose gradient will come back multiplied by `-scale`."""
    result: Tensor = _Reverse.apply(x, scale)
    return result


def derangement(count: int, device: torch.device | str | None = None) -> Tensor:
    """Draw a permutation that leaves nothing in its place, from torch's global generator.

    One random cycle through all of them. A plain random permutation keeps one true pair a batch on average.

    Shape:
        (count,) int64; each other place is equally likely, 1 / (count - 1).
    """
    order = torch.randperm(count, device=device)
    partner = torch.empty_like(order)
    partner[order] = order.roll(1)
    return partner


def flat_map(map: Tensor) -> Tensor:
    """Bring a map to 7 x 7 places and flatten it.

    Shape:
        (B, C, h, w) -> (B, C * 49).
    """
    if map.shape[-2:] != (GRID, GRID):
        map = functional.adaptive_avg_pool2d(map, GRID)
    return map.flatten(1)


class Discriminator(nn.Module):
    """T: do these two halves belong to the same face? Three convolutions with ReLU, then one linear layer.

    Args:
        channels: C of each half; both are laid on top of each other.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(2 * channels, 256, 3, padding=1)
        self.rest = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(256, 128, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(128, 64, 3, padding=1),
            nn.ReLU(),
        )
        self.last = nn.Linear(64 * GRID**2, 1)

    def forward(self, forgery: Tensor, other: Tensor, partner: Tensor) -> tuple[Tensor, Tensor]:
        """Judge the pairs (forgery[i], other[i]) and (forgery[i], other[partner[i]]).

        The first layer holds nine tenths of the arithmetic and is linear: it sees each half once, and the
        sums are the convolutions of both kinds of pairs.

        Shape:
            forgery, other: (B, C, h, w). partner: (B,). Returns (B,) and (B,), logits.
        """
        left, right = self.first.weight.chunk(2, dim=1)  # (256, C, 3, 3) each
        seen = functional.conv2d(forgery, left, self.first.bias, padding=1)  # (B, 256, h, w)
        behind = functional.conv2d(other, right, padding=1)
        hidden = self.rest(torch.cat([seen + behind, seen + behind[partner]]))  # (2B, 64, h, w)
        logits = at_least_single(self.last(flat_map(hidden))[:, 0])
        joint, marginal = logits.chunk(2)
        return joint, marginal
