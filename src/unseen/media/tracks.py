"""One person through a video's sampled frames, by where the face is: no identity model.

Two faces in neighbouring frames may be the same person when their boxes overlap, or lie close by for their
size and are about equally large. The pairing of a frame with the tracks so far is the best overall (Hungarian
method), so that two people who pass each other do not both go to one. A cut to another person in the same
place cannot be told from one person.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from unseen.media.faces import Face

__all__ = ["Track", "follow", "likeness"]


@dataclass
class Track:
    """Where one person's face was seen."""

    id: int
    positions: list[tuple[int, int]] = field(default_factory=list)  # (which frame, which face in that frame)


def likeness(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return how likely it is that two boxes hold the same face, from their place and size alone.

    Intersection over union, plus one minus the distance of the centres in mean sides, times the ratio of the
    sides. It is 2 for equal boxes and at most 0 for boxes a side apart that do not touch.

    Shape:
        a: (N, 4), b: (M, 4), x0 y0 x1 y1 in pixels. Returns: (N, M).
    """
    a, b = a[:, None].astype(np.float64), b[None].astype(np.float64)
    shared = np.prod(
        np.maximum(np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2]), 0), axis=-1
    )
    area_a, area_b = (np.prod(x[..., 2:] - x[..., :2], axis=-1) for x in (a, b))
    overlap = shared / np.maximum(area_a + area_b - shared, 1e-9)
    side_a, side_b = (np.sqrt(np.maximum(area, 1e-9)) for area in (area_a, area_b))
    centres = (a[..., :2] + a[..., 2:] - b[..., :2] - b[..., 2:]) / 2
    distance = np.linalg.norm(centres, axis=-1) / ((side_a + side_b) / 2)
    ratio = np.minimum(side_a, side_b) / np.maximum(side_a, side_b)
    result: NDArray[np.float64] = overlap + (1 - distance) * ratio
    return result


def follow(
    frames: Sequence[Sequence[Face]], *, patience: int = 4, least_likeness: float = 0.35
) -> list[Track]:
    """Follow each person through the sampled frames of a video.

    Args:
        frames: The faces of each sampled frame, in the order of time.
        patience: In how many sampled frames in a row a face may be missing.
        least_likeness: Least `likeness` of two boxes of one person, 0 to 2.

    Returns:
        Tracks ordered by how much of the video they fill: frames seen, then summed area. Their ids are their
        places in this order. Each face belongs to one track.
    """
    tracks: list[Track] = []
    for now, faces in enumerate(frames):
        open_tracks = [track for track in tracks if now - track.positions[-1][0] <= patience + 1]
        free = set(range(len(faces)))
        if open_tracks and faces:
            last = [track.positions[-1] for track in open_tracks]
            boxes = np.stack([frames[i][j].box for i, j in last])
            score = likeness(boxes, np.stack([face.box for face in faces]))
            # What may not be paired is worth nothing, so that the best pairing never buys it.
            worth = np.where(score >= least_likeness, score, 0.0)
            for row, column in _best_pairs(worth):
                if worth[row, column] > 0:
                    open_tracks[row].positions.append((now, column))
                    free.discard(column)
        tracks.extend(Track(0, [(now, position)]) for position in sorted(free))

    def area(track: Track) -> float:
        return float(sum(np.prod(frames[i][j].box[2:] - frames[i][j].box[:2]) for i, j in track.positions))

    tracks.sort(key=lambda track: (-len(track.positions), -area(track)))
    for position, track in enumerate(tracks):
        track.id = position
    return tracks


def _best_pairs(worth: NDArray[np.float64]) -> list[tuple[int, int]]:
    """Pair rows with columns so that the sum is largest."""
    if min(worth.shape) == 1:  # nearly every video: no second of start-up for scipy
        row, column = np.unravel_index(int(worth.argmax()), worth.shape)
        return [(int(row), int(column))]
    from scipy.optimize import linear_sum_assignment

    return [
        (int(row), int(column))
        for row, column in zip(*linear_sum_assignment(worth, maximize=True), strict=True)
    ]
