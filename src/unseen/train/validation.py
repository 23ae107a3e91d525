"""How good a detector is on validation people, while it is trained."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from unseen.data.dataset import FaceDataset
from unseen.data.residuals import ResidualStore
from unseen.evaluate.metrics import auc
from unseen.models.detector import Detector
from unseen.models.inpainter import FaceInpainter
from unseen.recipe import DataSettings, TrainerSettings
from unseen.train.loaders import FaceBatches, make_loader, validation_draws
from unseen.types import FaceBatch, FaceRecord, InputError, Label

__all__ = ["Judge", "PaintingJudge", "ValidationScores", "score_validation"]

SEED = 0  # the same validation fakes in every run, so that runs can be compared


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
            score = detector.output(replace(there, image=image)).score
        scores.append(score.double().cpu())
        labels.append(batch.label)
        records += batch.records
    detector.train(was_training)
    if not scores:
        return ValidationScores(np.zeros(0), np.zeros(0, np.int64), [])
    return ValidationScores(torch.cat(scores).numpy(), torch.cat(labels).numpy(), records)


class Judge:
    """Scores the validation rows, with fakes made by the sampler's synthesis if there are none among them.

    Args:
        data: Transforms, sampler and batch size.
        records: The rows.
        settings: Precision and memory layout, as in training.
        workers: Processes that read pictures.
        residuals: Where the residual of each picture lies, for a `ResidualBackbone`.
    """

    best_by, lowest = "val_auc", False

    def __init__(
        self,
        data: DataSettings,
        records: list[FaceRecord],
        settings: TrainerSettings,
        *,
        workers: int,
        residuals: ResidualStore | None = None,
    ) -> None:
        synthesise = getattr(data.sampler, "synthesise", None)
        self.made = synthesise is not None and not any(r.label == Label.FAKE for r in records)
        faces = FaceDataset(records, data.transforms, seed=SEED, training=False, synthesise=synthesise)
        draws = validation_draws(records, batch_size=data.val_batch, synthesise=self.made)
        if self.made and residuals is not None:
            raise InputError(
                "data.residuals: the fakes of this validation are made as it goes, and nothing of them was "
                "stored; leave the key out, or validate on stored fakes"
            )
        batches = FaceBatches(faces, residuals=residuals)
        self._loader = make_loader(batches, draws, workers=workers)
        self._settings = settings

    def scores(self, model: nn.Module) -> ValidationScores:
        """Score every validation face."""
        assert isinstance(model, Detector)
        found = score_validation(
            model,
            self._loader,
            device=next(model.parameters()).device,
            precision=self._settings.precision,
            channels_last=self._settings.channels_last,
        )
        if not found.score.size:
            raise InputError(
                "no face of the validation split can be used; see the warnings above", reason="empty"
            )
        return found

    def metrics(self, model: nn.Module) -> dict[str, float]:
        """Return the numbers of a validation."""
        return self.scores(model).metrics()


class PaintingJudge:
    """Says how well an inpainter paints people it has not seen: every block of each real face of the rows.

    Args:
        data: Transforms and batch size.
        records: The rows; fakes among them are left out.
        settings: Precision, as in training.
        workers: Processes that read pictures.

    Raises:
        InputError: No row is real.
    """

    best_by, lowest = "val_error", True

    def __init__(
        self, data: DataSettings, records: list[FaceRecord], settings: TrainerSettings, *, workers: int
    ) -> None:
        reals = [record for record in records if record.label == Label.REAL]
        if not reals:
            raise InputError(
                f"none of {len(records)} validation rows is real, and an inpainter is judged by real faces",
                reason="one_class",
            )
        faces = FaceDataset(reals, data.transforms, seed=SEED, training=False)
        draws = validation_draws(reals, batch_size=data.val_batch, synthesise=False)
        self._loader = make_loader(FaceBatches(faces), draws, workers=workers)
        self._precision = settings.precision
        self.faces = len(reals)

    @torch.inference_mode()
    def metrics(self, model: nn.Module) -> dict[str, float]:
        """Return the mean square error of repainted pixels in [0, 1], and the same in decibels."""
        assert isinstance(model, FaceInpainter)
        was_training, device = model.training, next(model.parameters()).device
        model.eval()
        errors: list[torch.Tensor] = []
        for batch in self._loader:
            if batch is not None:
                with torch.autocast(device.type, torch.bfloat16, enabled=self._precision == "bf16-mixed"):
                    errors.append(model.errors(batch.to(device).image).double().cpu())
        model.train(was_training)
        if not errors:
            raise InputError(
                "no face of the validation split can be used; see the warnings above", reason="empty"
            )
        error = float(torch.cat(errors).mean())
        return {"val_error": error, "val_psnr": -10 * float(np.log10(error))}
