"""What a device does to a whole batch is what the processor does to each picture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from unseen.data.batched import (
    BATCHED,
    BatchChange,
    _flat_stretching,
    _grain,
    _hue_divisors,
    _sectors,
    changes_of,
    movable,
)
from unseen.data.batched_jpeg import _cosines, jpeg, quantisation
from unseen.data.changes import PLAIN, change, grain, levels, numbers, quantiles
from unseen.data.changes import jpeg as plain_jpeg
from unseen.data.dataset import FaceDataset, collate
from unseen.data.distort import Distort
from unseen.data.photometric import Blur, ColorJitter, Downscale, Grayscale, JpegCompress, Noise
from unseen.data.samplers import Draw
from unseen.data.transforms import AlignFace, Flip, Transform
from unseen.types import FaceBatch, FaceRecord, FaceSample, Label

Make = Callable[[int, int], list[FaceRecord]]
ALWAYS = {"jpeg": 1, "stretch": 1, "waves": 1, "color": 1, "motion": 1, "blur": 1, "noise": 1, "tone": 1}


def pictures(crop: np.ndarray, count: int, size: tuple[int, int], seed: int = 0) -> list[FaceSample]:
    """Portraits, one flat picture and, for colours that portraits lack, noise."""
    rng = np.random.default_rng(seed)
    small = cv2.resize(crop, size[::-1], interpolation=cv2.INTER_AREA)
    images = [np.roll(small, int(rng.integers(size[1])), 1) for _ in range(count - 3)]
    images += [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for _ in range(2)]
    images.append(np.full((*size, 3), 130, np.uint8))
    return [FaceSample(np.ascontiguousarray(i), Label.REAL, FaceRecord("x")) for i in images]


def as_tensor(samples: Sequence[FaceSample]) -> torch.Tensor:
    return torch.from_numpy(np.stack([s.image for s in samples])).permute(0, 3, 1, 2).contiguous()


def apart(one: torch.Tensor, other: torch.Tensor) -> tuple[int, float]:
    """Return the largest difference in grey levels, and the share of values that differ."""
    difference = (one.int() - other.int()).abs()
    return int(difference.max()), float((difference > 0).float().mean())


def both(
    transforms: Sequence[Transform], samples: Sequence[FaceSample], seed: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what the processor makes of the samples, and what `changes_of` does; (B, 3, H, W) uint8 each."""
    plain, late = [], []
    for i, sample in enumerate(samples):
        one, other = np.random.default_rng([seed, i]), np.random.default_rng([seed, i])
        done = sample
        for transform in transforms:
            done = transform(done, one)
        plain.append(done)
        drawn = tuple(d for t in transforms for d in t.drawn(other))  # type: ignore[attr-defined]
        late.append(replace(sample, changes=drawn))
        assert one.random() == other.random()  # the same numbers were drawn
    image = as_tensor(samples)
    for step in changes_of(late):
        image = step(image)
    return as_tensor(plain), image


def test_each_kind_is_there_twice() -> None:
    assert PLAIN.keys() == BATCHED.keys()


EXACT = [
    Grayscale(0.7),
    JpegCompress(0.7, quality=(1, 100)),
    Blur(0.7, sigma=(0.01, 6)),
    Noise(0.7),
    ColorJitter(0.7, saturation=0, contrast=0.5),
]
ROUNDED = [ColorJitter(0.7, saturation=0.5, hue=20), Downscale(0.7), Downscale(1.0, factor=(0.01, 1))]


@pytest.mark.parametrize("transform", [*EXACT, *ROUNDED], ids=lambda t: type(t).__name__)
@pytest.mark.parametrize("size", [(64, 64), (50, 71), (5, 9)], ids=str)
def test_a_device_does_what_the_processor_does(
    transform: Transform, size: tuple[int, int], crop: np.ndarray
) -> None:
    for seed in range(3):
        plain, image = both([transform], pictures(crop, 24, size, seed), seed)
        most, share = apart(plain, image)
        if transform in EXACT:
            assert (most, share) == (0, 0.0)
        else:  # OpenCV enlarges what is narrower than its vectors in whole numbers, and the rest in floats
            assert most <= 1 and share < (2e-3 if size[1] > 16 else 0.1)


@pytest.mark.parametrize("name", ALWAYS)
@pytest.mark.parametrize("size", [(64, 64), (50, 71), (3, 9)], ids=str)
def test_a_device_does_each_step_of_distort(name: str, size: tuple[int, int], crop: np.ndarray) -> None:
    chances = dict.fromkeys(ALWAYS, 0.0) | {name: 1.0}
    for seed in range(2):
        plain, image = both([Distort(**chances)], pictures(crop, 12, size, seed), seed)  # type: ignore[arg-type]
        most, share = apart(plain, image)
        assert most <= 1 and share < 2e-3


DEFAULT = [ColorJitter(0.5, saturation=0.3, hue=4), Grayscale(0.05), Downscale(), Blur(), Noise()]
SBI = [
    ColorJitter(0.3, channels=20, brightness=0, contrast=0, saturation=0),
    ColorJitter(0.3, channels=0, brightness=0.3, contrast=0.3, saturation=0),
    JpegCompress(),
]


@pytest.mark.parametrize("chain", [DEFAULT, SBI, [Distort()], [Distort(**ALWAYS)]], ids=str)  # type: ignore[arg-type]
def test_a_chain_of_them_stays_together(chain: list[Transform], crop: np.ndarray) -> None:
    for seed in range(3):
        plain, image = both(chain, pictures(crop, 32, (64, 64), seed), seed)
        most, share = apart(plain, image)
        assert most <= 1 and share < 1e-3
        assert torch.equal(both(chain, pictures(crop, 32, (64, 64), seed), seed)[1], image)


def test_compression_behind_what_was_rounded_differs_in_few_pictures(crop: np.ndarray) -> None:
    # A grey level can bring a coefficient across the border between two steps of the table: then a whole
    # block differs, by less than compression itself changes it.
    plain, image = both([*DEFAULT, JpegCompress()], pictures(crop, 200, (64, 64)))
    assert apart(plain, image)[1] < 1e-3
    assert ((plain != image).flatten(1).any(1)).float().mean() < 0.05


@pytest.mark.parametrize("size", [(16, 16), (33, 40), (7, 50)], ids=str)
def test_jpeg_has_the_bits_of_a_file_at_every_quality(size: tuple[int, int], crop: np.ndarray) -> None:
    quality = np.arange(1, 101)
    samples = pictures(crop, 100, size)
    image = jpeg(as_tensor(samples), torch.from_numpy(quantisation(quality)))
    plain = [plain_jpeg(s.image, q) for s, q in zip(samples, quality.tolist(), strict=True)]
    assert torch.equal(image, torch.from_numpy(np.stack(plain)).permute(0, 3, 1, 2))


def test_noise_is_a_function_of_its_keys_and_normal() -> None:
    keys = [(5, 7), (5, 8), (6, 7), (2**31 - 1, 2**32 - 1)]
    table = torch.from_numpy(np.array(keys, np.uint32).view(np.int32))
    fields = _grain(table, 99_999)
    for key, field in zip(keys, fields, strict=True):
        assert torch.equal(torch.from_numpy(grain(key, 99_999)), field)
    # 99,999 numbers: a mean's standard error is 0.003, a correlation's too
    assert fields.mean(1).abs().max() < 0.015 and (fields.std(1) - 1).abs().max() < 0.01
    assert ((fields**4).mean(1) - 3).abs().max() < 0.15
    assert (torch.corrcoef(fields) - torch.eye(4)).abs().max() < 0.015
    for lag in (1, 2, 3, 96, 288):
        shifted = torch.stack([fields[0, :-lag], fields[0, lag:]])
        assert torch.corrcoef(shifted)[0, 1].abs() < 0.015
    assert fields.abs().max() < 4.4


def test_pictures_that_drew_nothing_are_left_alone(crop: np.ndarray) -> None:
    samples = pictures(crop, 5, (16, 16))
    assert changes_of(samples) == ()
    drawn = [None, numbers(), None, numbers(), None]
    (step,) = changes_of([replace(s, changes=(("grey", d),)) for s, d in zip(samples, drawn, strict=True)])
    assert step.rows is not None and step.rows.tolist() == [1, 3]
    before = as_tensor(samples)
    kept = before.clone()
    after = step(before)
    assert torch.equal(before, kept) and torch.equal(after[::2], kept[::2])
    assert torch.equal(after[3, 0], after[3, 1]) and not torch.equal(after[1], kept[1])
    assert changes_of([replace(s, changes=(("grey", None),)) for s in samples]) == ()
    (everyone,) = changes_of([replace(s, changes=(("grey", numbers()),)) for s in samples])
    assert everyone.rows is None


def test_a_batch_is_finished_where_it_is_moved_to() -> None:
    half = levels(np.arange(256) / 2)
    batch = FaceBatch(
        torch.full((2, 3, 4, 4), 200, dtype=torch.uint8),
        torch.tensor([0, 1]),
        changes=(BatchChange("table", torch.tensor([1]), (torch.from_numpy(half)[None],)),),
    )
    moved = batch.to("cpu")
    assert moved.image[:, 0, 0, 0].tolist() == pytest.approx([200 / 255, 100 / 255])
    assert moved.changes == () and torch.equal(moved.to("cpu").image, moved.image)
    assert (batch.image == 200).all()


@pytest.mark.slow  # seconds of imports
def test_on_a_gpu_all_tensors_lie_there_and_none_is_asked_for_its_value(
    crop: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Tensors that have a device and a shape and no values: mixing devices raises, and so does `item()`.
    def there(tensor: torch.Tensor) -> torch.Tensor:
        return torch.empty(tensor.shape, dtype=tensor.dtype, device="cuda")

    chances = dict.fromkeys(ALWAYS, 0.5)
    transforms = [*SBI, *DEFAULT, Grayscale(0.5), Downscale(0.5), Distort(**chances)]  # type: ignore[arg-type]
    samples = pictures(crop, 24, (50, 71))
    late = [
        replace(s, changes=tuple(d for t in transforms for d in t.drawn(np.random.default_rng(i))))  # type: ignore[attr-defined]
        for i, s in enumerate(samples)
    ]
    steps = changes_of(late)
    assert {step.kind for step in steps} == set(BATCHED)
    makers = (quantiles, _flat_stretching, _hue_divisors, _sectors, _cosines)
    constants = {make: torch.from_numpy(make()) for make in makers}
    for room in ("batched", "batched_jpeg"):
        monkeypatch.setattr(f"unseen.data.{room}.constant", lambda device, make: there(constants[make]))
    with FakeTensorMode():
        image = torch.empty(24, 3, 50, 71, dtype=torch.uint8, device="cuda")
        for step in steps:
            rows = None if step.rows is None else there(step.rows)
            image = BatchChange(step.kind, rows, tuple(there(table) for table in step.tables))(image)
            assert (image.device.type, image.dtype, image.shape) == ("cuda", torch.uint8, (24, 3, 50, 71))
        with pytest.raises(RuntimeError, match="device"):  # or this test could not fail
            image + torch.empty(24, 3, 50, 71)
        with pytest.raises(RuntimeError, match="scalar"):
            image.amax().item()


def test_only_the_last_transforms_move() -> None:
    align, flip, jitter, blur = AlignFace(32), Flip(), ColorJitter(), Blur()
    assert movable([]) == 0 and movable([align, flip]) == 0
    assert movable([align, jitter, flip]) == 0
    assert movable([align, jitter, flip, blur, Distort()]) == 2
    assert movable([jitter, blur]) == 2


AUGMENT = [AlignFace(64, shift=0.05, rotation=10), ColorJitter(), Flip(), *DEFAULT, JpegCompress()]


def test_a_batch_comes_to_the_same_on_both_ways(make_records: Make) -> None:
    records = make_records(6, 2)
    draws = [Draw(i, 3, 10 + i) for i in range(8)]
    near = FaceDataset(records, AUGMENT, seed=4)
    far = FaceDataset(records, AUGMENT, seed=4, photometric="device")
    plain, late = collate([near[d] for d in draws]), collate([far[d] for d in draws])
    assert late.changes and not plain.changes
    assert apart(late.image, plain.image)[1] > 0.1  # what has come so far is not yet finished
    assert ((late.to("cpu").image - plain.to("cpu").image).abs() > 0).float().mean() < 1e-3
    outside = FaceDataset(records, AUGMENT, training=False, photometric="device")
    assert outside.load(0).changes == ()


def test_both_of_a_pair_get_the_same_changes(make_records: Make) -> None:
    class Same:
        needs = ()

        def pair(self, sample: FaceSample, rng: np.random.Generator) -> tuple[FaceSample, FaceSample]:
            return sample, replace(sample, label=Label.FAKE)

    faces = FaceDataset(make_records(1, 0), AUGMENT, synthesise=Same(), photometric="device")  # type: ignore[arg-type]
    batch = collate([faces[Draw(0, 0, key, synthesise=True)] for key in range(8)]).to("cpu")
    assert batch.label.tolist() == [0, 1] * 8 and torch.equal(batch.image[::2], batch.image[1::2])
    assert len({float(image.mean()) for image in batch.image[::2]}) == 8


def test_a_transform_leaves_other_fields_alone(sample: FaceSample) -> None:
    done = change(sample, [("grey", None), ("grey", numbers())])
    assert done.landmarks is sample.landmarks and (done.image[..., 0] == done.image[..., 1]).all()
    assert change(sample, [("grey", None)]) is sample
