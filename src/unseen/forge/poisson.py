"""Face swap blended by gradients: the donor's detail, the target's colours at the edge (Perez et al.)."""

from __future__ import annotations

import numpy as np

from unseen.data.blend import poisson_blend
from unseen.forge.family import Forged, Portrait
from unseen.forge.swap import fit_donor

__all__ = ["Poisson"]


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
        drawn = {
            name: round(float(rng.uniform(*getattr(self, name))), 4) for name in ("height", "erode", "color")
        }
        fitted = fit_donor(target, donor, feather=0.02, light=0.0, **drawn)
        inside = (fitted.alpha > 0.5).astype(np.float32)
        inside[:2], inside[-2:], inside[:, :2], inside[:, -2:] = 0, 0, 0, 0
        image = target.image.copy()
        fitted.window.of(image)[:] = poisson_blend(fitted.image, fitted.under, inside)
        mask = np.zeros(image.shape[:2], np.float32)
        fitted.window.of(mask)[:] = inside
        return Forged(image, mask, target.landmarks, dict(drawn))
