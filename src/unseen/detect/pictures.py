"""The most suspicious faces as pictures: which to show, and the heat maps drawn on them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from unseen.detect.seeing import Look, Sight
from unseen.detect.timeline import percent
from unseen.detect.verdict import Evidence, Person, Region
from unseen.explain.draw import draw_box, draw_region, encode_jpeg, overlay, shrink
from unseen.types import Explanation

if TYPE_CHECKING:
    from unseen.detect.engine import Engine

__all__ = ["choose", "picture_all"]

LEAST = 640  # pixels, longer side of the picture of a frame; smaller ones are enlarged
FACE = 480  # pixels, longer side of the pictures of a face


@dataclass(frozen=True, eq=False)
class Choice:
    """A face to show."""

    person: Person
    look: Look
    sight: Sight


def choose(people: Sequence[Person], looks: Sequence[Look], number: int) -> list[Choice]:
    """Choose the faces to show: up to three of the most suspicious person, then one each of the next.

    Frames of a person that follow one another look alike, so a second one must lie some way off, if the video
    allows it.
    """
    where = {id(sight.sighting): (seen, sight) for seen in looks for sight in seen.sights}
    ranked = sorted((p for p in people if p.score is not None), key=lambda p: p.score or 0.0, reverse=True)
    span = max((seen.time for seen in looks), default=0.0) / 8
    chosen: list[Choice] = []
    for rank, person in enumerate(ranked):
        room = min(3 if rank == 0 else 1, number - len(chosen))
        taken: list[float] = []
        best = sorted(person.scored, key=lambda s: -math.inf if s.score is None else s.score, reverse=True)
        for apart in (span, 0.0):  # a short appearance may have nothing further off
            for sighting in best:
                known = where.get(id(sighting))
                far = all(abs(sighting.time - time) > apart or apart == 0 for time in taken)
                fresh = all(choice.sight.sighting is not sighting for choice in chosen)
                if (
                    known
                    and known[1].crop
                    and far
                    and fresh
                    and len(taken) < (room if apart else min(1, room))
                ):
                    chosen.append(Choice(person, *known))
                    taken.append(sighting.time)
    return chosen


def picture_all(choices: Sequence[Choice], engine: Engine) -> list[Evidence]:
    """Draw the evidence, with one run of the network for each kind of it."""
    if not choices:
        return []
    inputs = [engine.input_of(choice.sight) for choice in choices]
    images = np.stack([image for image, _ in inputs])
    heats, similar, explained = engine.heat(images), engine.similarity(images), engine.explain(images)
    pieces = []
    for number, (choice, (image, to_input)) in enumerate(zip(choices, inputs, strict=True)):
        heat = None if heats is None else heats[number]
        piece = _draw(choice, image.shape[:2], to_input, heat, explained[number])
        if similar is not None:
            piece.concept = engine.concepts.most_like(similar[number])
        piece.explanations = [
            (found.kind, encode_jpeg(picture))
            for found in explained[number]
            if (picture := _own(found, choice, image.shape[:2], to_input)) is not None
        ]
        pieces.append(piece)
    return pieces


def _draw(
    choice: Choice,
    size: tuple[int, int],
    to_input: NDArray[np.float64],
    heat: NDArray[Any] | None,
    explained: Sequence[Explanation],
) -> Evidence:
    """Draw one face; `to_input` maps a point of the crop to the network's input."""
    crop = choice.sight.image()
    to_crop = np.vstack([choice.sight.to_crop, [0, 0, 1]])
    matrix = to_input @ to_crop
    regions = _regions(explained, matrix)
    piece = Evidence(
        choice.person.id,
        choice.sight.sighting,
        frame_picture=_frame(choice, regions or []),
        face_picture=encode_jpeg(shrink(crop, FACE)),
        matrix=np.round(matrix, 6).tolist(),
        input_size=size,
        regions=regions,
    )
    # At the size it is shown in, so that the outline stays a fine line.
    small = shrink(crop, FACE)
    ratio = small.shape[1] / crop.shape[1]
    if regions:
        shown = small
        for region in reversed(regions):  # the most certain on top
            points = np.array(region.corners) @ to_crop[:2, :2].T + to_crop[:2, 2]
            shown = draw_region(shown, (points + 0.5) * ratio - 0.5, percent(region.score))
        piece.region_picture = encode_jpeg(shown)
    if heat is not None:
        piece.heatmap = np.round(heat.astype(np.float64), 3).tolist()
        piece.heat_picture = encode_jpeg(_heated(choice, heat, size, to_input))
    return piece


def _own(
    found: Explanation, choice: Choice, size: tuple[int, int], to_input: NDArray[np.float64]
) -> NDArray[np.uint8] | None:
    """Return what a detector has to show of its own: a picture, or a map such as attention, on the face."""
    if found.image is not None:
        return _enlarged(found.image)
    return None if found.heatmap is None else _heated(choice, found.heatmap, size, to_input)


def _heated(
    choice: Choice, heat: NDArray[Any], size: tuple[int, int], to_input: NDArray[np.float64]
) -> NDArray[np.uint8]:
    """Return the face under a map of the network's input, at the size it is shown in."""
    crop = choice.sight.image()
    small = shrink(crop, FACE)
    ratio = small.shape[1] / crop.shape[1]
    to_small = np.array([[1 / ratio, 0, 0.5 / ratio - 0.5], [0, 1 / ratio, 0.5 / ratio - 0.5], [0, 0, 1]])
    return overlay(small, heat, to_input @ to_small, size)


def _regions(explained: Sequence[Explanation], matrix: NDArray[np.float64]) -> list[Region] | None:
    """Bring boxes of the network's input to the frame; None if the detector looks for none."""
    told = [found for found in explained if found.boxes is not None and found.scores is not None]
    if not told:
        return None
    back = np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))[:2]
    regions = []
    for found in told:
        assert found.boxes is not None and found.scores is not None
        for box, score in zip(found.boxes, found.scores, strict=True):
            corners = box[[0, 1, 2, 1, 2, 3, 0, 3]].reshape(4, 2) @ back[:, :2].T + back[:, 2]
            points = tuple((round(float(x), 2), round(float(y), 2)) for x, y in corners)
            regions.append(Region(points, round(float(score), 4)))
    return sorted(regions, key=lambda region: -region.score)


def _enlarged(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Bring what a network was shown to the size of the other pictures."""
    grow = FACE / max(picture.shape[:2])
    return picture if grow <= 1 else np.asarray(cv2.resize(picture, None, fx=grow, fy=grow), np.uint8)


def _frame(choice: Choice, regions: Sequence[Region]) -> bytes:
    """The small copy of the frame: a full box around this face and its forged parts, corners round others."""
    if not choice.look.preview:
        return b""
    picture = cv2.imdecode(np.frombuffer(choice.look.preview, np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None  # we wrote it
    canvas = np.ascontiguousarray(picture[..., ::-1], np.uint8)
    scale = choice.look.preview_scale
    if max(canvas.shape[:2]) < LEAST:  # lines and letters would look coarse on a small frame
        grow = LEAST / max(canvas.shape[:2])
        canvas = np.asarray(cv2.resize(canvas, None, fx=grow, fy=grow), np.uint8)
        scale *= grow
    own = choice.sight.sighting
    for other in choice.look.sightings:
        if other is not own:
            canvas = draw_box(canvas, np.array(other.box) * scale, dashed=True)
    for region in reversed(regions):
        canvas = draw_region(canvas, np.array(region.corners) * scale, percent(region.score))
    label = f"person {choice.person.id}: {percent(own.probability)}"
    return encode_jpeg(draw_box(canvas, np.array(own.box) * scale, label))
