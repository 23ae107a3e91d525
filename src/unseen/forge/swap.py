"""Landmark face swap: another's face, warped onto this one, recoloured and feathered in (FaceSwap-like)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unseen.data.blend import alpha_blend
from unseen.forge.color import match_colors
from unseen.forge.family import Forged, Portrait, Unforgeable, check_portrait, draw, eye_distance
from unseen.forge.shape import mouth_opening, outline, turn
from unseen.forge.warp import (
    Window,
    face_window,
    fit_detail,
    grid_step,
    read_through,
    soft_inside,
    triangle_map,
)

__all__ = ["Fitted", "Swap", "fit_donor", "open_lips"]

_Image = NDArray[np.uint8]

MOST_TURN = 0.35  # difference in `turn`; beyond it one cheek is made of a few pixels
_INNER_LIPS = slice(60, 68)


@dataclass(frozen=True, eq=False)
class Fitted:
    """A donor's face in the target's place, before it is blended in.

    Shape:
        image, under: (h, w, 3) uint8, the warped donor and the target, in the window.
        alpha: (h, w) float32, how much of the donor is to be seen.
    """

    window: Window
    image: _Image
    under: _Image
    alpha: NDArray[np.float32]


class Swap:
    """Puts the donor's face on the target: triangles between the landmarks, colours matched, soft edge.

    Args:
        height: Lowest and highest upper edge: 0 on the brows, 1 at the hair line; drawn uniformly.
        erode: Least and most distance of the mask from the face's outline, in eye distances.
        feather: Least and most width of the mask's soft edge, in eye distances.
        color: Least and most share of the colour difference that is removed.
        light: Least and most share of the difference in shading that is removed.
    """

    name = "swap"
    needs_donor = True

    def __init__(
        self,
        *,
        height: tuple[float, float] = (0.1, 0.65),
        erode: tuple[float, float] = (0.02, 0.12),
        feather: tuple[float, float] = (0.15, 0.35),
        color: tuple[float, float] = (0.85, 1.0),
        light: tuple[float, float] = (0.3, 0.9),
    ) -> None:
        self.height, self.erode, self.feather = height, erode, feather
        self.color, self.light = color, light

    def __call__(self, target: Portrait, donor: Portrait | None, rng: np.random.Generator) -> Forged:
        """Forge one picture."""
        drawn = draw(
            rng,
            height=self.height,
            erode=self.erode,
            feather=self.feather,
            color=self.color,
            light=self.light,
        )
        fitted = fit_donor(target, donor, **drawn)
        image = target.image.copy()
        window = fitted.window
        window.of(image)[:] = alpha_blend(fitted.image, fitted.under, fitted.alpha)
        mask = np.zeros(image.shape[:2], np.float32)
        window.of(mask)[:] = fitted.alpha
        return Forged(image, mask, target.landmarks, dict(drawn))


def fit_donor(
    target: Portrait,
    donor: Portrait | None,
    *,
    height: float,
    erode: float,
    feather: float,
    color: float = 1.0,
    light: float = 0.5,
) -> Fitted:
    """Warp the donor's face onto the target's landmarks and give it the target's colours.

    Args:
        target: Whose picture it will be.
        donor: Whose face.
        height: Upper edge, see `outline`.
        erode: Distance of the mask from the outline, in eye distances.
        feather: Width of the mask's edge, in eye distances.
        color: Share of the colour difference that is removed.
        light: Share of the difference in shading that is removed.

    Raises:
        Unforgeable: No donor, landmarks missing, a face too small, or heads turned too differently.
    """
    if donor is None:
        raise Unforgeable(f"{target.path}: no donor; give pictures of at least two people", reason="no_donor")
    check_portrait(target)
    check_portrait(donor)
    turned = abs(turn(target.landmarks) - turn(donor.landmarks))
    if turned > MOST_TURN:
        raise Unforgeable(
            f"{target.path}: turned by {turned:.2f} against its donor {donor.path}; expected at most "
            f"{MOST_TURN}. Choose a donor with a similar pose",
            reason="turned_away",
        )
    unit = eye_distance(target.landmarks)
    if _fringe(donor, height):
        height = 0.0  # hair cut off straight above the brows would be seen as another pair of them
    edge = outline(target.landmarks, height)
    window = face_window(edge, target.image.shape, 0.1 * unit)
    image, points = fit_detail(donor.image, donor.landmarks, unit / eye_distance(donor.landmarks))
    here = open_lips(target.landmarks[:68])
    # The outline's upper part comes from the same brows and forehead in both, so that it fits on itself.
    above, theirs = edge[17:], outline(points, height)[17:]
    where = triangle_map(
        np.concatenate([here, above]),
        np.concatenate([points[:68], theirs]),
        window,
        step=grid_step(unit),
        smooth=0.02 * unit,
    )
    warped = np.asarray(read_through(image, where), np.uint8)
    under = np.ascontiguousarray(window.of(target.image), np.uint8)
    alpha = soft_inside(edge, window, erode=erode * unit, feather=feather * unit)
    warped = match_colors(
        warped, under, _skin(target.landmarks, alpha, window), strength=color, light=light, reach=0.35 * unit
    )
    if mouth_opening(target.landmarks) > mouth_opening(donor.landmarks) + 0.06:
        # Lips that were closed cannot be stretched into an open mouth: the target keeps its own inside.
        alpha = alpha * (1 - soft_inside(target.landmarks[_INNER_LIPS], window, erode=0, feather=0.04 * unit))
    return Fitted(window, warped, under, alpha)


def _fringe(face: Portrait, height: float) -> bool:
    """Whether hair hangs into the part of the forehead that would be taken along."""
    above = outline(face.landmarks, height)[19:28].astype(int)  # the line above the brows, without its ends
    nose = face.landmarks[27:31].astype(int)
    tall, wide = face.image.shape[:2]
    light = [
        face.image[np.clip(p[:, 1], 0, tall - 1), np.clip(p[:, 0], 0, wide - 1)].mean(1)
        for p in (above, nose)
    ]
    return bool(np.quantile(light[0], 0.3) < 0.6 * np.median(light[1]))


def open_lips(points: NDArray[np.float32]) -> NDArray[np.float32]:
    """Keep upper and lower inner lip apart by a pixel: closed lips that cross would fold the warp over.

    Shape:
        points: (68, 2). Returns the same.
    """
    points = points.copy()
    down = points[57] - points[51]
    down = down / max(float(np.linalg.norm(down)), 1e-6)
    for upper, lower in ((61, 67), (62, 66), (63, 65)):
        gap = float((points[lower] - points[upper]) @ down)
        if gap < 1:
            points[upper] -= down * (1 - gap) / 2
            points[lower] += down * (1 - gap) / 2
    return points


def _skin(landmarks: NDArray[np.float32], alpha: NDArray[np.float32], window: Window) -> NDArray[np.float32]:
    """Return where colours are compared: the mask without the eyes and the mouth, whose colours differ."""
    weight = alpha.copy()
    for part in (slice(36, 42), slice(42, 48), slice(48, 60)):
        weight *= 1 - soft_inside(landmarks[part], window, erode=0, feather=2)
    return weight
