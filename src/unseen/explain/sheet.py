"""Evidence about faces as pictures: a file's faces on their own frames, many faces on one contact sheet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from unseen.explain.draw import draw_box, draw_region, legend, overlay, shrink, tile
from unseen.explain.evidence import Seen
from unseen.types import Explanation

__all__ = ["contact_sheet", "evidence_pictures", "scale_bar"]

Picture = NDArray[np.uint8]
WIDE = 1000  # pixels that a contact sheet is wide if it can be
TITLES = {
    "gradcam": "Grad-CAM",
    "regions": "forged regions",
    "residual": "residual",
    "reconstruction": "repainted",
    "prototypes": "real concepts",
}
ENDS = {  # what the two ends of the scale mean
    "gradcam": ("no effect", "speaks for fake"),
    "residual": ("as reals have it", "unlike reals"),
}


def evidence_pictures(
    seen: Seen, *, side: int = 960, concepts: Sequence[Sequence[Picture]] = ()
) -> dict[str, Picture]:
    """Draw each piece of evidence on the original frame, by its name.

    A heat map gets the scale of its colours below it. What has no place in the frame, such as a repainted
    face, is a picture of its own.

    Args:
        seen: The face and its evidence.
        side: Longer side of the drawn frame, in pixels; larger frames are shrunk.
        concepts: Training faces of each real concept, if the run kept some.

    Shape:
        Each picture: (H, W, 3).
    """
    frame, matrix = _at_size(seen, side)
    pictures: dict[str, Picture] = {}
    for told in seen.found.values():
        for one in told:
            name = one.kind
            if one.heatmap is not None:
                drawn = overlay(frame, one.heatmap, matrix, seen.view.size)
                if seen.view.box is not None:
                    ratio = frame.shape[1] / seen.view.frame.shape[1]
                    drawn = draw_box(drawn, seen.view.box * ratio, f"score {seen.score:+.2f}")
                low, high = ENDS.get(name, ("looked at least", "looked at most"))
                pictures[name] = np.concatenate([drawn, scale_bar(drawn.shape[1], low, high)], 0)
            elif one.boxes is not None:
                pictures[name] = _boxes(frame, matrix, one)
            elif one.image is not None:
                pictures[name] = np.asarray(one.image, np.uint8)
            elif one.scores is not None:
                pictures[name] = concept_bars(one.scores, concepts)
    return pictures


def contact_sheet(
    many: Sequence[Seen], *, side: int = 160, concepts: Sequence[Sequence[Picture]] = ()
) -> Picture:
    """Draw a row a face: the face, then each kind of evidence on it; titles above, the scale below.

    Where the forged region is known, its edge is drawn on the face.

    Shape:
        Result: (H, W, 3).
    """
    names: list[str] = []
    for seen in many:
        names += [one.kind for told in seen.found.values() for one in told if one.kind not in names]
    heats = any(one.heatmap is not None for seen in many for told in seen.found.values() for one in told)
    rows: list[Picture] = []
    for seen in many:
        frame, matrix = _at_size(seen, side)
        drawn = {"face": _outlined(frame, matrix, seen)}
        for told in seen.found.values():
            for one in told:
                if one.heatmap is not None:
                    drawn[one.kind] = overlay(frame, one.heatmap, matrix, seen.view.size)
                elif one.boxes is not None:
                    drawn[one.kind] = _boxes(frame, matrix, one, label=False)
                elif one.image is not None:
                    drawn[one.kind] = np.asarray(one.image, np.uint8)
                elif one.scores is not None:
                    drawn[one.kind] = concept_bars(one.scores, concepts, height=side)
        record = seen.view.record
        what = "" if record.label is None else ("real" if record.label == 0 else record.method or "fake")
        captions = [f"{what} {seen.score:+.2f}", *(_trusted(seen, name) for name in names)]
        cells = [
            tile(drawn.get(name), text, side) for name, text in zip(["face", *names], captions, strict=True)
        ]
        rows.append(np.concatenate(cells, 1))
    title = _titles(["face", *names], side)
    across = max(1, min(WIDE // title.shape[1], len(rows)))  # narrow rows stand side by side
    rows += [np.full_like(rows[0], 255)] * (-len(rows) % across)
    lines = [np.concatenate([title] * across, 1)]
    lines += [np.concatenate(rows[i : i + across], 1) for i in range(0, len(rows), across)]
    if heats:
        lines.append(scale_bar(lines[0].shape[1], "least", "most"))
    return np.concatenate(lines, 0)


def scale_bar(width: int, low: str, high: str) -> Picture:
    """Return a strip with the scale of colours between the words for its two ends. Shape: (26, width, 3)."""
    strip = np.full((26, width, 3), 255, np.uint8)
    font, size = cv2.FONT_HERSHEY_SIMPLEX, 0.42
    (left, _), _ = cv2.getTextSize(low, font, size, 1)
    (right, _), _ = cv2.getTextSize(high, font, size, 1)
    bar = min(220, width - left - right - 24)
    cv2.putText(strip, low, (4, 17), font, size, (0, 0, 0), 1, cv2.LINE_AA)
    if bar < 20:  # too narrow for both words: the scale alone still has its ends
        return strip
    start = left + 10
    strip[6:20, start : start + bar] = legend(bar, 14)
    cv2.putText(strip, high, (start + bar + 6, 17), font, size, (0, 0, 0), 1, cv2.LINE_AA)
    return strip


def concept_bars(
    scores: NDArray[Any], concepts: Sequence[Sequence[Picture]] = (), *, height: int = 240
) -> Picture:
    """Draw the likeness to each real concept as bars from cosine 0 to 1, the highest dark.

    Training faces of the most similar concept stand beside them.

    Shape:
        scores: (K,). Result: (height, W, 3).
    """
    step = max(6, (height - 24) // max(1, len(scores)))
    canvas = np.full((height, 260 if height > 200 else height, 3), 255, np.uint8)
    best = int(np.argmax(scores))
    reach = canvas.shape[1] - 40
    for number, score in enumerate(scores):
        y = 10 + number * step
        end = 26 + round(reach * float(np.clip(score, 0, 1)))
        color = (68, 1, 84) if number == best else (140, 170, 200)  # the dark end of viridis
        cv2.rectangle(canvas, (26, y), (end, y + max(2, step - 4)), color, -1)
        cv2.putText(
            canvas,
            str(number + 1),
            (3, y + step - 4),
            cv2.FONT_HERSHEY_SIMPLEX,
            0.34,
            (0, 0, 0),
            1,
            cv2.LINE_AA,
        )
    text = f"most like {best + 1}: {float(scores[best]):.2f}"
    cv2.putText(canvas, text, (26, height - 4), cv2.FONT_HERSHEY_SIMPLEX, 0.36, (0, 0, 0), 1, cv2.LINE_AA)
    if height <= 200 or best >= len(concepts):
        return canvas
    tiles = [tile(picture, "", height // 2 - 24) for picture in concepts[best][:4]]
    rows = [tiles[i : i + 2] for i in range(0, len(tiles), 2)]
    if not rows:
        return canvas
    blank = np.full_like(tiles[0], 255)
    block = np.concatenate([np.concatenate([*row, blank][:2], 1) for row in rows], 0)[:height]
    side = np.full((height, block.shape[1], 3), 255, np.uint8)
    side[: block.shape[0]] = block
    return np.concatenate([canvas, side], 1)


def _at_size(seen: Seen, side: int) -> tuple[Picture, NDArray[np.float64]]:
    """Return the frame as it is shown, and how its pixels lead to the input."""
    frame = shrink(seen.view.frame, side)
    ratio = np.array([frame.shape[1] / seen.view.frame.shape[1], frame.shape[0] / seen.view.frame.shape[0]])
    # Whole numbers are centres of pixels, before and after.
    grow = np.vstack([np.column_stack([np.diag(1 / ratio), 0.5 / ratio - 0.5]), [0, 0, 1]])
    return frame, seen.view.matrix @ grow


def _boxes(frame: Picture, matrix: NDArray[np.float64], one: Explanation, *, label: bool = True) -> Picture:
    assert one.boxes is not None
    back = cv2.invertAffineTransform(matrix)
    scores = np.ones(len(one.boxes)) if one.scores is None else one.scores
    drawn = frame.copy()
    for box, score in reversed(list(zip(one.boxes, scores, strict=True))):  # the most certain on top
        corners = box[[0, 1, 2, 1, 2, 3, 0, 3]].reshape(4, 2) @ back[:, :2].T + back[:, 2]
        drawn = draw_region(drawn, corners, f"{100 * float(score):.0f} %" if label else "")
    return drawn


def _outlined(frame: Picture, matrix: NDArray[np.float64], seen: Seen) -> Picture:
    """Return the face with the edge of what is forged, if that is known."""
    if seen.view.mask is None:
        return frame
    canvas = (frame.shape[1], frame.shape[0])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    there = (cv2.warpAffine(seen.view.mask, matrix, canvas, flags=flags) > 0.5).astype(np.uint8)
    edges, _ = cv2.findContours(there, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    drawn = frame.copy()
    cv2.drawContours(drawn, edges, -1, (0, 0, 0), 2)
    cv2.drawContours(drawn, edges, -1, (255, 255, 255), 1)
    return drawn


def _trusted(seen: Seen, name: str) -> str:
    """Say in short what the evidence is worth: overlap with the forged region."""
    for kind, told in seen.found.items():
        trust = seen.trust.get(kind)
        if told and told[0].kind == name and trust is not None and trust.iou is not None:
            return f"IoU {trust.iou:.2f}{', peak in' if trust.inside else ''}"
    return ""


def _titles(names: Sequence[str], side: int) -> Picture:
    cells = []
    for name in names:
        cell = np.full((20, side + 4, 3), 255, np.uint8)
        text = TITLES.get(name, name)
        cv2.putText(cell, text, (3, 14), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (0, 0, 0), 1, cv2.LINE_AA)
        cells.append(cell)
    return np.concatenate(cells, 1)
