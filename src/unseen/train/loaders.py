"""From a sampler's draws to batches in the right order, whatever the number of workers."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch.utils.data import DataLoader, Dataset

from unseen.data.dataset import FaceDataset, collate
from unseen.data.residuals import ResidualStore
from unseen.data.samplers import Draw, Sampler
from unseen.data.workers import start_worker
from unseen.types import FaceBatch, FaceRecord, InputError, Label

__all__ = ["BatchStream", "FaceBatches", "make_loader", "validation_draws"]

log = logging.getLogger("unseen.train")


class BatchStream:
    """The draws of all epochs, one batch after another, without end.

    Args:
        sampler: Draws the batches of one epoch.
        records: What it draws from.
        seed: With the epoch, what the order is a function of.
        start: Batches that are skipped: what a run has seen before it goes on.
        rank: Number of this process.
        world: Number of all processes.
    """

    def __init__(
        self,
        sampler: Sampler,
        records: Sequence[FaceRecord],
        *,
        seed: int,
        start: int = 0,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.sampler, self.records = sampler, records
        self.seed, self.start, self.rank, self.world = seed, start, rank, world

    def __iter__(self) -> Iterator[list[Draw]]:
        # Draws are small, so that walking past those already seen is cheaper than any book-keeping.
        batches = itertools.chain.from_iterable(self._epoch(epoch) for epoch in itertools.count())
        return itertools.islice(batches, self.start, None)

    def _epoch(self, epoch: int) -> Iterator[list[Draw]]:
        return self.sampler.batches(self.records, self.seed, epoch, self.rank, self.world)


class FaceBatches(Dataset[FaceBatch | None]):
    """A data set whose item is a whole batch: workers read and collate, the main process only trains.

    Args:
        faces: Reads and transforms single faces.
        methods: Names of forgery methods, in the order of `FaceBatch.domain`.
        residuals: Where the residual of each picture lies.
    """

    def __init__(
        self,
        faces: FaceDataset,
        methods: Sequence[str] | None = None,
        *,
        residuals: ResidualStore | None = None,
    ) -> None:
        self.faces, self.methods, self.residuals = faces, methods, residuals

    def __getitem__(self, draws: Sequence[Draw]) -> FaceBatch | None:
        """Return the batch of these draws; None if, outside training, no face of it can be used."""
        if self.faces.training:
            return self._with_residuals(collate([self.faces[d] for d in draws], methods=self.methods))
        items = []
        for draw in draws:
            try:
                items.append(self.faces[draw])
            except InputError as error:
                log.warning("left out of the validation: %s", error)
        return self._with_residuals(collate(items)) if items else None

    def _with_residuals(self, batch: FaceBatch) -> FaceBatch:
        if self.residuals is not None:
            found = self.residuals.of(batch.image.numpy(), [record.path for record in batch.records])
            batch.residual = torch.from_numpy(found)
        return batch


def make_loader(
    batches: FaceBatches, draws: Iterable[list[Draw]], *, workers: int, pin: bool = False
) -> DataLoader[FaceBatch | None]:
    """Return a loader that yields the batch of each list of draws, in order.

    Args:
        batches: Makes a batch of a list of draws.
        draws: The lists; may be endless.
        workers: Processes; 0 reads in the caller's own.
        pin: Bring batches to memory from which a GPU fetches them while it computes.
    """
    return DataLoader(
        batches,
        batch_size=None,
        sampler=draws,
        num_workers=workers,
        collate_fn=_untouched,  # type: ignore[arg-type]  # there is nothing to collate
        worker_init_fn=start_worker if workers else None,
        prefetch_factor=2 if workers else None,
        pin_memory=pin,
        # Its own generator, so that starting workers takes no number from the one that dropout draws from.
        generator=torch.Generator().manual_seed(0),
    )


def validation_draws(records: Sequence[FaceRecord], *, batch_size: int, synthesise: bool) -> list[list[Draw]]:
    """Return the same draws at every validation.

    Args:
        records: The rows of the validation split.
        batch_size: Faces in a batch.
        synthesise: Make a fake of each real face; for splits that hold reals only.
    """
    draws = [
        Draw(i, 0, i, synthesise=synthesise and record.label == Label.REAL)
        for i, record in enumerate(records)
    ]
    size = max(1, batch_size // 2) if synthesise else batch_size
    return [draws[start : start + size] for start in range(0, len(draws), size)]


def _untouched(batch: FaceBatch | None) -> FaceBatch | None:
    return batch
