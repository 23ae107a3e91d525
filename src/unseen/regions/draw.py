"""Pictures of primary regions: masks that grow with alpha (Figure 7), and what they do to AUC (Figure 8)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from html import escape

import cv2
import numpy as np
from numpy.typing import NDArray

from unseen.data.dataset import read_crop
from unseen.data.transforms import Transform
from unseen.explain.draw import heat_colors, shrink
from unseen.methods.prle import PrimaryRegionMask
from unseen.regions.measure import AlphaScore
from unseen.types import FaceRecord

__all__ = ["alpha_curve", "alpha_sheet"]

Picture = NDArray[np.uint8]


def alpha_sheet(
    records: Sequence[FaceRecord],
    regions: str,
    *,
    alphas: Sequence[float] = (0.1, 0.3, 0.5, 0.7, 0.9, 1.0),
    transforms: Sequence[Transform] = (),
    side: int = 160,
) -> Picture:
    """Draw a row a face: the crop, its ranks (yellow goes first), the crop erased by each alpha; Figure 7.

    Args:
        records: Faces with maps in the store.
        regions: The store.
        alphas: Shares of the region.
        transforms: Applied to the erased faces, such as a detector's own alignment.
        side: Of one picture, in pixels.

    Shape:
        Result: (rows * (side + 2), columns * (side + 2), 3) and a line of numbers on top.
    """
    mask = PrimaryRegionMask(regions)
    mask.check(records)
    rows = []
    for record in records:
        crop = read_crop(record)
        found = mask.store.find(record)
        assert found is not None
        ranks = found.attention(crop.image.shape[:2])
        heat = np.where(ranks > 0, (256.0 - ranks) / 255, 0)[..., None]
        heated = np.rint(crop.image * (1 - 0.6 * (heat > 0)) + heat_colors(heat[..., 0]) * 0.6 * (heat > 0))
        plain = [crop, replace(crop, image=np.asarray(heated, np.uint8))]
        erased = [mask.always(alpha)(crop, np.random.default_rng(0)) for alpha in alphas]
        cells = []
        for sample in [*plain, *erased]:
            for transform in transforms:
                sample = transform(sample, np.random.default_rng(0))
            cells.append(_tile(np.asarray(sample.image, np.uint8), side))
        rows.append(np.concatenate(cells, 1))
    names = ["crop", "ranks", *(f"alpha {alpha:g}" for alpha in alphas)]
    return np.concatenate([_titles(names, side), *rows], 0)


def _tile(image: Picture, side: int) -> Picture:
    """Return a picture inside a white square of `side` pixels and a thin rim."""
    small = shrink(image, side)
    tile = np.full((side + 2, side + 2, 3), 255, np.uint8)
    top, left = (side - small.shape[0]) // 2, (side - small.shape[1]) // 2
    tile[top : top + small.shape[0], left : left + small.shape[1]] = small
    return tile


def _titles(names: Sequence[str], side: int) -> Picture:
    line = np.full((20, len(names) * (side + 2), 3), 255, np.uint8)
    for i, name in enumerate(names):
        cv2.putText(
            line, name, (i * (side + 2) + 2, 14), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (0, 0, 0), 1, cv2.LINE_AA
        )
    return line


def alpha_curve(scores: Sequence[AlphaScore], name: str, *, width: int = 520, height: int = 320) -> str:
    """Draw AUC against alpha as SVG, Figure 8.

    Args:
        scores: From `scores_by_alpha`.
        name: Of the detector.
        width: In pixels.
        height: In pixels.
    """
    left, right, top, bottom = 52, width - 16, 34, height - 44
    known = [s for s in scores if np.isfinite(s.auc)]
    low = min([s.auc for s in known], default=0.5)
    low, high = min(0.5, np.floor(low * 10) / 10), 1.0

    def at(alpha: float, value: float) -> str:
        x = left + (right - left) * alpha
        y = bottom - (bottom - top) * (value - low) / (high - low)
        return f"{x:.1f},{y:.1f}"

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" '
        'font-size="12"><rect width="100%" height="100%" fill="#fff"/>',
        f'<text x="{left}" y="20">AUC of {escape(name)}, {scores[0].faces} faces, against the share of their '
        "primary region that is erased</text>",
    ]
    for value in np.arange(low, high + 1e-9, 0.1):
        start, end = at(0, value), at(1, value)
        parts.append(f'<path d="M{start} L{end}" stroke="#ddd"/>')
        parts.append(f'<text x="{left - 8}" y="{start.split(",")[1]}" text-anchor="end">{value:.1f}</text>')
    for alpha in (0, 0.25, 0.5, 0.75, 1):
        x = at(alpha, low).split(",")[0]
        parts.append(f'<text x="{x}" y="{bottom + 18}" text-anchor="middle">{alpha:g}</text>')
    parts.append(f'<text x="{(left + right) / 2:.0f}" y="{height - 8}" text-anchor="middle">alpha</text>')
    line = " L".join(at(s.alpha, s.auc) for s in known)
    parts.append(f'<path d="M{line}" fill="none" stroke="#31688e" stroke-width="2"/>' if known else "")
    dots = (at(s.alpha, s.auc).split(",") for s in known)
    parts += [f'<circle cx="{x}" cy="{y}" r="3.5" fill="#31688e"/>' for x, y in dots]
    return "".join(parts) + "</svg>\n"
