from __future__ import annotations

import itertools
import logging
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from unseen.data.dataset import FaceDataset, collate, read_crop
from unseen.data.photometric import Blur, ColorJitter, JpegCompress, Noise
from unseen.data.samplers import Balanced, Draw, Ordered
from unseen.data.transforms import AlignFace, Flip, Transform
from unseen.data.workers import start_worker
from unseen.methods.sbi import SelfBlend
from unseen.types import FaceBatch, FaceRecord, FaceSample, InputError, Label

Make = Callable[[int, int], list[FaceRecord]]
AUGMENT = [
    AlignFace(64, shift=0.05, zoom=0.05, rotation=10),
    Flip(),
    ColorJitter(),
    JpegCompress(),
    Noise(),
    Blur(),
]


class Brightness(Transform):
    """Reads one random number into the picture, so that tests see what a sample was given."""

    def __call__(self, sample: FaceSample, rng: np.random.Generator) -> FaceSample:
        return replace(sample, image=np.full((4, 4, 3), rng.integers(256), np.uint8))


def epoch_batches(records: list[FaceRecord], workers: int, epoch: int = 0, start: int = 0) -> list[FaceBatch]:
    sampler = Balanced(4, synthesise=SelfBlend())
    faces = FaceDataset(records, AUGMENT, synthesise=sampler.synthesise)
    loader = torch.utils.data.DataLoader(
        faces,
        batch_sampler=list(itertools.islice(sampler.batches(records, 0, epoch), start, None)),
        num_workers=workers,
        collate_fn=collate,
        worker_init_fn=start_worker,
    )
    return list(loader)


def same(one: list[FaceBatch], other: list[FaceBatch]) -> bool:
    return len(one) == len(other) and all(
        torch.equal(a.image, b.image)
        and torch.equal(a.label, b.label)
        and all(torch.equal(x, y) for x, y in zip(a.regions, b.regions, strict=True))
        for a, b in zip(one, other, strict=True)
    )


def test_workers_and_resuming_change_nothing_and_the_epoch_does(make_records: Make) -> None:
    records = make_records(7, 0)
    alone = epoch_batches(records, 0)
    assert len(alone) == 4 and alone[0].image.shape == (4, 3, 64, 64)
    assert alone[0].label.tolist() == [0, 1, 0, 1]
    assert same(alone, epoch_batches(records, 1))
    assert same(alone, epoch_batches(records, 2))
    assert same(alone[2:], epoch_batches(records, 0, start=2))
    assert not same(alone, epoch_batches(records, 0, epoch=1))


def test_numbers_depend_on_seed_epoch_and_key_only(make_records: Make) -> None:
    records = make_records(3, 0)
    faces = FaceDataset(records, [Brightness()], seed=1)
    value = lambda draw: int(faces[draw][0].image[0, 0, 0])  # noqa: E731
    assert value(Draw(0, 0, 5)) == value(Draw(2, 0, 5)) == np.random.default_rng([1, 0, 5]).integers(256)
    assert len({value(Draw(0, epoch, key)) for epoch in range(3) for key in range(3)}) > 5
    assert value(2) == value(Draw(2, 0, 2))
    faces.set_epoch(4)
    assert value(2) == value(Draw(2, 4, 2))
    assert value(-1) == value(2)


def test_both_of_a_pair_are_treated_alike(make_records: Make) -> None:
    class Same:
        needs = ()

        def pair(self, sample: FaceSample, rng: np.random.Generator) -> tuple[FaceSample, FaceSample]:
            rng.random(int(rng.integers(1, 9)))  # whatever it draws, the transforms start from the same state
            return sample, replace(sample, label=Label.FAKE)

    faces = FaceDataset(make_records(1, 0), AUGMENT, synthesise=Same())
    for key in range(8):
        real, fake = faces[Draw(0, 0, key, synthesise=True)]
        assert (real.image == fake.image).all() and (real.label, fake.label) == (0, 1)
    with pytest.raises(ValueError, match="synthesise"):
        FaceDataset(make_records(1, 0), AUGMENT)[Draw(0, 0, 0, synthesise=True)]


def test_evaluation_is_deterministic(make_records: Make) -> None:
    faces = FaceDataset(make_records(2, 0), AUGMENT, training=False)
    first = faces.load(1).image
    faces.set_epoch(3)
    assert (faces.load(1).image == first).all() and (faces[1][0].image == first).all()
    assert len(faces.transforms) == 1


def test_an_unreadable_crop_is_replaced_in_training_and_reported(
    make_records: Make, caplog: pytest.LogCaptureFixture
) -> None:
    records = make_records(3, 3)
    Path(records[1].path).write_bytes(b"")
    Path(records[2].path).write_bytes(b"not a picture")
    faces = FaceDataset(records, [AlignFace(32)])
    with caplog.at_level(logging.WARNING):
        found = [faces[Draw(i, 0, i)][0].record for i in range(6)]
    # The next of the same class: after the reals comes the first real again, never a fake.
    assert [records.index(r) for r in found] == [0, 0, 0, 3, 4, 5]
    assert [path for path, _ in faces.trouble] == [records[1].path, records[2].path]
    assert "empty file" in faces.trouble[0][1] and "not a picture" in faces.trouble[1][1]
    assert len(caplog.records) == 2
    faces[Draw(1, 1, 0)]
    assert len(faces.trouble) == 2 and len(caplog.records) == 2  # said once


def test_trouble_in_workers_is_known_to_the_main_process(make_records: Make) -> None:
    records = make_records(4, 0)
    Path(records[2].path).unlink()
    faces = FaceDataset(records, [AlignFace(32)])
    loader = torch.utils.data.DataLoader(
        faces, batch_sampler=list(Ordered(2).batches(records, 0, 0)), num_workers=2, collate_fn=collate
    )
    assert [len(batch) for batch in loader] == [2, 2]
    assert len(faces.trouble) == 1 and "no such file" in faces.trouble[0][1]


def test_nothing_is_replaced_outside_training(make_records: Make) -> None:
    records = make_records(3, 0)
    Path(records[1].path).unlink()
    faces = FaceDataset(records, [AlignFace(32)], training=False)
    for read in (faces.load, faces.__getitem__):
        with pytest.raises(InputError, match=r"1\.jpg: no such file") as caught:
            read(1)
        assert caught.value.reason == "missing"
    assert faces.load(2).record is records[2] and faces.trouble == []
    with pytest.raises(InputError, match=r"1\.jpg"):
        FaceDataset(records, [AlignFace(32)]).load(1)  # load never replaces, in training either


def test_when_nothing_can_be_read_training_stops(make_records: Make) -> None:
    records = make_records(3, 2)
    for record in records[:3]:
        Path(record.path).unlink()
    with pytest.raises(InputError, match="no usable crop"):
        FaceDataset(records, [AlignFace(32)])[0]


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda path: path.unlink(), "missing"),
        (lambda path: path.write_bytes(b""), "empty"),
        (lambda path: path.write_bytes(path.read_bytes()[:2000]), "truncated"),
        (lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\nrest"), "unreadable"),
        (lambda path: (path.unlink(), path.mkdir()), "unreadable"),
    ],
)
def test_damaged_crops_are_errors_that_name_the_file(make_records: Make, spoil, reason: str) -> None:
    (record,) = make_records(1, 0)
    spoil(Path(record.path))
    with pytest.raises(InputError, match=r"0\.jpg") as caught:
        read_crop(record)
    assert caught.value.reason == reason


def test_reading_gives_rgb_and_copies_landmarks(make_records: Make, tmp_path: Path) -> None:
    (record,) = make_records(1, 0)
    red = np.zeros((20, 30, 3), np.uint8)
    red[..., 2] = 255  # OpenCV writes BGR
    cv2.imwrite(str(tmp_path / "red.png"), red)
    sample = read_crop(replace(record, path=str(tmp_path / "red.png")))
    assert sample.image.shape == (20, 30, 3) and (sample.image == [255, 0, 0]).all()
    sample.landmarks[:] = 0
    assert record.landmarks.any()


def test_source_is_read_when_asked_for_and_brought_to_size(make_records: Make, tmp_path: Path) -> None:
    class NeedsSource(Transform):
        needs = ("source",)

        def __call__(self, sample: FaceSample, rng: np.random.Generator) -> FaceSample:
            return sample

    real, fake = make_records(1, 1)
    with pytest.raises(InputError, match=r"NeedsSource needs source, which 1 of 2 .* row 2 .*`unseen forge"):
        FaceDataset([real, fake], [NeedsSource()])
    fake = replace(fake, source=real.path)
    samples = FaceDataset([real, fake], [NeedsSource()])
    assert samples.load(0).source is None
    assert (samples.load(1).source == samples.load(0).image).all()
    assert samples.notes == {}
    whole = cv2.imread(real.path)
    cv2.imwrite(str(tmp_path / "small.png"), cv2.resize(whole, (100, 100), interpolation=cv2.INTER_AREA))
    other = FaceDataset([replace(fake, source=str(tmp_path / "small.png"))], [NeedsSource()])
    source = other.load(0).source
    assert source is not None and source.shape == whole.shape
    assert np.corrcoef(source.ravel(), whole[..., ::-1].ravel())[0, 1] > 0.9
    assert other.notes == {"source_resized": 1}


def test_notes_are_counted_in_every_worker(make_records: Make) -> None:
    class Notes(Transform):
        notes = ("odd", "even")

        def __call__(self, sample: FaceSample, rng: np.random.Generator) -> FaceSample:
            return replace(sample, notes=("odd", "odd") if "1.jpg" in sample.record.path else ("even",))

    faces = FaceDataset(make_records(4, 0), [Notes(), AlignFace(32)])
    for workers in (0, 2):
        loader = torch.utils.data.DataLoader(
            faces, batch_size=2, num_workers=workers, collate_fn=collate, worker_init_fn=start_worker
        )
        assert len(list(loader)) == 2
    assert faces.notes == {"even": 6, "odd": 4}


def test_missing_landmarks_are_found_at_construction(make_records: Make) -> None:
    records = make_records(5, 0)
    for i in (1, 3):
        records[i] = replace(records[i], landmarks=None)
    records[4] = replace(records[4], landmarks=np.full((81, 2), np.nan, np.float32))
    with pytest.raises(
        InputError, match=r"AlignFace needs landmarks, which 3 of 5 .* row 2 .*1\.jpg"
    ) as caught:
        FaceDataset(records, [AlignFace(32)])
    assert caught.value.reason == "no_landmarks"
    with pytest.raises(InputError, match="SelfBlend needs landmarks"):
        FaceDataset(records, [], synthesise=SelfBlend())
    # Outside training such a row fails alone, unless all of them do.
    faces = FaceDataset(records, [AlignFace(32)], training=False)
    assert faces.load(0).image.shape == (32, 32, 3)
    with pytest.raises(InputError, match="no landmarks"):
        faces.load(1)
    with pytest.raises(InputError, match="2 of 2"):
        FaceDataset([records[1], records[3]], [AlignFace(32)], training=False)


def test_data_set_travels_to_other_processes(make_records: Make) -> None:
    faces = FaceDataset(make_records(2, 0), AUGMENT, synthesise=SelfBlend())
    copy = pickle.loads(pickle.dumps(faces))
    assert (copy[Draw(1, 0, 3)][0].image == faces[Draw(1, 0, 3)][0].image).all()


def test_collate_fills_every_field(sample: FaceSample) -> None:
    fake = replace(
        sample,
        label=Label.FAKE,
        weight=0.5,
        regions=np.array([[1, 2, 3, 4]], np.float32),
        record=replace(sample.record, method="sbi"),
    )
    real = replace(sample, record=replace(sample.record, method="real"))
    unknown = replace(real, label=None)
    batch = collate([[real, fake], [unknown]], methods=["sbi"])
    assert batch.image.dtype == torch.uint8 and batch.image.is_contiguous()
    assert (batch.image[1].permute(1, 2, 0).numpy() == sample.image).all()
    assert batch.label.tolist() == [0, 1, -1] and batch.weight.tolist() == [1, 0.5, 1]
    assert batch.domain.tolist() == [0, 1, 0]
    assert [r.tolist() for r in batch.regions] == [[], [[1, 2, 3, 4]], []]
    assert batch.records == [real.record, fake.record, unknown.record]

    plain = collate([[real]])
    assert plain.weight is None and plain.domain is None and plain.regions is None


def test_collate_says_which_sample_does_not_fit(sample: FaceSample) -> None:
    other = replace(sample, image=sample.image[:50], record=FaceRecord("b.jpg"))
    with pytest.raises(InputError, match=r"b\.jpg: \(50, 200, 3\)"):
        collate([[sample], [other]])
    fake = replace(sample, label=Label.FAKE)
    with pytest.raises(InputError, match="method None; expected one of real, sbi"):
        collate([[fake]], methods=["sbi"])
    with pytest.raises(InputError, match="empty"):
        collate([])
