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

from unseen.data.domains import domain_of, forgery_methods
from unseen.types import FaceRecord, FaceSample, InputError, Label

__all__ = ["Balanced", "BalancedDomains", "Draw", "Ordered", "Sampler", "Shuffled", "Synthesis"]


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
    method: str  # what its fakes are called in `FaceRecord.method`

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


class BalancedDomains:
    """As many faces of every domain in every batch: the real ones, and each forgery method by itself.

    Smaller domains are cycled, freshly shuffled each time round. DID's 15 are 3 each of five domains. An
    epoch shows each member of the largest domain once, unless its length is given.

    Args:
        batch_size: Samples in a batch of one process, a multiple of the number of domains.
        length: Batches in an epoch, those of all processes together; None for the largest domain once.
    """

    def __init__(self, batch_size: int = 15, *, length: int | None = None) -> None:
        self.batch_size = _positive("BalancedDomains", batch_size)
        if length is not None and length < 1:
            raise InputError(f"BalancedDomains: length {length}; expected at least one batch an epoch")
        self.length = length

    def count(self, records: Sequence[FaceRecord], world: int = 1) -> int:
        """Return the number of batches that each of `world` processes gets."""
        return self._count(self._domains(records), world)

    def batches(
        self, records: Sequence[FaceRecord], seed: int, epoch: int, rank: int = 0, world: int = 1
    ) -> Iterator[list[Draw]]:
        """Yield the batches of one process, in order, the domains in turn.

        Raises:
            InputError: There are no reals or no fakes, a fake does not say who forged it, or the batch cannot
                be shared equally.
        """
        _check_rank(rank, world)
        domains = self._domains(records)
        streams = [_Stream(members, seed, epoch, salt) for salt, members in enumerate(domains)]
        each = self.batch_size // len(domains)
        for number in range(self._count(domains, world)):
            first = (number * world + rank) * each  # place of this batch in each of the streams
            places = [(place, stream) for place in range(first, first + each) for stream in streams]
            yield [
                Draw(stream[place], epoch, first * len(domains) + i)
                for i, (place, stream) in enumerate(places)
            ]

    def _count(self, domains: Sequence[NDArray[np.intp]], world: int) -> int:
        each = self.batch_size // len(domains)
        length = self.length or -(-max(len(members) for members in domains) // each)
        return -(-length // world)

    def _domains(self, records: Sequence[FaceRecord]) -> list[NDArray[np.intp]]:
        """Return the records of each domain, the real ones first."""
        methods = forgery_methods(records)
        number = np.array([-1 if r.label is None else domain_of(r.label, r, methods) for r in records])
        domains = [np.flatnonzero(number == domain) for domain in range(1 + len(methods))]
        for members, what in ((domains[0], "real (label 0)"), (domains[1:], "fake (label 1)")):
            if not len(members):
                raise InputError(
                    f"BalancedDomains: none of {len(records)} records is {what}; expected real faces and "
                    "forgeries, each with its `method`",
                    reason="one_class",
                )
        if self.batch_size % len(domains):
            near = max(1, round(self.batch_size / len(domains))) * len(domains)
            raise InputError(
                f"BalancedDomains: batch_size {self.batch_size} cannot be shared equally by {len(domains)} "
                f"domains ({', '.join(['real', *methods])}); give batch_size: {near}"
            )
        return domains


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
