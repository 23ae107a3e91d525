"""Which records make up which batch: a pure function of (seed, epoch), the same for any number of workers.

Samplers are configured in a recipe, before any record is known. They yield batches of `Draw`s, which a
`FaceDataset` turns into samples. To resume in the middle of an epoch, skip the batches already seen.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from unseen.types import FaceRecord, FaceSample, InputError, Label

__all__ = ["Balanced", "Draw", "Ordered", "Sampler", "Shuffled", "Synthesis"]


@dataclass(frozen=True, slots=True)
class Draw:
    """One record to be read for one place in a batch.

    Args:
        index: Which record.
        epoch: Together with the data set's seed and `key` it seeds all that is random about the sample.
        key: The place in the epoch, so that a record drawn twice is augmented in two ways.
        synthesise: Make a fake of the record as well: two samples instead of one.
    """

    index: int
    epoch: int
    key: int
    synthesise: bool = False


class Synthesis(Protocol):
    """Makes a fake from a real sample, such as `unseen.methods.sbi.SelfBlend`."""

    needs: tuple[str, ...]

    def pair(self, sample: FaceSample, rng: np.random.Generator) -> tuple[FaceSample, FaceSample]:
        """Return the real as it is shown, and the fake."""
        ...


@runtime_checkable
class Sampler(Protocol):
    """Says which records form the batches of an epoch."""

    def count(self, records: Sequence[FaceRecord], world: int = 1) -> int:
        """Return the number of batches that each of `world` processes gets."""
        ...

    def batches(
        self, records: Sequence[FaceRecord], seed: int, epoch: int, rank: int = 0, world: int = 1
    ) -> Iterator[list[Draw]]:
        """Yield the batches of one process, in order."""
        ...


class Ordered:
    """Every record once, in order: for scoring.

    With several processes each takes every `world`-th record. Should that leave some of them a record
    short, they repeat their last ones, so that all get the same number of batches of the same sizes.

    Args:
        batch_size: Samples in a batch of one process; the last batch may be smaller.
    """

    def __init__(self, batch_size: int = 32) -> None:
        self.batch_size = _positive("Ordered", batch_size)

    def count(self, records: Sequence[FaceRecord], world: int = 1) -> int:
        """Return the number of batches that each of `world` processes gets."""
        return -(-_share(len(records), world) // self.batch_size)

    def batches(
        self, records: Sequence[FaceRecord], seed: int, epoch: int, rank: int = 0, world: int = 1
    ) -> Iterator[list[Draw]]:
        """Yield the batches of one process, in order; `seed` and `epoch` change nothing in them."""
        _check_rank(rank, world)
        if not records:
            return
        mine = [min(i, len(records) - 1) for i in range(rank, _share(len(records), world) * world, world)]
        for start in range(0, len(mine), self.batch_size):
            yield [Draw(i, epoch, i) for i in mine[start : start + self.batch_size]]


class Shuffled:
    """Every record once an epoch, in random order; the last batch is filled from the next shuffle.

    Args:
        batch_size: Samples in a batch of one process.
    """

    def __init__(self, batch_size: int = 16) -> None:
        self.batch_size = _positive("Shuffled", batch_size)

    def count(self, records: Sequence[FaceRecord], world: int = 1) -> int:
        """Return the number of batches that each of `world` processes gets."""
        return -(-len(records) // (self.batch_size * world))

    def batches(
        self, records: Sequence[FaceRecord], seed: int, epoch: int, rank: int = 0, world: int = 1
    ) -> Iterator[list[Draw]]:
        """Yield the batches of one process, in order."""
        _check_rank(rank, world)
        if not records:
            raise InputError("Shuffled: no records; check the manifest and its `where`", reason="empty")
        stream = _Stream(np.arange(len(records)), seed, epoch, 0)
        for number in range(self.count(records, world)):
            start = (number * world + rank) * self.batch_size
            yield [Draw(stream[k], epoch, k) for k in range(start, start + self.batch_size)]


class Balanced:
    """N real and N fake in every batch; the smaller class is cycled, freshly shuffled each time round.

    An epoch shows each member of the larger class once. With `synthesise` each real is drawn together with
    the fake that is made of it, and an epoch shows each real once; what share of the fakes is made so is
    `share`, the rest come from the records.

    Args:
        batch_size: Samples in a batch of one process, 2 N.
        synthesise: Makes a fake from a real sample (`SelfBlend`); the data set needs the same object.
        share: Part of the fakes that are made, from 0 to 1; less than 1 wants fakes in the records.
    """

    def __init__(
        self, batch_size: int = 16, *, synthesise: Synthesis | None = None, share: float = 1.0
    ) -> None:
        if batch_size < 2 or batch_size % 2:
            raise InputError(f"Balanced: batch_size {batch_size}; expected an even number, half of it real")
        if not 0 <= share <= 1:
            raise InputError(f"Balanced: share {share}; expected a part between 0 and 1")
        self.batch_size, self.synthesise, self.share = batch_size, synthesise, share

    @property
    def _made(self) -> int:
        """How many of a batch's fakes are made from its reals."""
        return 0 if self.synthesise is None else round(self.share * self.batch_size / 2)

    def count(self, records: Sequence[FaceRecord], world: int = 1) -> int:
        """Return the number of batches that each of `world` processes gets."""
        real, fake = self._classes(records)
        half, made = self.batch_size // 2, self._made
        length = -(-len(real) // half)
        if made < half:
            length = max(length, -(-len(fake) // (half - made)))
        return -(-length // world)

    def batches(
        self, records: Sequence[FaceRecord], seed: int, epoch: int, rank: int = 0, world: int = 1
    ) -> Iterator[list[Draw]]:
        """Yield the batches of one process, in order, real and fake in turn.

        Raises:
            InputError: If a class is missing.
        """
        _check_rank(rank, world)
        real, fake = self._classes(records)
        half, made = self.batch_size // 2, self._made
        reals, fakes = _Stream(real, seed, epoch, 0), _Stream(fake, seed, epoch, 1)
        for number in range(self.count(records, world)):
            place = number * world + rank
            batch: list[Draw] = []
            for i in range(half):
                key = place * half + i
                # Even keys for what is drawn as a real, odd ones for fakes of the records.
                batch.append(Draw(reals[key], epoch, 2 * key, synthesise=i < made))
                if i >= made:
                    batch.append(Draw(fakes[place * (half - made) + i - made], epoch, 2 * key + 1))
            yield batch

    def _classes(self, records: Sequence[FaceRecord]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        real = np.array([i for i, r in enumerate(records) if r.label == Label.REAL], np.intp)
        fake = np.array([i for i, r in enumerate(records) if r.label == Label.FAKE], np.intp)
        if not len(real):
            raise InputError(
                f"Balanced: none of {len(records)} records is real (label 0); add real faces",
                reason="one_class",
            )
        if not len(fake) and self._made < self.batch_size // 2:
            raise InputError(
                f"Balanced: none of {len(records)} records is fake (label 1); add fakes, or make them from "
                "the reals: `synthesise: SelfBlend`" + (" with share 1" if self.synthesise else ""),
                reason="one_class",
            )
        return real, fake


class _Stream:
    """An endless sequence of a class's members: one shuffle after another, each seen by its number only."""

    def __init__(self, members: NDArray[np.intp], seed: int, epoch: int, salt: int) -> None:
        self._members, self._seed = members, (seed, epoch, salt)
        self._cycle, self._order = -1, members

    def __getitem__(self, place: int) -> int:
        cycle, offset = divmod(place, len(self._members))
        if cycle != self._cycle:
            self._cycle = cycle
            self._order = np.random.default_rng([*self._seed, cycle]).permutation(self._members)
        return int(self._order[offset])


def _positive(owner: str, batch_size: int) -> int:
    if batch_size < 1:
        raise InputError(f"{owner}: batch_size {batch_size}; expected at least 1")
    return batch_size


def _share(count: int, world: int) -> int:
    return -(-count // world)


def _check_rank(rank: int, world: int) -> None:
    if not 0 <= rank < world:
        raise InputError(f"rank {rank} of {world} processes; expected 0 to {world - 1}")
