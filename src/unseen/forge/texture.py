"""Mouth re-synthesis: lips and teeth from a learned dictionary at low resolution (NeuralTextures-like).

The dictionary holds the mean and the principal components of some hundred mouths. A mouth is projected onto
them, perhaps moved towards a smile, and drawn again. What betrays it: teeth melt into one band, the skin
about the mouth loses its pores, and the region ends in a soft edge on the cheeks.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unseen.forge.family import Forged, Portrait, check_portrait, draw, eye_distance
from unseen.forge.patch import cut_patch, paste_patch, patch_matrix
from unseen.forge.warp import face_window, soft_inside

__all__ = ["Texture", "remake_mouth"]

MOUTH_SIZE = (48, 72)  # pixels
MOUTH_MIDDLE, MOUTH_REACH = (0.0, 1.12), 1.5  # eye distances


class Texture:
    """Re-makes the mouth and the skin around it.

    Args:
        smile: Least and most change of expression, -1 (graver) to 1 (a full smile), drawn uniformly.
        words: Least and most entries of the dictionary that are used; fewer draw a smoother mouth, and at
            most as many are used as there are.
        rim: Least and most width of the skin around the lips that is re-made too, in eye distances.
        feather: Least and most width of the mask's edge, in eye distances.
        color: Share of the colour difference that is removed.
    """

    name = "texture"
    needs_donor = False

    def __init__(
        self,
        *,
        smile: tuple[float, float] = (-0.4, 0.6),
        words: tuple[int, int] = (30, 96),
        rim: tuple[float, float] = (0.14, 0.26),
        feather: tuple[float, float] = (0.12, 0.22),
        color: float = 0.6,
    ) -> None:
        self.smile, self.words, self.rim, self.feather = smile, words, rim, feather
        self.color = color

    def __call__(self, target: Portrait, donor: Portrait | None, rng: np.random.Generator) -> Forged:
        """Forge one picture; a donor is not looked at."""
        check_portrait(target)
        drawn = draw(rng, smile=self.smile, rim=self.rim, feather=self.feather)
        words = int(rng.integers(self.words[0], self.words[1] + 1))
        unit = eye_distance(target.landmarks)
        matrix = patch_matrix(target.landmarks, MOUTH_SIZE, MOUTH_MIDDLE, MOUTH_REACH)
        patch = remake_mouth(cut_patch(target.image, matrix, MOUTH_SIZE), drawn["smile"], words)
        lips = target.landmarks[48:60]
        away = lips - lips.mean(0)
        # The rim lies around the lips, not around their middle: a wide mouth stays wide.
        edge = (
            lips + away / np.maximum(np.linalg.norm(away, axis=1, keepdims=True), 1e-6) * drawn["rim"] * unit
        )
        window = face_window(edge, target.image.shape, 0.05 * unit)
        alpha = soft_inside(edge, window, erode=0, feather=drawn["feather"] * unit)
        image, mask = paste_patch(
            target.image, target.landmarks, patch, matrix, window, alpha, color=self.color, light=0.5
        )
        return Forged(image, mask, target.landmarks, {**drawn, "words": words, "color": self.color})


def remake_mouth(patch: NDArray[np.uint8], smile: float = 0.0, words: int = 64) -> NDArray[np.uint8]:
    """Return an upright mouth as the dictionary can draw it.

    Args:
        patch: The mouth.
        smile: How much of a smile to add, about -1 to 1.
        words: How many entries of the dictionary are used.

    Shape:
        patch: (48, 72, 3) uint8 RGB. Returns the same.
    """
    book = _dictionary()
    entries = book.entries[:words]  # (K, D), orthonormal
    code = entries @ (patch.reshape(-1).astype(np.float32) - book.mean) + smile * book.smile[:words]
    drawn = book.mean + code @ entries
    return np.asarray(np.clip(np.round(drawn), 0, 255).astype(np.uint8).reshape(patch.shape), np.uint8)


@dataclass(frozen=True, eq=False)
class _Dictionary:
    mean: NDArray[np.float32]  # (D,)
    entries: NDArray[np.float32]  # (K, D), unit length
    smile: NDArray[np.float32]  # (K,) from neutral to smiling


@cache
def _dictionary() -> _Dictionary:
    with np.load(Path(__file__).parent / "weights" / "mouths.npz", allow_pickle=False) as file:
        entries = file["entries"].astype(np.float32)
        entries /= np.linalg.norm(entries, axis=1, keepdims=True)
        return _Dictionary(file["mean"].astype(np.float32), entries, file["smile"])
