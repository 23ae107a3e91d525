"""Where a detector is wrong: reals called fake and fakes called real (RealID, Figure 1).

A detector that learned fakes only calls unusual real faces fake; the nearest real training faces show
whether it knew any like them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from unseen.data.dataset import read_crop
from unseen.evaluate.aggregate import Aggregate
from unseen.evaluate.scores import ScoreTable
from unseen.explain.draw import tile
from unseen.explain.faces import FaceFeatures
from unseen.types import FaceRecord, InputError, Label

__all__ = ["Errors", "Near", "balance_sheet", "error_balance", "nearest_reals", "worst_faces"]

Picture = NDArray[np.uint8]


@dataclass(frozen=True)
class Errors:
    """How often one kind of face is called wrong at a threshold.

    Args:
        dataset: Its name.
        method: Who forged them, or `real`.
        label: `real` or `fake`.
        videos: How many there are; a row without a video is one.
        wrong_videos: How many have a mean score on the wrong side.
        faces: How many there are.
        wrong_faces: How many have a score on the wrong side.
        score: Mean score of the faces.
    """

    dataset: str
    method: str
    label: str
    videos: int
    wrong_videos: int
    faces: int
    wrong_faces: int
    score: float

    @property
    def rate(self) -> float:
        """Share of videos that are called wrong."""
        return self.wrong_videos / self.videos

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self) | {"rate": round(self.rate, 5)}


def error_balance(features: FaceFeatures, threshold: float, *, aggregate: Aggregate = "mean") -> list[Errors]:
    """Count what is called wrong, by data set and method, reals first.

    Args:
        features: Labelled rows; others are left out.
        threshold: In log-odds; a score at or above it is called fake.
        aggregate: How frames become a video's score.

    Raises:
        InputError: No row has a label.
    """
    table = ScoreTable.from_records(features.records, features.score.tolist(), name="explain")
    levels = {"videos": table.videos(aggregate), "faces": table.frames()}
    counts: dict[tuple[str, int, str], dict[str, list[bool]]] = {}
    scores: dict[tuple[str, int, str], list[float]] = {}
    for level, frame in levels.items():
        for row in frame.iter_rows(named=True):
            label = int(row["label"])
            method = "real" if label == Label.REAL else row["method"] or "unknown"
            key = (row["dataset"] or "", label, method)
            wrong = (row["score"] >= threshold) != (label == Label.FAKE)
            counts.setdefault(key, {"videos": [], "faces": []})[level].append(wrong)
            if level == "faces":
                scores.setdefault(key, []).append(float(row["score"]))
    if not counts:
        raise InputError(
            "error balance: no face has a label (column `label`, 0 real or 1 fake)", reason="empty"
        )
    return [
        Errors(
            dataset,
            method,
            Label(label).name.lower(),
            len(found["videos"]),
            sum(found["videos"]),
            len(found["faces"]),
            sum(found["faces"]),
            round(float(np.mean(scores[dataset, label, method])), 4),
        )
        for (dataset, label, method), found in sorted(counts.items())
    ]


def worst_faces(features: FaceFeatures, label: Literal["real", "fake"], most: int = 8) -> list[int]:
    """Return the rows that are most wrong: reals with the highest scores, or fakes with the lowest.

    Of each person only the worst face counts, or of each video where people are not named.
    """
    side = -1 if label == "real" else 1
    chosen: list[int] = []
    known: set[tuple[str, str]] = set()
    for row in np.argsort(side * features.score, kind="stable").tolist():
        record = features.records[row]
        who = (record.dataset, record.identity or record.video or record.path)
        if record.label == Label[label.upper()] and who not in known:
            known.add(who)
            chosen.append(row)
        if len(chosen) == most:
            break
    return chosen


@dataclass(frozen=True, eq=False)
class Near:
    """A real training face that is like another face.

    Args:
        record: Of the training face.
        similarity: Cosine of the two features.
    """

    record: FaceRecord
    similarity: float


def nearest_reals(vector: NDArray[Any], train: FaceFeatures, most: int = 4) -> list[list[Near]]:
    """Return for each face the real training faces with the most similar features, one a person.

    Args:
        vector: Features of faces.
        train: The same detector's features of training faces; fakes among them are left out.
        most: At most so many.

    Raises:
        InputError: No training face is real.

    Shape:
        vector: (N, D).
    """
    real = train.where([record.label == Label.REAL for record in train.records])
    if not real.records:
        raise InputError("nearest reals: no training face has the label real", reason="empty")
    similar = _unit(vector) @ _unit(real.vector).T  # (N, M)
    found = []
    for row in similar:
        near: list[Near] = []
        known: set[tuple[str, str]] = set()
        for place in np.argsort(-row, kind="stable").tolist():
            record = real.records[place]
            who = (record.dataset, record.identity or record.video or record.path)
            if who not in known:
                known.add(who)
                near.append(Near(record, float(row[place])))
            if len(near) == most:
                break
        found.append(near)
    return found


def _unit(vector: NDArray[Any]) -> NDArray[np.float64]:
    vector = np.asarray(vector, np.float64)
    return np.asarray(vector / np.maximum(np.linalg.norm(vector, axis=1, keepdims=True), 1e-12))


def balance_sheet(
    features: FaceFeatures, rows: Sequence[int], near: Sequence[Sequence[Near | Picture]], *, side: int = 128
) -> Picture:
    """Draw a row a face: the face with its score, then the training faces it is most like.

    Args:
        features: The faces.
        rows: Which of them, see `worst_faces`.
        near: For each, see `nearest_reals`; or ready pictures, as a run keeps of its concepts; or nothing.
        side: Of one picture, in pixels.

    Raises:
        InputError: There is nothing to draw, or a crop cannot be read.
    """
    if not rows:
        raise InputError("no face to draw", reason="empty")
    wide = 1 + max((len(some) for some in near), default=0)
    lines = []
    for place, row in enumerate(rows):
        record = features.records[row]
        cells = [tile(read_crop(record).image, f"score {features.score[row]:+.2f}", side)]
        for one in near[place] if place < len(near) else ():
            if isinstance(one, Near):
                cells.append(tile(read_crop(one.record).image, f"cos {one.similarity:.2f}", side))
            else:
                cells.append(tile(one, "", side))
        cells += [tile(None, "", side)] * (wide - len(cells))
        lines.append(np.concatenate(cells, 1))
    return np.concatenate(lines, 0)
