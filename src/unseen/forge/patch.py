"""Cutting a face out upright at a network's size, and pasting what the network made back in its place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from unseen.data.blend import alpha_blend
from unseen.forge.color import match_colors
from unseen.forge.family import eye_distance
from unseen.forge.shape import similarity
from unseen.forge.warp import Window

__all__ = ["cut_patch", "paste_patch", "patch_matrix", "read_weights"]

_Image = NDArray[np.uint8]
_Mask = NDArray[np.float32]

# Where eyes and mouth of an average upright face are, in eye distances.
_UPRIGHT = np.array([[-0.5, 0.0], [0.5, 0.0], [0.0, 1.06]])


def patch_matrix(
    landmarks: NDArray[np.floating], size: tuple[int, int], middle: tuple[float, float], reach: float
) -> NDArray[np.float64]:
    """Return the similarity from a picture to an upright patch.

    Args:
        landmarks: The face's.
        size: (height, width) of the patch, pixels.
        middle: What lies in the patch's middle, in eye distances from between the eyes.
        reach: Width of the patch in eye distances.

    Shape:
        landmarks: (81, 2) or (68, 2). Returns (2, 3).
    """
    own = np.stack([landmarks[36:42].mean(0), landmarks[42:48].mean(0), landmarks[48:68].mean(0)])
    unit = size[1] / reach
    goal = (_UPRIGHT - middle) * unit + [(size[1] - 1) / 2, (size[0] - 1) / 2]
    return similarity(own, goal)


def cut_patch(image: _Image, matrix: NDArray[np.float64], size: tuple[int, int]) -> _Image:
    """Return the upright patch, without aliasing where it is smaller than the face.

    Shape:
        image: (H, W, 3) uint8. matrix: (2, 3). Returns (*size, 3) uint8.
    """
    scale = float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))
    if scale < 0.75:
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), 0.5 * (1 / scale - 0.5)), np.uint8)
    return np.asarray(
        cv2.warpAffine(image, matrix, size[::-1], flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101),
        np.uint8,
    )


def paste_patch(
    image: _Image,
    landmarks: NDArray[np.floating],
    patch: _Image,
    matrix: NDArray[np.float64],
    window: Window,
    alpha: _Mask,
    *,
    color: float = 1.0,
    light: float = 0.5,
) -> tuple[_Image, _Mask]:
    """Put a patch back where it came from, with the picture's own colours.

    Args:
        image: The picture.
        landmarks: The face's.
        patch: What the network made.
        matrix: From the picture to the patch.
        window: The part of the picture that changes.
        alpha: How much of the patch is to be seen there; what lies outside the patch is not.
        color: Share of the colour difference that is removed.
        light: Share of the difference in shading that is removed.

    Shape:
        image: (H, W, 3) uint8. alpha: the window's size. Returns (H, W, 3) uint8 and the mask (H, W).
    """
    height, width = window.size
    # From the window's pixels to the patch's.
    here = matrix.copy()
    here[:, 2] += matrix[:, :2] @ window.origin
    flags = cv2.WARP_INVERSE_MAP | cv2.INTER_CUBIC
    back = cv2.warpAffine(patch, here, (width, height), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    # The patch's own border must not show as a step.
    rim = max(2, min(patch.shape[:2]) // 16)
    soft = np.pad(np.ones([n - 2 * rim for n in patch.shape[:2]], np.float32), rim)
    soft = cv2.GaussianBlur(soft, (0, 0), rim / 2)
    inside = cv2.warpAffine(soft, here, (width, height), flags=cv2.WARP_INVERSE_MAP | cv2.INTER_LINEAR)
    alpha = np.asarray(np.clip(alpha * inside, 0, 1), np.float32)
    under = np.ascontiguousarray(window.of(image), np.uint8)
    reach = 0.35 * eye_distance(landmarks)
    back = match_colors(np.asarray(back, np.uint8), under, alpha, strength=color, light=light, reach=reach)
    result, mask = image.copy(), np.zeros(image.shape[:2], np.float32)
    window.of(result)[:] = alpha_blend(back, under, alpha)
    window.of(mask)[:] = alpha
    return result, mask


def read_weights(name: str) -> dict[str, Any]:
    """Return the tensors, float32, of a network that ships with the library."""
    from safetensors.torch import load_file

    path = Path(__file__).parent / "weights" / name
    return {key: value.float() for key, value in load_file(path).items()}
