"""How good a detector is on validation people, while it is trained."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from unseen.data.dataset import FaceDataset
from unseen.data.residuals import ResidualStore
from unseen.evaluate.metrics import auc
from unseen.models.detector import Detector
from unseen.models.inpainter import FaceInpainter
from unseen.models.processes import process_count
from unseen.recipe import DataSettings, TrainerSettings
from unseen.train.loaders import FaceBatches, make_loader, validation_draws
from unseen.train.processes import gather, process_number
from unseen.types import FaceBatch, FaceRecord, InputError, Label

__all__ = ["Judge", "PaintingJudge", "ValidationScores", "score_validation"]

_T = TypeVar("_T")
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
    return _joined(
        _score_batches(detector, batches, device=device, precision=precision, channels_last=channels_last)
    )


_Piece = tuple[NDArray[np.float64], NDArray[np.int64], list[FaceRecord]]


@torch.inference_mode()
def _score_batches(
    detector: Detector,
    batches: Iterable[FaceBatch | None],
    *,
    device: torch.device,
    precision: str,
    channels_last: bool,
) -> list[_Piece]:
    """Return score, label and record of each batch; nothing of a batch that is None."""
    was_training = detector.training
    detector.eval()
    pieces: list[_Piece] = []
    for batch in batches:
        if batch is None:
            pieces.append((np.zeros(0), np.zeros(0, np.int64), []))
            continue
        there = batch.to(device)
        image = there.image
        if channels_last:
            image = image.contiguous(memory_format=torch.channels_last)
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16-mixed"):
            score = detector.output(replace(there, image=image)).score
        pieces.append((score.double().cpu().numpy(), batch.label.numpy(), batch.records))
    detector.train(was_training)
    return pieces


def _joined(pieces: Sequence[_Piece]) -> ValidationScores:
    scores = [np.zeros(0), *(score for score, _, _ in pieces)]
    labels = [np.zeros(0, np.int64), *(label for _, label, _ in pieces)]
    records = [record for _, _, some in pieces for record in some]
    return ValidationScores(np.concatenate(scores), np.concatenate(labels), records)


def _in_turn(everyone: Sequence[Sequence[_T]]) -> list[_T]:
    """Bring batches of which each process took every `N`-th back into their order."""
    rounds = zip_longest(*everyone)
    return [piece for together in rounds for piece in together if piece is not None]


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
        self._batches, self._draws = FaceBatches(faces, residuals=residuals), draws
        self._settings, self._workers = settings, workers

    def scores(self, model: nn.Module, *, together: bool = False) -> ValidationScores:
        """Score every validation face.

        Args:
            model: The detector.
            together: All processes of a training call this: each takes its share of the batches, and each
                gets all scores, in the order that one process alone would give them.
        """
        assert isinstance(model, Detector)
        share = slice(process_number(), None, process_count()) if together else slice(None)
        pieces = _score_batches(
            model,
            make_loader(self._batches, self._draws[share], workers=self._workers),
            device=next(model.parameters()).device,
            precision=self._settings.precision,
            channels_last=self._settings.channels_last,
        )
        found = _joined(_in_turn(gather(pieces)) if together else pieces)
        if not found.score.size:
            raise InputError(
                "no face of the validation split can be used; see the warnings above", reason="empty"
            )
        return found

    def metrics(self, model: nn.Module) -> dict[str, float]:
        """Return the numbers of a validation that all processes take part in."""
        return self.scores(model, together=True).metrics()


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
        self._batches, self._draws, self._workers = FaceBatches(faces), draws, workers
        self._precision = settings.precision
        self.faces = len(reals)

    @torch.inference_mode()
    def metrics(self, model: nn.Module, *, together: bool = True) -> dict[str, float]:
        """Return the mean square error of repainted pixels in [0, 1], and the same in decibels.

        Args:
            model: The inpainter.
            together: All processes of a training call this, and each takes its share of the batches.
        """
        assert isinstance(model, FaceInpainter)
        was_training, device = model.training, next(model.parameters()).device
        model.eval()
        errors: list[torch.Tensor] = []
        share = slice(process_number(), None, process_count()) if together else slice(None)
        for batch in make_loader(self._batches, self._draws[share], workers=self._workers):
            if batch is None:
                errors.append(torch.zeros(0, dtype=torch.float64))
            else:
                with torch.autocast(device.type, torch.bfloat16, enabled=self._precision == "bf16-mixed"):
                    errors.append(model.errors(batch.to(device).image).double().cpu())
        model.train(was_training)
        found = torch.cat([torch.zeros(0), *(_in_turn(gather(errors)) if together else errors)])
        if not len(found):
            raise InputError(
                "no face of the validation split can be used; see the warnings above", reason="empty"
            )
        error = float(found.mean())
        return {"val_error": error, "val_psnr": -10 * float(np.log10(error))}
