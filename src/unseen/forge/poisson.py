"""Face swap blended by gradients: the donor's detail, the target's colours at the edge (Perez et al.)."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from unseen.forge.family import Forged, Portrait, draw
from unseen.forge.swap import fit_donor

__all__ = ["Poisson", "clone", "membrane"]

_Float = NDArray[np.float32]


class Poisson:
    """Puts the donor's face on the target as `Swap` does, and blends it by solving Poisson's equation.

    Args:
        height: Lowest and highest upper edge: 0 on the brows, 1 at the hair line; drawn uniformly.
        erode: Least and most distance of the edge from the face's outline, in eye distances. On the outline
            itself hair and background would bleed into the face.
        color: Least and most share of the colour difference that is removed before blending.
    """

    name = "poisson"
    needs_donor = True

    def __init__(
        self,
        *,
        height: tuple[float, float] = (0.1, 0.5),
        erode: tuple[float, float] = (0.08, 0.2),
        color: tuple[float, float] = (0.5, 1.0),
    ) -> None:
        self.height, self.erode, self.color = height, erode, color

    def __call__(self, target: Portrait, donor: Portrait | None, rng: np.random.Generator) -> Forged:
        """Forge one picture."""
        drawn = draw(rng, height=self.height, erode=self.erode, color=self.color)
        fitted = fit_donor(target, donor, feather=0.02, light=0.0, **drawn)
        inside = (fitted.alpha > 0.5).astype(np.float32)
        inside[:2], inside[-2:], inside[:, :2], inside[:, -2:] = 0, 0, 0, 0
        image = target.image.copy()
        fitted.window.of(image)[:] = clone(fitted.image, fitted.under, inside)
        mask = np.zeros(image.shape[:2], np.float32)
        fitted.window.of(mask)[:] = inside
        return Forged(image, mask, target.landmarks, dict(drawn))


def clone(source: NDArray[np.uint8], target: NDArray[np.uint8], inside: _Float) -> NDArray[np.uint8]:
    """Return the target with the source's gradients inside a mask (Perez et al., SIGGRAPH 2003, eq. 4).

    With f* the target and g the source, the solution is g plus the membrane that takes f* - g inwards from
    the edge (their eq. 5 and 6); outside, the target stays to the bit. `cv2.seamlessClone` solves on the
    mask's whole rectangle instead, which also moves what is outside by a few grey levels, and takes longer.

    Args:
        source: What goes in.
        target: What it goes into.
        inside: 1 where the source is wanted, else 0; 0 on the border.

    Shape:
        source, target: (H, W, 3) uint8. inside: (H, W). Returns (H, W, 3) uint8.
    """
    difference = target.astype(np.float32) - source
    moved = np.clip(np.round(source + membrane(difference, inside)), 0, 255).astype(np.uint8)
    return np.asarray(np.where(inside[..., None] > 0.5, moved, target), np.uint8)


def membrane(edge: _Float, inside: _Float, *, sweeps: int = 24) -> _Float:
    """Return what solves Laplace's equation inside a mask and is `edge` outside it.

    From coarse to fine: each size starts from the smaller one's solution, so that a few sweeps (damped
    Jacobi) settle what is left.

    Args:
        edge: Values; only those beside the mask matter.
        inside: 1 where the solution is wanted, else 0.
        sweeps: Repetitions at each size.

    Shape:
        edge: (H, W, 3) float32. inside: (H, W). Returns (H, W, 3) float32.
    """
    height, width = inside.shape
    free = (inside > 0.5).astype(np.float32)[..., None]
    if min(height, width) <= 8:
        fixed = 1 - free
        mean = (edge * fixed).sum((0, 1)) / np.maximum(fixed.sum((0, 1)), 1)
        start = np.broadcast_to(mean, edge.shape)
    else:
        size = (width + 1) // 2, (height + 1) // 2
        # Half-size values are means of fixed pixels alone: what is inside must not leak out.
        share = cv2.resize(1 - free, size, interpolation=cv2.INTER_AREA)
        fixed_sum = cv2.resize(edge * (1 - free), size, interpolation=cv2.INTER_AREA)
        small = (fixed_sum / np.maximum(share, 1e-6)[..., None]).astype(np.float32)
        coarse = membrane(small, (share < 0.5).astype(np.float32), sweeps=sweeps)
        start = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)
    solution = np.where(free > 0, start, edge).astype(np.float32)
    kernel = np.array([[0, 0.25, 0], [0.25, 0, 0.25], [0, 0.25, 0]], np.float32)
    kernel = 0.9 * kernel
    kernel[1, 1] = 0.1  # damped: plain Jacobi never settles the checkerboard
    spread = np.repeat(free, 3, axis=2)
    for _ in range(sweeps):
        step = cv2.filter2D(solution, -1, kernel, borderType=cv2.BORDER_REPLICATE)
        solution += cv2.multiply(cv2.subtract(step, solution), spread)
    return solution
