"""Evidence drawn on pictures: heat maps, boxes, thumbnails; numpy and OpenCV only.

Every function takes a picture and returns a new one of the same kind, (H, W, 3) uint8 RGB. Colours are
`viridis`: it rises evenly in brightness, so any colour vision, and greyscale print, keep the order.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = [
    "data_uri",
    "draw_box",
    "draw_region",
    "fit_affine",
    "heat_colors",
    "legend",
    "overlay",
    "shrink",
    "thumbnail",
    "tile",
]

Picture = NDArray[np.uint8]
Color = tuple[int, int, int]
WHITE: Color = (255, 255, 255)
BLACK: Color = (0, 0, 0)


def heat_colors(heatmap: NDArray[Any]) -> Picture:
    """Colour a map: 0 dark violet, 0.5 teal, 1 yellow.

    Shape:
        heatmap: (H, W) in [0, 1]. Result: (H, W, 3) uint8 RGB.
    """
    levels = np.rint(np.clip(np.nan_to_num(heatmap), 0, 1) * 255).astype(np.uint8)
    colored = cv2.applyColorMap(levels, cv2.COLORMAP_VIRIDIS)
    return np.ascontiguousarray(colored[..., ::-1])


def overlay(
    frame: Picture,
    heatmap: NDArray[Any],
    matrix: NDArray[Any],
    size: tuple[int, int],
    *,
    strength: float = 0.62,
    outline: bool = True,
) -> Picture:
    """Blend a heat map, made at the network's resolution, onto the picture that the face came from.

    Only what the network saw is coloured, and more strongly where the map is hotter, so that the skin below
    stays visible. The edge of the network's view is drawn thinly.

    Args:
        frame: The original picture.
        heatmap: The map, of any resolution; it is taken to cover the network's input.
        matrix: Maps a point of `frame` (x, y) to the network's input.
        size: (height, width) of the network's input, in pixels.
        strength: Opacity at heat 1, in [0, 1].
        outline: Draw the edge of the network's view.

    Returns:
        A new picture; `frame` is untouched.

    Shape:
        frame: (H, W, 3). heatmap: (h, w) in [0, 1]. matrix: (2, 3). Result: (H, W, 3).
    """
    height, width = size
    matrix = np.asarray(matrix, np.float64)
    # Cubic first: seven by seven cells stretched linearly show as diamonds. Half-pixel centres are resize's.
    smooth = cv2.resize(np.asarray(heatmap, np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    smooth = np.clip(smooth, 0, 1)
    canvas = (frame.shape[1], frame.shape[0])
    back = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP  # matrix already leads from the frame to the input
    heat = cv2.warpAffine(smooth, matrix, canvas, flags=back, borderMode=cv2.BORDER_REPLICATE)
    inside = cv2.warpAffine(np.ones(size, np.float32), matrix, canvas, flags=back)  # 0 outside, soft edge
    opacity = (inside * strength * (0.25 + 0.75 * heat))[..., None]
    mixed = frame * (1 - opacity) + heat_colors(heat) * opacity
    result: Picture = np.rint(mixed).astype(np.uint8)
    if outline:
        corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float64) - 0.5
        whole = cv2.invertAffineTransform(matrix)
        edge = np.rint(corners @ whole[:, :2].T + whole[:, 2]).astype(np.int32)
        cv2.polylines(result, [edge], True, WHITE, 1, cv2.LINE_AA)
    return result


def fit_affine(before: NDArray[Any], after: NDArray[Any]) -> NDArray[np.float64]:
    """Find the affine map that carried one set of points onto another, in least squares.

    Transforms move landmarks with the picture, so the landmarks before and after tell where each pixel of the
    network's input came from, whatever the transforms were.

    Raises:
        ValueError: With fewer than three finite points.

    Shape:
        before, after: (N, 2); rows with NaN are left out. Result: (2, 3).
    """
    known = np.isfinite(before).all(1) & np.isfinite(after).all(1)
    if known.sum() < 3:
        raise ValueError(f"{int(known.sum())} finite points; an affine map needs at least 3")
    points = np.column_stack([np.asarray(before[known], np.float64), np.ones(int(known.sum()))])
    solution, *_ = np.linalg.lstsq(points, np.asarray(after[known], np.float64), rcond=None)
    return np.ascontiguousarray(solution.T)


def draw_box(
    frame: Picture,
    box: Sequence[float] | NDArray[Any],
    label: str = "",
    *,
    color: Color = WHITE,
    dashed: bool = False,
) -> Picture:
    """Draw a box with a dark rim, so that it shows on any ground, and a small label above or inside it.

    Args:
        frame: The picture.
        box: x0 y0 x1 y1 in pixels; may reach over the edge.
        label: ASCII text; OpenCV's font has no other letters.
        color: RGB of the line.
        dashed: Draw corners only, for faces that were not judged.

    Shape:
        frame: (H, W, 3). Result: (H, W, 3).
    """
    result = frame.copy()
    side = max(frame.shape[:2])
    line = max(1, round(side / 400))
    x0, y0, x1, y1 = (round(float(v)) for v in box)
    for paint, thick in ((BLACK, line + 2), (color, line)):
        if dashed:
            reach_x, reach_y = max(2, (x1 - x0) // 5), max(2, (y1 - y0) // 5)
            for x, dx in ((x0, reach_x), (x1, -reach_x)):
                for y, dy in ((y0, reach_y), (y1, -reach_y)):
                    cv2.line(result, (x, y), (x + dx, y), paint, thick)
                    cv2.line(result, (x, y), (x, y + dy), paint, thick)
        else:
            cv2.rectangle(result, (x0, y0), (x1, y1), paint, thick)
    return _write(result, label, x0, y0, line) if label else result


def draw_region(
    frame: Picture, corners: NDArray[Any], label: str = "", *, color: Color = (255, 214, 10)
) -> Picture:
    """Draw a box that was found in an aligned picture and lies turned in this one, with a small label.

    Args:
        frame: The picture.
        corners: In pixels, in order; may lie outside.
        label: ASCII text, above the uppermost corner.
        color: RGB of the line.

    Shape:
        frame: (H, W, 3). corners: (4, 2). Result: (H, W, 3).
    """
    result = frame.copy()
    line = max(1, round(max(frame.shape[:2]) / 400))
    points = np.rint(np.asarray(corners, np.float64)).astype(np.int32)
    for paint, thick in ((BLACK, line + 2), (color, line)):
        cv2.polylines(result, [points], True, paint, thick, cv2.LINE_AA)
    x, y = (int(value) for value in points.min(0))
    return _write(result, label, x, y, line) if label else result


def _write(result: Picture, label: str, x0: int, y0: int, line: int) -> Picture:
    """Write a label above a place, or below its upper edge where there is no room, into the picture."""
    side = max(result.shape[:2])
    text = label.encode("ascii", "replace").decode()
    scale = max(0.4, side / 1400)
    (width, height), below = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, line)
    pad = 3 + line
    left = min(max(0, x0), max(0, result.shape[1] - width - 2 * pad))
    top = y0 - height - below - 2 * pad
    if top < 0:
        top = max(0, y0)
    cv2.rectangle(result, (left, top), (left + width + 2 * pad, top + height + below + 2 * pad), BLACK, -1)
    at = (left + pad, top + height + pad)
    cv2.putText(result, text, at, cv2.FONT_HERSHEY_SIMPLEX, scale, WHITE, line, cv2.LINE_AA)
    return result


def shrink(picture: Picture, side: int) -> Picture:
    """Bring the longer side to at most `side` pixels; smaller pictures are returned as they are."""
    height, width = picture.shape[:2]
    if max(height, width) <= side:
        return picture
    scale = side / max(height, width)
    target = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(cv2.resize(picture, target, interpolation=cv2.INTER_AREA), np.uint8)


def thumbnail(
    frame: Picture, box: Sequence[float] | NDArray[Any], side: int = 96, *, margin: float = 0.25
) -> Picture:
    """Cut a square around a face and bring it to `side` pixels; what lies outside the frame is its edge.

    Shape:
        frame: (H, W, 3). box: 4, xyxy. Result: (side, side, 3).
    """
    x0, y0, x1, y1 = (float(v) for v in box)
    half = max(1.0, max(x1 - x0, y1 - y0) * (0.5 + margin))
    cx, cy = (x0 + x1) / 2, (y0 + y1) / 2
    left, top = max(0, int(cx - half)), max(0, int(cy - half))
    part: NDArray[Any] = frame[top : max(top + 1, int(cy + half)), left : max(left + 1, int(cx + half))]
    if part.size == 0:
        return np.zeros((side, side, 3), np.uint8)
    scale = side / (2 * half)  # cut before scaling: warping a whole frame would alias
    part = cv2.resize(
        part,
        (max(1, round(part.shape[1] * scale)), max(1, round(part.shape[0] * scale))),
        interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR,
    )[:side, :side]
    gap_x, gap_y = side - part.shape[1], side - part.shape[0]
    before_x = min(gap_x, max(0, round((left - (cx - half)) * scale)))
    before_y = min(gap_y, max(0, round((top - (cy - half)) * scale)))
    padded = cv2.copyMakeBorder(
        part, before_y, gap_y - before_y, before_x, gap_x - before_x, cv2.BORDER_REPLICATE
    )
    return np.asarray(padded, np.uint8)


def tile(picture: Picture | None, text: str, side: int) -> Picture:
    """Centre a picture on a white square with a line of text below it; None leaves the square empty.

    Shape:
        picture: (H, W, 3). Result: (side + 22, side + 4, 3).
    """
    cell = np.full((side + 22, side + 4, 3), 255, np.uint8)
    if picture is not None:
        small = shrink(picture, side)
        top, left = 2 + (side - small.shape[0]) // 2, 2 + (side - small.shape[1]) // 2
        cell[top : top + small.shape[0], left : left + small.shape[1]] = small
    at = (3, side + 16)
    cv2.putText(cell, text, at, cv2.FONT_HERSHEY_SIMPLEX, 0.42, BLACK, 1, cv2.LINE_AA)
    return cell


def legend(width: int = 256, height: int = 14) -> Picture:
    """A bar from heat 0 on the left to heat 1 on the right."""
    return heat_colors(np.tile(np.linspace(0, 1, width, dtype=np.float32), (height, 1)))


def encode_jpeg(picture: Picture, *, quality: int = 85) -> bytes:
    """Compress an RGB picture."""
    done, data = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise ValueError(f"a picture of shape {picture.shape} could not be written as JPEG")
    return bytes(data)


def data_uri(picture: Picture | bytes, *, quality: int = 85) -> str:
    """Write a picture, or JPEG bytes, as text that a page can hold: `data:image/jpeg;base64,...`."""
    data = picture if isinstance(picture, bytes) else encode_jpeg(picture, quality=quality)
    return "data:image/jpeg;base64," + base64.b64encode(data).decode("ascii")
