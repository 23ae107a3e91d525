"""How much identity a detector knows and uses (Dong et al., Implicit Identity Leakage, CVPR 2023, section 3).

Three questions, from knowing to using. Can people be told apart by the frozen features, by a linear layer
(`identity_probe`)? How much of what scores differ by within a class is who the person is (`identity_share`)?
Do scores come from the face as a whole, and does that help (`Interactions`, Table 1)?
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from unseen.evaluate.metrics import auc
from unseen.explain.faces import evenly, face_batches, face_features
from unseen.explain.identity import Probe, Share, Which, identity_probe, identity_share
from unseen.explain.shapley import Baseline, Worth, interaction
from unseen.types import FaceRecord, InputError

if TYPE_CHECKING:
    from unseen.data.transforms import Transform
    from unseen.models.detector import Detector

__all__ = [
    "DatasetLeakage",
    "Interactions",
    "Probe",
    "Share",
    "identity_probe",
    "identity_share",
    "interactions",
    "measure_leakage",
]


@dataclass(frozen=True)
class Interactions:
    """Table 1: the interaction of all cells as a score of fake.

    Args:
        auc: Of the interaction; above 0.5 what the face says as a whole points to the right class.
        score_auc: Of the detector's own scores of the same faces.
        real: Mean interaction of real faces.
        fake: Mean interaction of fakes.
        faces: How many.
    """

    auc: float
    score_auc: float
    real: float
    fake: float
    faces: int


def interactions(
    detector: Detector,
    records: Sequence[FaceRecord],
    transforms: Sequence[Transform] = (),
    *,
    grid: int = 16,
    baseline: Baseline = "mean",
    output: Worth = "logit",
    batch_size: int = 64,
    report: Callable[[int, int], None] | None = None,
) -> tuple[Interactions, list[tuple[FaceRecord, float, float]]]:
    """Compute the interaction of every labelled face, and its AUC.

    Args:
        detector: It stays where it is.
        records: Rows without a label are left out.
        transforms: The recipe's.
        grid: See `interaction`, as `baseline` and `output`.
        baseline: What hides a cell.
        output: What of the detector.
        batch_size: Pictures at a time.
        report: Called with (faces done, faces in all).

    Returns:
        The summary, and each face with its interaction and score.

    Raises:
        InputError: No face can be used.
    """
    import torch

    labelled = [record for record in records if record.label is not None]
    device = next(detector.parameters()).device
    rows: list[tuple[FaceRecord, float, float]] = []
    with torch.inference_mode():
        for image, samples in face_batches(labelled, transforms, batch_size=1):
            face = image.to(device)
            found = interaction(
                detector, face, grid=grid, baseline=baseline, output=output, batch_size=batch_size
            )
            was, _ = detector.training, detector.eval()
            score = float(detector(face).score)
            detector.train(was)
            rows.append((samples[0].record, float(found), score))
            if report is not None:
                report(len(rows), len(labelled))
    if not rows:
        raise InputError(f"interactions: none of {len(records)} faces can be used", reason="empty")
    label = np.array([int(record.label or 0) for record, _, _ in rows])
    value, score_all = (np.array([row[i] for row in rows]) for i in (1, 2))
    real, fake = (
        float(value[label == kind].mean()) if (label == kind).any() else float("nan") for kind in (0, 1)
    )
    return Interactions(auc(value, label), auc(score_all, label), real, fake, len(rows)), rows


@dataclass(frozen=True)
class DatasetLeakage:
    """What one data set says of a detector's use of identity; None where it cannot say.

    Args:
        dataset: Its name.
        trained_on: Whether the detector was; None if its run does not say.
        probe: Knows.
        share: Uses.
        whole: Judges by the face as a whole.
        notes: Why something is None.
    """

    dataset: str
    trained_on: bool | None
    probe: Probe | None
    share: Share | None
    whole: Interactions | None
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def measure_leakage(
    detector: Detector,
    records: Sequence[FaceRecord],
    transforms: Sequence[Transform] = (),
    *,
    trained_on: Collection[str] | None = None,
    which: Which = "real",
    epochs: int = 100,
    limit: int | None = 200,
    grid: int = 16,
    baseline: Baseline = "mean",
    output: Worth = "logit",
    batch_size: int = 64,
    seed: int = 0,
    report: Callable[[str], Callable[[int, int], None] | None] | None = None,
) -> list[DatasetLeakage]:
    """Ask all three questions of each data set among the rows.

    Args:
        detector: It stays where it is.
        records: Rows with labels and identities.
        transforms: The recipe's.
        trained_on: Names of the data sets that the detector learned from.
        which: Faces that the probe sees, see `identity_probe`.
        epochs: Of the probe.
        limit: Faces a data set whose interaction is computed, the dear part; 0 for none, None for all.
        grid: See `interaction`, as `baseline` and `output`.
        baseline: What hides a cell.
        output: What of the detector.
        batch_size: Pictures at a time.
        seed: Of the probe and the shuffles.
        report: Called with what begins (a data set's name and the step); gives a function of (done, in all).
    """
    tell = report or (lambda _: None)
    found = []
    for dataset in sorted({record.dataset for record in records}):
        rows = [record for record in records if record.dataset == dataset]
        notes: list[str] = []
        features = face_features(
            detector, rows, transforms, batch_size=batch_size, report=tell(f"{dataset or 'rows'}: features")
        )
        probe: Probe | None = None
        share: Share | None = None
        whole: Interactions | None = None
        try:
            probe = identity_probe(features, which=which, epochs=epochs, seed=seed)
        except InputError as error:
            notes.append(str(error))
        labelled = features.where([record.label is not None for record in features.records])
        try:
            share = identity_share(
                labelled.score,
                [record.identity for record in labelled.records],
                [int(record.label or 0) for record in labelled.records],
                seed=seed,
            )
        except InputError as error:
            notes.append(str(error))
        some = evenly(labelled.records, limit)
        if some:
            whole, _ = interactions(
                detector,
                some,
                transforms,
                grid=grid,
                baseline=baseline,
                output=output,
                batch_size=batch_size,
                report=tell(f"{dataset or 'rows'}: interaction"),
            )
        home = None if trained_on is None else dataset in trained_on
        found.append(DatasetLeakage(dataset, home, probe, share, whole, tuple(notes)))
    return found
