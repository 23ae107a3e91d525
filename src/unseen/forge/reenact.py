"""Expression transfer: the target keeps its face and makes the donor's expression (Face2Face-like).

The donor's displacement from rest, brought to the target by a similarity, moves mouth, eyes, brows and a
little of the jaw through one smooth warp. What a warp cannot invent, the inside of an opened mouth, is the
donor's own, in the target's light.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from unseen.data.blend import alpha_blend
from unseen.forge.color import match_colors
from unseen.forge.family import Forged, Portrait, Unforgeable, check_portrait, eye_distance
from unseen.forge.shape import MEAN_FACE, STILL, move, similarity
from unseen.forge.swap import open_lips
from unseen.forge.warp import (
    Window,
    face_window,
    fit_detail,
    grid_step,
    read_through,
    soft_inside,
    triangle_map,
)

__all__ = ["Reenact", "displacement"]

_Points = NDArray[np.float32]

# How far each point may follow: the jaw's middle falls with the lower lip, the nose hardly moves.
_FOLLOW = np.zeros(81, np.float32)
_FOLLOW[4:13] = [0.2, 0.45, 0.65, 0.75, 0.8, 0.75, 0.65, 0.45, 0.2]
_FOLLOW[17:27] = 1.0
_FOLLOW[31:36] = 0.4
_FOLLOW[36:48] = 0.9
_FOLLOW[48:68] = 1.0
_PARTS = (slice(17, 27), slice(36, 42), slice(42, 48), slice(48, 68))
_INNER = np.arange(60, 68)


class Reenact:
    """Gives the target the donor's expression.

    Args:
        strength: Least and most share of the expression that is transferred, drawn uniformly.
        own: Share of the target's own expression that stays: 0 replaces it, as in a single picture; 1 adds
            the donor's to it, as in a clip of somebody who speaks.
        least: Least movement that counts, in eye distances: the mean over mouth, eyes and brows.
        smooth: How much the warp is smoothed, in eye distances.
    """

    name = "reenact"
    needs_donor = True

    def __init__(
        self,
        *,
        strength: tuple[float, float] = (0.85, 1.15),
        own: float = 0.0,
        least: float = 0.01,
        smooth: float = 0.035,
    ) -> None:
        self.strength, self.own, self.least, self.smooth = strength, own, least, smooth

    def __call__(self, target: Portrait, donor: Portrait | None, rng: np.random.Generator) -> Forged:
        """Forge one picture."""
        if donor is None:
            raise Unforgeable(
                f"{target.path}: no donor; give pictures of at least two people", reason="no_donor"
            )
        check_portrait(target)
        check_portrait(donor)
        strength = round(float(rng.uniform(*self.strength)), 4)
        unit = eye_distance(target.landmarks)
        moved = displacement(donor.landmarks, donor.rest, target.landmarks)
        if self.own < 1:
            moved = moved - (1 - self.own) * displacement(target.landmarks, target.rest, target.landmarks)
        moved = np.float32(strength) * moved * _FOLLOW[:, None]
        # Eyes opened or shut by a warp alone look stuck beyond this.
        moved[36:48] = np.clip(moved[36:48], -0.05 * unit, 0.05 * unit)
        size = float(np.linalg.norm(moved[17:68], axis=1).mean()) / unit
        if size < self.least:
            raise Unforgeable(
                f"{target.path}: its expression is that of its donor {donor.path}; choose another donor",
                reason="same_expression",
            )
        new = _in_order(target.landmarks + moved)
        image, mask = _animate(target, donor, new, unit, self.smooth)
        drawn: dict[str, float | int | str] = {"strength": strength, "movement": round(size, 4)}
        return Forged(image, mask, new, drawn)


def displacement(face: _Points, rest: _Points | None, onto: _Points) -> _Points:
    """Return what an expression does to each point, in another face's pixels.

    Args:
        face: Landmarks with the expression.
        rest: Landmarks of the same person with a calm face; without, an average face's parts take their
            place, each put where this face has it, so that only their form counts.
        onto: Landmarks that say which way up and how large the result is.

    Shape:
        face, rest, onto: (81, 2). Returns (81, 2) float32.
    """
    basis = similarity(face[STILL], MEAN_FACE[STILL])
    here = move(face, basis)
    if rest is not None:
        calm = move(rest, similarity(rest[STILL], MEAN_FACE[STILL]))
    else:
        calm = here.copy()
        for part in _PARTS:
            calm[part] = MEAN_FACE[part] - MEAN_FACE[part].mean(0) + here[part].mean(0)
    back = similarity(MEAN_FACE[STILL], onto[STILL])
    moved = (here - calm) @ back[:, :2].T
    return np.nan_to_num(moved).astype(np.float32)


def _in_order(points: _Points) -> _Points:
    """Keep the inner lips from crossing."""
    return np.concatenate([open_lips(points[:68]), points[68:]])


def _animate(
    target: Portrait, donor: Portrait, new: _Points, unit: float, smooth: float
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    old = np.concatenate([open_lips(target.landmarks[:68]), target.landmarks[68:]])
    window = face_window(np.concatenate([old[:68], new[:68]]), target.image.shape, 0.45 * unit)
    anchors = _anchors(target.landmarks[:68], unit)
    where = triangle_map(
        np.concatenate([new[:68], anchors]),
        np.concatenate([old[:68], anchors]),
        window,
        step=min(3, grid_step(unit)),
        smooth=smooth * unit,
        still=True,
    )
    under = np.ascontiguousarray(window.of(target.image), np.uint8)
    local = where - window.origin
    warped = np.asarray(read_through(under, local), np.uint8)
    grid = np.stack(np.meshgrid(*(np.arange(n, dtype=np.float32) for n in window.size[::-1])), axis=-1)
    far = np.linalg.norm(local - grid, axis=2)
    # Where nothing moves the very pixels stay: reading through a map, even by zero, would leave a trace.
    alpha = np.clip(far / np.float32(max(0.008 * unit, 0.5)) - np.float32(0.2), 0, 1).astype(np.float32)
    alpha = cv2.GaussianBlur(alpha, (0, 0), max(0.01 * unit, 0.6))
    image = alpha_blend(warped, under, alpha)
    image, inner = _fill_mouth(image, donor, new, old, window, unit)
    result = target.image.copy()
    window.of(result)[:] = image
    mask = np.zeros(result.shape[:2], np.float32)
    window.of(mask)[:] = np.maximum(alpha, inner)
    return result, mask


def _anchors(points: _Points, unit: float) -> _Points:
    """Points around the face that stay where they are, so that hair, neck and wall do not move."""
    middle = points[27:36].mean(0)
    ray = points[:17] - middle
    length = np.linalg.norm(ray, axis=1, keepdims=True)
    below = points[:17] + ray / np.maximum(length, 1e-6) * (0.35 * unit)
    up = points[27] - points[30]
    up = up / max(float(np.linalg.norm(up)), 1e-6)
    above = points[17:27] + up * (0.55 * unit)
    return np.concatenate([below, above]).astype(np.float32)


def _fill_mouth(
    image: NDArray[np.uint8], donor: Portrait, new: _Points, old: _Points, window: Window, unit: float
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Lay the donor's inside of the mouth between the new lips, if they open or close by much.

    Opening needs teeth that the target did not show; closing would squeeze the target's into a bright line.
    """
    wider = _opening(new) - _opening(old)
    if abs(wider) < 0.025 * unit:
        return image, np.zeros(window.size, np.float32)
    mouth = face_window(new[48:68], (window.y1, window.x1), 0.06 * unit)
    mouth = Window(max(mouth.x0, window.x0), max(mouth.y0, window.y0), mouth.x1, mouth.y1)
    seen, points = fit_detail(donor.image, donor.landmarks, unit / eye_distance(donor.landmarks))
    where = triangle_map(new[48:68], np.asarray(points[48:68]), mouth, step=2)
    inside = np.asarray(read_through(seen, where), np.uint8)
    rows = slice(mouth.y0 - window.y0, mouth.y1 - window.y0)
    columns = slice(mouth.x0 - window.x0, mouth.x1 - window.x0)
    under = np.ascontiguousarray(image[rows, columns])
    # The lips of both are compared for colour: teeth have nothing to be compared with.
    lips = soft_inside(new[48:60], mouth, erode=0, feather=2)
    rim = (0.012 if wider > 0 else 0.035) * unit
    alpha = soft_inside(_grown(new[_INNER], rim), mouth, erode=0, feather=0.035 * unit)
    inside = match_colors(inside, under, lips * (1 - alpha), strength=0.8)
    result = image.copy()
    result[rows, columns] = alpha_blend(inside, under, alpha)
    mask = np.zeros(window.size, np.float32)
    mask[rows, columns] = alpha
    return result, mask


def _grown(lips: _Points, by: float) -> _Points:
    """Return the line of the inner lips moved outwards, up and down."""
    along = lips[4] - lips[0]
    along = along / max(float(np.linalg.norm(along)), 1e-6)
    down = np.array([-along[1], along[0]], np.float32)
    side = np.array([0, -1, -1, -1, 0, 1, 1, 1], np.float32)[:, None]
    ends = np.array([-1, 0, 0, 0, 1, 0, 0, 0], np.float32)[:, None]
    return np.asarray(lips + by * (side * down + 0.3 * ends * along), np.float32)


def _opening(points: _Points) -> float:
    return float(np.linalg.norm(points[61:64] - points[65:68][::-1], axis=1).mean())
