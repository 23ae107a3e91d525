"""Whole-face re-synthesis: the face goes through a narrow network and comes back with its marks.

The face stays who it is, as in editing and restoration by generative networks; what betrays it is smoothness
and the periodic grid that enlarging inside a generator leaves. Our own small network has unlearned most of
its grid, so a share of the spectrum's replica, which larger generators are known to leave (Zhang et al.,
"Detecting and simulating artifacts in GAN fake images", WIFS 2019), is put back.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from unseen.forge.family import Forged, Portrait, check_portrait, draw, eye_distance
from unseen.forge.patch import cut_patch, paste_patch, patch_matrix, read_weights
from unseen.forge.shape import outline
from unseen.forge.warp import face_window, soft_inside

if TYPE_CHECKING:
    from unseen.forge.networks import Bottleneck

__all__ = ["Restore", "leave_replica", "remake"]

MIDDLE, REACH = (0.0, 0.5), 3.0  # eye distances: what the network sees of a head


class Restore:
    """Re-makes the whole face through a learned bottleneck.

    Args:
        scale: Least and most pixels the network makes for a pixel of the picture, drawn uniformly; below 1
            the result is enlarged and its grid is coarser.
        strength: Least and most share of the network's picture in the result.
        grid: Least and most share of the spectrum's replica that is left, see `leave_replica`.
        height: Least and most height of the mask's upper edge: 0 on the brows, 1 at the hair line.
        feather: Least and most width of the mask's edge, in eye distances.
        color: Share of the colour difference that is removed.
    """

    name = "restore"
    needs_donor = False

    def __init__(
        self,
        *,
        scale: tuple[float, float] = (0.7, 1.1),
        strength: tuple[float, float] = (0.85, 1.0),
        grid: tuple[float, float] = (0.004, 0.016),
        height: tuple[float, float] = (0.4, 0.9),
        feather: tuple[float, float] = (0.12, 0.3),
        color: float = 0.7,
    ) -> None:
        self.scale, self.strength, self.grid = scale, strength, grid
        self.height, self.feather = height, feather
        self.color = color

    def __call__(self, target: Portrait, donor: Portrait | None, rng: np.random.Generator) -> Forged:
        """Forge one picture; a donor is not looked at."""
        check_portrait(target)
        drawn = draw(
            rng,
            scale=self.scale,
            strength=self.strength,
            grid=self.grid,
            height=self.height,
            feather=self.feather,
        )
        unit = eye_distance(target.landmarks)
        side = int(np.clip(round(REACH * unit * drawn["scale"] / 16) * 16, 64, 512))
        matrix = patch_matrix(target.landmarks, (side, side), MIDDLE, REACH)
        patch = cut_patch(target.image, matrix, (side, side))
        made = cv2.addWeighted(
            leave_replica(remake(patch), drawn["grid"]), drawn["strength"], patch, 1 - drawn["strength"], 0
        )
        edge = outline(target.landmarks, drawn["height"])
        window = face_window(edge, target.image.shape, 0.1 * unit)
        alpha = soft_inside(edge, window, erode=0.02 * unit, feather=drawn["feather"] * unit)
        image, mask = paste_patch(
            target.image,
            target.landmarks,
            np.asarray(made, np.uint8),
            matrix,
            window,
            alpha,
            color=self.color,
        )
        return Forged(image, mask, target.landmarks, {**drawn, "side": side, "color": self.color})


def remake(patch: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return an upright face as the network makes it anew.

    Shape:
        patch: (S, S, 3) uint8 RGB, S a multiple of 16. Returns the same.
    """
    import torch

    with torch.inference_mode():
        image = torch.from_numpy(np.ascontiguousarray(patch)).permute(2, 0, 1)[None].float() / 255
        made = _network()(image)[0].permute(1, 2, 0).mul(255).round().clamp(0, 255)
    return np.asarray(made.numpy(), np.uint8)


def leave_replica(patch: NDArray[np.uint8], share: float) -> NDArray[np.uint8]:
    """Return a picture as if it had been enlarged twofold with an imperfect filter.

    Inserting zeros between samples repeats the spectrum about half the sampling rate along rows and columns;
    a filter ought to remove the replica and leaves a share of it: x + share x ((-1)^i + (-1)^j) / 2.

    Args:
        patch: The picture.
        share: What is left, 0 to 1; a generator that is not looked at closely has about one per cent.

    Shape:
        patch: (H, W, 3) uint8 RGB. Returns the same.
    """
    height, width = patch.shape[:2]
    wave = np.where(np.arange(height) % 2, -0.5, 0.5)[:, None] + np.where(np.arange(width) % 2, -0.5, 0.5)
    grid = patch * (1 + share * wave[..., None])
    return np.asarray(np.clip(np.round(grid), 0, 255), np.uint8)


@cache
def _network() -> Bottleneck:
    from unseen.forge.networks import Bottleneck

    network = Bottleneck()
    network.load_state_dict(read_weights("restore.safetensors"))
    return network.eval()
