"""From records to samples to batches; everything random is a function of (seed, epoch, draw)."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Literal

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unseen.data.batched import changes_of, movable
from unseen.data.changes import Photometric
from unseen.data.domains import domain_of
from unseen.data.places import read_place
from unseen.data.samplers import Draw, Synthesis
from unseen.data.transforms import Transform, for_evaluation
from unseen.data.workers import planes
from unseen.types import FaceBatch, FaceRecord, FaceSample, InputError, Label

__all__ = ["FaceDataset", "collate", "read_crop"]

_log = logging.getLogger(__name__)


class FaceDataset(torch.utils.data.Dataset[list[FaceSample]]):
    """Reads crops and applies transforms.

    In training a crop that cannot be used is replaced by the next record of the same class, always the same
    one; it is logged and listed in `trouble`. What transforms had to do otherwise is counted in `notes`.
    Outside training nothing is replaced: the error reaches the caller, who can ask for rows one at a time
    with `load`.

    Args:
        records: What to read.
        transforms: Applied in order; outside training only what is deterministic.
        seed: With epoch and draw it seeds every sample.
        training: Augment, and replace what cannot be read.
        synthesise: Makes the fake of a draw that asks for one, such as `SelfBlend`.
        check: Look whether the records have what transforms need; False if somebody has.
        photometric: `device` leaves the last transforms of a training, as far as they are `Photometric`, to
            whoever moves the batch (`FaceBatch.to`); numbers are drawn here all the same.

    Raises:
        InputError: If transforms need what records lack; says which.
    """

    def __init__(
        self,
        records: Sequence[FaceRecord],
        transforms: Sequence[Transform] = (),
        *,
        seed: int = 0,
        training: bool = True,
        synthesise: Synthesis | None = None,
        check: bool = True,
        photometric: Literal["processor", "device"] = "processor",
    ) -> None:
        self.records = list(records)
        self.transforms = list(transforms) if training else for_evaluation(transforms)
        self.seed, self.training, self.synthesise, self.epoch = seed, training, synthesise, 0
        if check:
            self._check_needs()
            for transform in self.transforms:
                transform.check(self.records)
        left = movable(self.transforms) if training and photometric == "device" else 0
        self._here, self._there = self.transforms[: len(self.transforms) - left], self._last(left)
        needs = {need for t in self._all() for need in t.needs}
        self._with_source = "source" in needs
        # Worker processes share this memory with the one that asks for `trouble` and `notes`.
        self._troubled: Tensor = torch.zeros(len(self.records), dtype=torch.bool)
        self._troubled.share_memory_()  # type: ignore[no-untyped-call]
        self._reasons: dict[int, str] = {}
        self._notable = sorted({_RESIZED, *(note for t in self.transforms for note in t.notes)})
        # A row a worker, so that none of them loses what another counts.
        self._noted: Tensor = torch.zeros(_WORKERS, len(self._notable), dtype=torch.int64)
        self._noted.share_memory_()  # type: ignore[no-untyped-call]

    def __len__(self) -> int:
        return len(self.records)

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch for draws by plain index; a sampler's `Draw` brings its own."""
        self.epoch = epoch

    def __getitem__(self, draw: int | Draw) -> list[FaceSample]:
        """Return one sample, or a real and the fake made of it if the draw says so."""
        if not isinstance(draw, Draw):
            index = range(len(self.records))[draw]  # negative ones, and IndexError past the end
            draw = Draw(index, self.epoch, index)
        if not self.training:
            return self._make(draw, draw.index)
        first: InputError | None = None
        for index in self._candidates(draw.index):
            try:
                return self._make(draw, index)
            except InputError as error:
                self._note(index, error)
                first = first or error
        raise InputError(
            f"no usable crop among {_TRIES} records in a row from {self.records[draw.index].path}: {first}",
            reason="unreadable",
        )

    def load(self, index: int) -> FaceSample:
        """Return one record's sample, transformed, with nothing put in its place.

        Raises:
            InputError: If the crop cannot be read or used; says why.
        """
        return self._make(Draw(index, self.epoch, index), index)[0]

    @property
    def trouble(self) -> list[tuple[str, str]]:
        """Path and reason of every record that had to be replaced so far, in any worker."""
        found = []
        for index in self._troubled.nonzero().flatten().tolist():
            if index not in self._reasons:  # seen by a worker: look again
                try:
                    read_crop(self.records[index], source=self._with_source)
                    self._reasons[index] = "could not be used"
                except InputError as error:
                    self._reasons[index] = str(error)
            found.append((self.records[index].path, self._reasons[index]))
        return found

    @property
    def notes(self) -> dict[str, int]:
        """How often a transform had to do something otherwise so far, by its word for it, in all workers."""
        counts = dict(zip(self._notable, self._noted.sum(0).tolist(), strict=True))
        return {note: count for note, count in counts.items() if count}

    def _make(self, draw: Draw, index: int) -> list[FaceSample]:
        """Read a record and do all that is done to it; the same for the same draw and index."""
        sample = read_crop(self.records[index], source=self._with_source)
        samples = [sample]
        if draw.synthesise:
            if self.synthesise is None:
                raise ValueError("a draw asks for a fake: give FaceDataset the sampler's `synthesise`")
            samples = list(self.synthesise.pair(sample, np.random.default_rng([*self._key(draw), 1])))
        done = []
        for item in samples:
            # The same state for both of a pair: a crop, a compression, a flip must not tell them apart.
            rng = np.random.default_rng(self._key(draw))
            for transform in self._here:
                item = transform(item, rng)
            if self._there:
                item = replace(item, changes=tuple(d for t in self._there for d in t.drawn(rng)))
            self._count(item.notes)
            done.append(item)
        return done

    def _last(self, count: int) -> list[Photometric]:
        last = self.transforms[len(self.transforms) - count :]
        return [transform for transform in last if isinstance(transform, Photometric)]

    def _count(self, notes: tuple[str, ...]) -> None:
        worker = torch.utils.data.get_worker_info()
        row = 0 if worker is None else 1 + worker.id % (_WORKERS - 1)
        for note in notes:
            self._noted[row, self._notable.index(note)] += 1

    def _key(self, draw: Draw) -> list[int]:
        return [self.seed, draw.epoch, draw.key]

    def _candidates(self, index: int) -> Iterable[int]:
        """Yield the index and then the next ones with the same label, at most `_TRIES` in all."""
        yield index
        label, left = self.records[index].label, _TRIES - 1
        for step in range(1, len(self.records)):
            other = (index + step) % len(self.records)
            if left and self.records[other].label == label:
                left -= 1
                yield other

    def _note(self, index: int, error: InputError) -> None:
        if not self._troubled[index]:
            self._troubled[index] = True
            _log.warning("replaced in training: %s", error)
        self._reasons.setdefault(index, str(error))

    def _all(self) -> list[Transform | Synthesis]:
        return [*self.transforms, *([] if self.synthesise is None else [self.synthesise])]

    def _check_needs(self) -> None:
        """Say now, not at step 3,000, which rows lack what a transform needs."""
        for transform in self._all():
            name = type(transform).__name__
            for need in transform.needs:
                lacking = [i for i, record in enumerate(self.records) if _lacks(record, need)]
                # Outside training a row that lacks something is an unusable row among others.
                if not lacking or (not self.training and len(lacking) < len(self.records)):
                    continue
                examples = ", ".join(f"row {i + 1} ({self.records[i].path})" for i in lacking[:3])
                raise InputError(
                    f"{name} needs {need}, which {len(lacking)} of {len(self.records)} records lack: "
                    f"{examples}{', ...' if len(lacking) > 3 else ''}; "
                    f"{_MENDS.get(need, 'run `unseen prepare`')}, or leave them out with `where`",
                    reason=f"no_{need}",
                )


_TRIES = 16
_WORKERS = 65  # rows for counts: this process and 64 workers
_RESIZED = "source_resized"
_MENDS = {
    "landmarks": "run `unseen prepare INPUTS --out CROPS`, which finds them",
    "source": "`unseen forge MANIFEST --out BENCH` writes it for what it forges; for other fakes the "
    "manifest's `source` is the real crop of the same frame",
}


def _lacks(record: FaceRecord, need: str) -> bool:
    if need == "landmarks":
        return record.landmarks is None or not bool(np.isfinite(record.landmarks).any())
    if need == "source":  # a real face has no other picture behind it
        return record.source is None and record.label == Label.FAKE
    return getattr(record, need, None) is None


def read_crop(record: FaceRecord, *, source: bool = False) -> FaceSample:
    """Read a record's crop as a sample, untransformed.

    Args:
        record: What to read.
        source: Read the real picture behind a fake as well; one of another size is resized, and noted.

    Raises:
        InputError: If a file is missing, empty, cut short or no picture.
    """
    image = _read_image(record.path)
    behind = _read_image(record.source) if source and record.source is not None else None
    notes: tuple[str, ...] = ()
    if behind is not None and behind.shape != image.shape:
        # The same crop at another size is as good; that it shows the same picture, its user must check.
        size = (image.shape[1], image.shape[0])
        behind = np.asarray(cv2.resize(behind, size, interpolation=cv2.INTER_AREA), np.uint8)
        notes = (_RESIZED,)
    landmarks = None if record.landmarks is None else record.landmarks.copy()
    return FaceSample(image, record.label, record, source=behind, landmarks=landmarks, notes=notes)


def _read_image(path: str) -> NDArray[np.uint8]:
    data = read_place(path)
    if not data:
        raise InputError(f"{path}: empty file; prepare it again", reason="empty")
    # The decoder fills what a cut JPEG lacks with grey and says nothing.
    if data[:2] == b"\xff\xd8" and b"\xff\xd9" not in data[-1024:]:
        raise InputError(f"{path}: JPEG without its end; prepare it again", reason="truncated")
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    except cv2.error as error:
        raise InputError(f"{path}: cannot be decoded ({error.err})", reason="unreadable") from error
    if image is None:
        raise InputError(f"{path}: not a picture that can be decoded; prepare it again", reason="unreadable")
    return np.asarray(image, np.uint8)


def collate(items: Iterable[list[FaceSample]], *, methods: Sequence[str] | None = None) -> FaceBatch:
    """Stack samples into a batch.

    Args:
        items: What `FaceDataset` returns, a list each.
        methods: Names of the forgery methods, from `forgery_methods`; gives `domain`, which is 0 for reals.

    Returns:
        A batch with a uint8 image. A sample without label has -1, which losses refuse. What samples have
        still to undergo is gathered in its `changes`.

    Raises:
        InputError: If pictures differ in size, or a method is not in the list.

    Shape:
        image: (B, 3, H, W) uint8. label: (B,) int64. weight: (B,) float32, or None if all are 1.
    """
    samples = [sample for item in items for sample in item]
    if not samples:
        raise InputError("collate: an empty batch", reason="empty")
    shape = samples[0].image.shape
    for sample in samples:
        if sample.image.shape != shape:
            raise InputError(
                f"{sample.record.path}: {sample.image.shape} in a batch of {shape}; end the transforms with "
                "one that fixes the size, such as AlignFace",
                reason="size",
            )
    weights = [s.weight for s in samples]
    return FaceBatch(
        image=planes([s.image for s in samples]),
        label=torch.tensor([-1 if s.label is None else int(s.label) for s in samples]),
        weight=None if all(w == 1 for w in weights) else torch.tensor(weights, dtype=torch.float32),
        domain=None
        if methods is None
        else torch.tensor([domain_of(s.label, s.record, methods) for s in samples]),
        regions=_regions(samples),
        records=[s.record for s in samples],
        changes=changes_of(samples),
    )


def _regions(samples: Sequence[FaceSample]) -> list[Tensor] | None:
    if all(s.regions is None for s in samples):
        return None
    return [torch.zeros(0, 4) if s.regions is None else torch.from_numpy(s.regions) for s in samples]
