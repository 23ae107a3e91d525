"""How good a detector is on validation people, while it is trained."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from unseen.evaluate.metrics import auc
from unseen.models.detector import Detector
from unseen.types import FaceBatch, FaceRecord

__all__ = ["ValidationScores", "score_validation"]


@dataclass(frozen=True, eq=False)
class ValidationScores:
    """One score a validation face.

    Shape:
        score: (N,) float64 log-odds. label: (N,) int64. records: N.
    """

    score: NDArray[np.float64]
    label: NDArray[np.int64]
    records: list[FaceRecord]

    def videos(self) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Return the mean score of each video and its label; a real video and fakes made of it are two."""
        groups: dict[tuple[str, str, int], list[float]] = {}
        for value, label, record in zip(self.score, self.label, self.records, strict=True):
            groups.setdefault((record.dataset, record.video or record.path, int(label)), []).append(
                float(value)
            )
        return np.array([np.mean(v) for v in groups.values()]), np.array([key[2] for key in groups])

    def metrics(self) -> dict[str, float]:
        """Return frame and video AUC, and the log loss before calibration."""
        score, label = self.videos()
        signed = np.where(self.label == 1, -self.score, self.score)
        return {
            "val_auc": auc(self.score, self.label),
            "val_video_auc": auc(score, label),
            "val_log_loss": float(np.logaddexp(0, signed).mean()) if signed.size else float("nan"),
        }


@torch.inference_mode()
def score_validation(
    detector: Detector,
    batches: Iterable[FaceBatch | None],
    *,
    device: torch.device,
    precision: str = "32-true",
    channels_last: bool = False,
) -> ValidationScores:
    """Score every face once, in evaluation mode; the detector's mode is put back afterwards.

    Args:
        detector: What is judged.
        batches: From `FaceBatches`; None stands for a batch without a usable face.
        device: Where the detector lies.
        precision: As in training.
        channels_last: As in training.
    """
    was_training = detector.training
    detector.eval()
    scores: list[torch.Tensor] = []
    labels: list[torch.Tensor] = []
    records: list[FaceRecord] = []
    for batch in batches:
        if batch is None:
            continue
        there = batch.to(device)
        image = there.image
        if channels_last:
            image = image.contiguous(memory_format=torch.channels_last)
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16-mixed"):
            score = detector(image).score
        scores.append(score.double().cpu())
        labels.append(batch.label)
        records += batch.records
    detector.train(was_training)
    if not scores:
        return ValidationScores(np.zeros(0), np.zeros(0, np.int64), [])
    return ValidationScores(torch.cat(scores).numpy(), torch.cat(labels).numpy(), records)
