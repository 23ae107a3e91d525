"""Moving the pixels of a face: maps made on a coarse grid, refined, and applied to a window by one remap.

A map says for each pixel of the result where to read. Between landmarks it is linear on the triangles of
their Delaunay triangulation; made on every fourth pixel and interpolated, it costs a tenth of a full map and
its creases along the triangles' edges are rounded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import Delaunay, QhullError

from unseen.forge.family import Unforgeable
from unseen.forge.shape import move, similarity

__all__ = ["Window", "face_window", "fit_detail", "grid_step", "read_through", "soft_inside", "triangle_map"]

_Image = NDArray[np.uint8]
_Mask = NDArray[np.float32]
_Points = NDArray[np.floating]


@dataclass(frozen=True)
class Window:
    """A rectangle of a picture: all the work is done there."""

    x0: int
    y0: int
    x1: int
    y1: int

    @property
    def size(self) -> tuple[int, int]:
        """Height and width, in pixels."""
        return self.y1 - self.y0, self.x1 - self.x0

    @property
    def origin(self) -> NDArray[np.float32]:
        """The first pixel, x and y."""
        return np.array([self.x0, self.y0], np.float32)

    def of(self, image: NDArray[Any]) -> NDArray[Any]:
        """Return the window's part of a picture, as a view."""
        return image[self.y0 : self.y1, self.x0 : self.x1]


def face_window(points: _Points, size: tuple[int, ...], margin: float) -> Window:
    """Return the rectangle around points and a margin in pixels, clipped to a picture.

    Args:
        points: (N, 2); those that are not finite are left out.
        size: Height and width of the picture.
        margin: Pixels on each side.

    Raises:
        Unforgeable: The points lie outside the picture.
    """
    points = points[np.isfinite(points).all(1)]
    low, high = np.floor(points.min(0) - margin), np.ceil(points.max(0) + margin) + 1
    x0, y0 = int(max(low[0], 0)), int(max(low[1], 0))
    x1, y1 = int(min(high[0], size[1])), int(min(high[1], size[0]))
    if x1 - x0 < 8 or y1 - y0 < 8:
        raise Unforgeable(
            "the landmarks lie outside the picture; run `unseen prepare`", reason="no_landmarks"
        )
    return Window(x0, y0, x1, y1)


def triangle_map(
    here: _Points, there: _Points, window: Window, *, step: int = 4, smooth: float = 0.0, still: bool = False
) -> NDArray[np.float32]:
    """Return where each pixel of a window is read, so that points `here` show what is at `there`.

    A rim of points around the window follows the similarity between the two, so that the triangles cover it.

    Args:
        here: Points in the picture that holds the window.
        there: The same points in the picture that is read; (N, 2) both.
        window: The part of the picture that is made.
        step: Spacing of the coarse grid, pixels.
        smooth: Standard deviation by which the map is smoothed, pixels; its corners become curves.
        still: What is beyond the points stays where it is, instead of following the similarity.

    Returns:
        (H, W, 2) float32 for `cv2.remap`.

    Raises:
        Unforgeable: The points lie on a line.
    """
    height, width = window.size
    usual = np.eye(2, 3) if still else similarity(here, there)
    reach = 0.5 * max(height, width)
    side = np.linspace(0, 1, 5)[:-1]
    square = np.concatenate(
        [
            np.column_stack(c)
            for c in ((side, 0 * side), (1 + 0 * side, side), (1 - side, 1 + 0 * side), (0 * side, 1 - side))
        ]
    )
    rim = window.origin - reach + square * (np.array([width, height]) + 2 * reach)
    known = np.concatenate([here, rim])
    # What is interpolated is the difference from the similarity: it is small, and zero on the rim.
    rest = np.concatenate([there - move(here, usual), np.zeros_like(rim)])
    rows, columns = (max(2, -(-n // step)) for n in (height, width))
    # A resized grid has its cells' middles at (i + 0.5) * size / count - 0.5.
    x = (np.arange(columns) + 0.5) * (width / columns) - 0.5 + window.x0
    y = (np.arange(rows) + 0.5) * (height / rows) - 0.5 + window.y0
    grid = np.stack(np.meshgrid(x, y), axis=-1)
    try:
        moved = _linear(Delaunay(known), rest, grid.reshape(-1, 2))
    except QhullError:
        raise Unforgeable(
            "the landmarks lie on a line; run `unseen prepare`", reason="no_landmarks"
        ) from None
    coarse = np.asarray(moved.reshape(grid.shape), np.float32)
    if smooth > 0:
        coarse = np.asarray(cv2.GaussianBlur(coarse, (0, 0), max(smooth / step, 0.3)), np.float32)
    fine = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(cv2.add(fine, _affine_map(usual, window)), np.float32)


def _linear(mesh: Delaunay, values: NDArray[np.float64], at: NDArray[np.float64]) -> NDArray[np.float64]:
    """Interpolate linearly on triangles; not by `scipy.interpolate`, whose import costs as much as ten crops.

    Shape:
        values: (N, 2), of the mesh's points. at: (M, 2), inside the mesh. Returns (M, 2).
    """
    triangle = mesh.find_simplex(at)
    affine = mesh.transform[triangle]  # (M, 3, 2) two rows of a matrix, and the third corner
    two = np.einsum("mij,mj->mi", affine[:, :2], at - affine[:, 2])
    share = np.concatenate([two, 1 - two.sum(1, keepdims=True)], axis=1)
    return np.asarray(np.einsum("mk,mkc->mc", share, values[mesh.simplices[triangle]]), np.float64)


def grid_step(unit: float) -> int:
    """Return how coarse a map's grid may be for a face with so many pixels between the eyes."""
    return int(np.clip(round(unit / 24), 1, 4))


def _affine_map(matrix: NDArray[np.float64], window: Window) -> NDArray[np.float32]:
    height, width = window.size
    x = np.arange(window.x0, window.x1, dtype=np.float32)[None, :]
    y = np.arange(window.y0, window.y1, dtype=np.float32)[:, None]
    result = np.empty((height, width, 2), np.float32)
    for i in range(2):
        a, b, c = (np.float32(v) for v in matrix[i])
        result[..., i] = a * x + (b * y + c)
    return result


def fit_detail(image: _Image, landmarks: _Points, scale: float) -> tuple[_Image, NDArray[np.float32]]:
    """Shrink a picture that is to be read at a smaller scale, so that reading it does not alias.

    Args:
        image: What will be read.
        landmarks: Points in it.
        scale: Size in the result over size here.

    Returns:
        The picture and its points; unchanged unless it is at least a fifth too large.
    """
    points = np.asarray(landmarks, np.float32)
    if scale > 0.83:
        return image, points
    height, width = image.shape[:2]
    size = max(8, round(width * scale)), max(8, round(height * scale))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    ratio = np.array([size[0] / width, size[1] / height], np.float32)
    return np.asarray(small, np.uint8), (points + 0.5) * ratio - 0.5


def read_through(image: NDArray[Any], where: NDArray[np.float32]) -> NDArray[Any]:
    """Read a picture through a map; beyond its border it is mirrored."""
    x, y = cv2.split(where)
    return np.asarray(cv2.remap(image, x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101))


def soft_inside(polygon: _Points, window: Window, *, erode: float, feather: float) -> _Mask:
    """Return a mask that is 1 deep inside a polygon and falls smoothly to 0 before its edge.

    Args:
        polygon: Vertices, (N, 2), in the picture that holds the window.
        window: Where the mask is made.
        erode: Distance from the edge where the mask starts to rise, pixels.
        feather: Distance over which it rises, pixels.

    Returns:
        (H, W) float32.
    """
    mask = np.zeros(window.size, np.uint8)
    vertices = np.round((polygon - window.origin) * 16).astype(np.int32)
    cv2.fillPoly(mask, [vertices], 255, lineType=cv2.LINE_AA, shift=4)
    inside = (mask > 127).astype(np.uint8)
    # A rim of zeros: the picture's own border is an edge too.
    depth = cv2.distanceTransform(np.pad(inside, 1), cv2.DIST_L2, cv2.DIST_MASK_5)[1:-1, 1:-1]
    rise = np.clip((depth - np.float32(erode)) / np.float32(max(feather, 1.0)), 0, 1)
    return np.asarray(rise * rise * (3 - 2 * rise), np.float32)
