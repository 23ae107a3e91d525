"""Attention as a mask: how much of each channel, at each place, goes on."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["ChannelSpatialMask", "FullMask"]


def _narrow(channels: int, reduction: int) -> int:
    """Width of the middle layers; networks of few channels keep at least eight."""
    return max(8, channels // reduction)


def _undecided(layer: nn.Conv2d | nn.Linear) -> nn.Conv2d | nn.Linear:
    """Start a last layer so small that the mask is about one half everywhere."""
    nn.init.normal_(layer.weight, std=0.01)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


class FullMask(nn.Module):
    """A value in (0, 1) for each channel at each place, from its surroundings. No batch norm.

    Args:
        channels: C.
        reduction: The layers between have C / reduction channels.

    Shape:
        (B, C, h, w) -> (B, C, h, w).
    """

    def __init__(self, channels: int, *, reduction: int = 16) -> None:
        super().__init__()
        narrow = _narrow(channels, reduction)
        self.layers = nn.Sequential(
            nn.Conv2d(channels, narrow, 1),
            nn.ReLU(),
            nn.Conv2d(narrow, narrow, 3, padding=1),
            nn.ReLU(),
            _undecided(nn.Conv2d(narrow, channels, 1)),
        )

    def forward(self, map: Tensor) -> Tensor:
        """Return the mask."""
        logits: Tensor = self.layers(map)
        return logits.sigmoid()


class ChannelSpatialMask(nn.Module):
    """The sigmoid of a logit for each channel plus a logit for each place.

    The two branches are those of Woo et al., *CBAM*, ECCV 2018; there they are applied one after the other.

    Args:
        channels: C.
        reduction: The channel branch has C / reduction channels in the middle.

    Shape:
        (B, C, h, w) -> (B, C, h, w).
    """

    def __init__(self, channels: int, *, reduction: int = 16) -> None:
        super().__init__()
        narrow = _narrow(channels, reduction)
        self.channel = nn.Sequential(
            nn.Linear(channels, narrow), nn.ReLU(), _undecided(nn.Linear(narrow, channels))
        )
        self.place = _undecided(nn.Conv2d(2, 1, 7, padding=3))

    def forward(self, map: Tensor) -> Tensor:
        """Return the mask."""
        channel = self.channel(map.mean((2, 3))) + self.channel(map.amax((2, 3)))  # (B, C)
        place = self.place(torch.stack([map.mean(1), map.amax(1)], dim=1))  # (B, 1, h, w)
        mask: Tensor = (channel[:, :, None, None] + place).sigmoid()
        return mask
