"""Where a forgery goes: masks of a face drawn from its landmarks, deformed, eroded and softened.

All masks are float32 in [0, 1]. Public code that keeps them as uint8 0 or 1 rounds the first blur back to a
step and silently loses the erosion; the fakes get too large, with too hard an edge.
"""

from __future__ import annotations

from typing import Literal, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from unseen.data.places import read_place
from unseen.types import InputError

__all__ = ["HULLS", "Hull", "deform", "elastic_flow", "hull_mask", "mask_box", "read_mask", "soften"]

Hull = Literal["full", "extended", "components", "facehull"]
HULLS: tuple[Hull, ...] = get_args(Hull)

_Mask = NDArray[np.float32]
_Points = NDArray[np.floating]

_FINER = 16  # polygons are drawn with vertices on a 1/16 pixel grid
_BITS = 4


def hull_mask(landmarks: _Points, size: tuple[int, int], hull: Hull = "facehull") -> _Mask:
    """Draw the part of a face that one kind of forgery replaces, with anti-aliased edges.

    * `full`: between jaw line and brows, following both, so with the dents between the brows (the area that
      face-swapping software exchanges).
    * `extended`: the convex hull of the face with the brows lifted about half-way up the forehead.
    * `components`: eyes with their brows, nose and mouth, each a hull with a small rim.
    * `facehull`: the convex hull of all landmarks that are there, forehead included.

    Args:
        landmarks: Points; the first 68 finite. The forehead (68..80) may be NaN or missing.
        size: (height, width) of the mask, in the landmarks' own pixels.
        hull: One of the four kinds.

    Returns:
        A float32 mask, 1 inside.

    Shape:
        landmarks: (81, 2) or (68, 2). Returns (H, W).

    Raises:
        InputError: If one of the first 68 points is missing, or the kind is unknown.
    """
    points = np.asarray(landmarks, np.float64)
    if len(points) < 68 or not np.isfinite(points[:68]).all():
        raise InputError(
            f"hull_mask: {len(points)} landmarks, {int(np.isfinite(points[:68]).all(1).sum())} of the first "
            "68 finite; expected all 68",
            reason="bad_landmarks",
        )
    height, width = size
    mask = np.zeros((height, width), np.uint8)
    for polygon in _polygons(points, hull):
        vertices = np.round(polygon * _FINER).astype(np.int32)
        cv2.fillPoly(mask, [vertices], 255, lineType=cv2.LINE_AA, shift=_BITS)
    return mask.astype(np.float32) / np.float32(255)


def _polygons(points: NDArray[np.float64], hull: Hull) -> list[NDArray[np.float64]]:
    face = points[:68]
    if hull == "full":
        return [np.concatenate([face[:17], face[26:16:-1]])]
    if hull == "extended":
        return [_convex(np.concatenate([face, _lifted_brows(face)]))]
    if hull == "components":
        rim = 0.06 * float(np.linalg.norm(face[42:48].mean(0) - face[36:42].mean(0)))
        left = np.concatenate([face[17:22], face[36:42]])
        right = np.concatenate([face[22:27], face[42:48]])
        return [_convex(_with_rim(part, rim)) for part in (left, right, face[27:36], face[48:68])]
    if hull == "facehull":
        return [_convex(points[np.isfinite(points).all(1)])]
    raise InputError(f"hull_mask: hull {hull!r}; expected one of {', '.join(HULLS)}")


def _lifted_brows(face: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the brows moved away from the eyes by their distance to them, and drawn together a little."""
    left = face[17:22] + (face[17:22].mean(0) - face[36:42].mean(0))
    right = face[22:27] + (face[22:27].mean(0) - face[42:48].mean(0))
    brows = np.concatenate([left, right])
    middle = brows.mean(0)
    return np.asarray(middle + 0.85 * (brows - middle), np.float64)


def _with_rim(points: NDArray[np.float64], rim: float) -> NDArray[np.float64]:
    """Return the points surrounded at distance `rim`: their hull is the wider hull."""
    angle = np.arange(8) * (np.pi / 4)
    circle = rim * np.column_stack([np.cos(angle), np.sin(angle)])
    return (points[:, None] + circle[None]).reshape(-1, 2)


def _convex(points: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(cv2.convexHull(points.astype(np.float32))[:, 0].astype(np.float64), np.float64)


def elastic_flow(
    size: tuple[int, int], rng: np.random.Generator, *, alpha: float = 50.0, sigma: float = 7.0
) -> NDArray[np.float32]:
    """Draw a smooth random displacement field (Simard et al., ICDAR 2003).

    The classical field is uniform noise in [-1, 1], blurred by `sigma` and multiplied by `alpha`. It holds
    nothing finer than `sigma`, so it is drawn on a grid `sigma / 2` apart and enlarged: the same spread and
    the same smoothness at a hundredth of the work.

    Args:
        size: (height, width) in pixels.
        rng: Source of randomness.
        alpha: Strength; the displacement's standard deviation is alpha / (2 sqrt(3 pi) sigma), 1.16 pixels
            for the defaults.
        sigma: Smoothness in pixels.

    Shape:
        Returns (H, W, 2) float32: x and y displacement in pixels.
    """
    height, width = size
    step = max(1.0, sigma / 2)
    grid = (int(np.ceil(height / step)) + 8, int(np.ceil(width / step)) + 8)  # a rim without border effects
    noise = rng.standard_normal((*grid, 2), np.float32)
    smooth = np.asarray(cv2.GaussianBlur(noise, (0, 0), sigma / step), np.float32)
    wanted = alpha / (2 * np.sqrt(3 * np.pi) * sigma)  # standard deviation of uniform noise, blurred
    found = step / (2 * np.sqrt(np.pi) * sigma)  # of unit noise, blurred by sigma / step
    smooth *= wanted / found
    matrix = np.array([[1 / step, 0, 4], [0, 1 / step, 4]])
    return np.asarray(
        cv2.warpAffine(smooth, matrix, (width, height), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP),
        np.float32,
    )


def deform(mask: _Mask, flow: NDArray[np.float32]) -> _Mask:
    """Return the mask read at each pixel's place plus its displacement.

    Shape:
        mask: (H, W). flow: (H, W, 2), x and y in pixels. Returns (H, W).
    """
    height, width = mask.shape
    x = flow[..., 0] + np.arange(width, dtype=np.float32)
    y = flow[..., 1] + np.arange(height, dtype=np.float32)[:, None]
    return np.asarray(cv2.remap(mask, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101), np.float32)


def soften(mask: _Mask, *, erosion: int, blur: int, sigma: float) -> _Mask:
    """Shrink a mask by exactly its kernel, then give it a soft edge (SBI, section 3.1).

    The published recipe blurs the mask and keeps only what is still 1, which is an erosion by the kernel.
    A mask too thin for the kernel is eroded by half of it, and so on, instead of being lost.

    Args:
        mask: Float mask in [0, 1].
        erosion: Side of the square that must fit inside, in pixels; odd.
        blur: Side of the Gaussian's window, in pixels; odd.
        sigma: The Gaussian's standard deviation in pixels.

    Shape:
        mask: (H, W). Returns (H, W) float32 with maximum 1, or all zero for an empty mask.
    """
    solid = (mask > 0.999).astype(np.uint8)
    # Beyond the border counts as outside, or a face at the border would get a hard edge there.
    inside = cv2.erode(solid, _square(erosion), borderType=cv2.BORDER_CONSTANT, borderValue=0)
    while erosion > 1 and cv2.countNonZero(inside) < 0.1 * cv2.countNonZero(solid):
        erosion = erosion // 2 | 1
        inside = cv2.erode(solid, _square(erosion), borderType=cv2.BORDER_CONSTANT, borderValue=0)
    # The border is outside for the blur as well.
    edge = cv2.GaussianBlur(inside.astype(np.float32), (blur, blur), sigma, borderType=cv2.BORDER_CONSTANT)
    soft = np.asarray(edge, np.float32)
    most = float(soft.max())
    return soft / most if most > 0 else soft


def _square(side: int) -> NDArray[np.uint8]:
    return np.ones((side, side), np.uint8)


def mask_box(mask: _Mask, *, threshold: float = 0.5) -> NDArray[np.float32]:
    """Return the box around everything above `threshold`.

    Shape:
        mask: (H, W). Returns (1, 4) float32 xyxy, edges in pixels, or (0, 4) if nothing is above.
    """
    x, y, width, height = cv2.boundingRect((mask > threshold).astype(np.uint8))
    if width == 0 or height == 0:
        return np.zeros((0, 4), np.float32)
    return np.array([[x, y, x + width, y + height]], np.float32)


def read_mask(place: str) -> NDArray[np.uint8]:
    """Read what a manifest's column `mask` names: a grey picture, white where a crop is forged.

    Args:
        place: A file, a piece of a packed shard, or either of them in object storage.

    Raises:
        InputError: There is none, it is damaged, or it is no picture.

    Shape:
        Returns (H, W) uint8.
    """
    try:
        data = np.frombuffer(read_place(place), np.uint8)
        mask = cv2.imdecode(data, cv2.IMREAD_GRAYSCALE) if len(data) else None
    except InputError as error:
        raise InputError(f"{place}: not a readable mask ({error})", reason=error.reason) from error
    if mask is None:
        raise InputError(f"{place}: not a readable mask; expected a grey picture", reason="unreadable")
    return np.asarray(mask, np.uint8)
