from __future__ import annotations

import itertools
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch

from unseen.data.dataset import FaceDataset
from unseen.data.manifest import Manifest
from unseen.data.photometric import JpegCompress, Noise
from unseen.data.samplers import Balanced, Shuffled
from unseen.data.transforms import AlignFace
from unseen.methods.sbi import SelfBlend
from unseen.models.backbone import Backbone
from unseen.models.detector import Detector
from unseen.models.heads import BinaryHead
from unseen.train.loaders import BatchStream, FaceBatches, make_loader, validation_draws
from unseen.train.validation import ValidationScores, score_validation
from unseen.types import FaceBatch, FaceRecord, Features, Label


def records(count: int) -> list[FaceRecord]:
    return [FaceRecord(f"{i}.png", Label(i % 2)) for i in range(count)]


def test_a_stream_goes_on_where_another_stopped() -> None:
    rows = records(7)
    whole = list(itertools.islice(BatchStream(Shuffled(2), rows, seed=3), 20))
    for start in (0, 1, 4, 9):
        part = itertools.islice(BatchStream(Shuffled(2), rows, seed=3, start=start), 20 - start)
        assert list(part) == whole[start:]


def test_a_stream_counts_epochs() -> None:
    batches = list(itertools.islice(BatchStream(Shuffled(2), records(6), seed=3), 6))
    assert [batch[0].epoch for batch in batches] == [0, 0, 0, 1, 1, 1]
    assert sorted(draw.index for batch in batches[:3] for draw in batch) == list(range(6))


def test_two_processes_share_what_one_would_see() -> None:
    rows = records(8)
    alone = list(itertools.islice(BatchStream(Balanced(2), rows, seed=3), 4))
    halves = [
        list(itertools.islice(BatchStream(Balanced(2), rows, seed=3, rank=rank, world=2), 2))
        for rank in (0, 1)
    ]
    assert [halves[0][0], halves[1][0], halves[0][1], halves[1][1]] == alone


@pytest.mark.parametrize("workers", [1, 2])
def test_batches_do_not_depend_on_the_number_of_workers(faces_file: Path, workers: int) -> None:
    rows = Manifest.read(faces_file).records()
    blend = SelfBlend()

    def first(workers: int) -> list[FaceBatch | None]:
        faces = FaceDataset(rows, [AlignFace(32, shift=0.1)], seed=1, synthesise=blend)
        stream = BatchStream(Balanced(4, synthesise=blend), rows, seed=1)
        return list(itertools.islice(make_loader(FaceBatches(faces), stream, workers=workers), 5))

    for one, other in zip(first(0), first(workers), strict=True):
        assert one is not None and other is not None
        assert torch.equal(one.image, other.image) and torch.equal(one.label, other.label)


def test_what_is_left_to_the_device_travels_with_the_batch(faces_file: Path) -> None:
    rows = Manifest.read(faces_file).records()

    def first(workers: int, photometric: Literal["processor", "device"]) -> list[torch.Tensor]:
        faces = FaceDataset(rows, [AlignFace(32), Noise(0.5), JpegCompress()], photometric=photometric)
        loader = make_loader(FaceBatches(faces), BatchStream(Shuffled(4), rows, seed=1), workers=workers)
        batches = [batch for batch in itertools.islice(loader, 3) if batch is not None]
        assert all(bool(batch.changes) == (photometric == "device") for batch in batches)
        return [batch.to("cpu").image for batch in batches]

    for far, near in zip(first(2, "device"), first(0, "processor"), strict=True):
        assert torch.equal(far, near)


def test_starting_workers_takes_nothing_from_the_random_numbers_of_training(faces_file: Path) -> None:
    rows = Manifest.read(faces_file).records()
    torch.manual_seed(5)
    state = torch.get_rng_state()
    loader = make_loader(
        FaceBatches(FaceDataset(rows, [AlignFace(32)])), BatchStream(Shuffled(2), rows, seed=1), workers=0
    )
    next(iter(loader))
    assert torch.equal(torch.get_rng_state(), state)


def test_validation_fakes_are_the_same_each_time(faces_file: Path) -> None:
    rows = Manifest.read(faces_file).records()
    faces = FaceDataset(rows, [AlignFace(32, shift=0.3)], training=False, synthesise=SelfBlend())
    draws = validation_draws(rows, batch_size=8, synthesise=True)
    assert [len(batch) for batch in draws] == [4, 4, 4, 1]
    first, second = FaceBatches(faces)[draws[0]], FaceBatches(faces)[draws[0]]
    assert first is not None and second is not None
    assert torch.equal(first.image, second.image)
    assert first.label.tolist() == [0, 1] * 4


def test_an_unusable_face_is_left_out_of_the_validation(
    faces_file: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    good = Manifest.read(faces_file).records()[0]
    bad = FaceRecord(str(tmp_path / "gone.png"), Label.REAL, landmarks=good.landmarks)
    batches = FaceBatches(FaceDataset([bad, good], [AlignFace(32)], training=False))
    draws = validation_draws([bad, good], batch_size=2, synthesise=False)
    batch = batches[draws[0]]
    assert batch is not None and [record.path for record in batch.records] == [good.path]
    assert batches[draws[0][:1]] is None
    assert "gone.png" in caplog.text


class Mean(Backbone):
    """Sees nothing but how bright a picture is."""

    def __init__(self) -> None:
        super().__init__(1, 1, 4, mean=(0, 0, 0), std=(1, 1, 1))

    def forward(self, image: torch.Tensor) -> Features:
        grid = self.normalize(image).mean(1, keepdim=True)
        return Features(grid, grid.mean((2, 3)))


def brightness_detector() -> Detector:
    detector = Detector(Mean(), BinaryHead)
    with torch.no_grad():
        detector.head.linear.weight.copy_(torch.tensor([[0.0], [10.0]]))
        detector.head.linear.bias.copy_(torch.tensor([0.0, -5.0]))
    return detector


def test_scores_are_those_of_the_detector_and_its_mode_is_put_back() -> None:
    detector = brightness_detector().train()
    image = torch.tensor([51, 204], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 3, 4, 4)
    batch = FaceBatch(
        image, torch.tensor([0, 1]), records=[FaceRecord("a", video="v"), FaceRecord("b", video="v")]
    )
    scores = score_validation(detector, [batch, None], device=torch.device("cpu"))
    assert scores.score.tolist() == pytest.approx([10 * 0.2 - 5, 10 * 0.8 - 5], abs=1e-5)
    assert detector.training and scores.metrics()["val_auc"] == 1.0
    # log(1 + e^-3) for both: each is 3 on its right side
    assert scores.metrics()["val_log_loss"] == pytest.approx(np.log1p(np.exp(-3)), abs=1e-5)


def test_videos_are_averaged_and_a_fake_is_not_the_video_it_was_made_of() -> None:
    rows = [FaceRecord("a", video="v"), FaceRecord("b", video="v"), FaceRecord("a", video="v")]
    score, label = ValidationScores(np.array([1.0, 3.0, 5.0]), np.array([0, 0, 1]), rows).videos()
    assert score.tolist() == [2.0, 5.0] and label.tolist() == [0, 1]


def test_no_usable_face_at_all_is_no_number() -> None:
    scores = score_validation(brightness_detector(), [None], device=torch.device("cpu"))
    assert scores.score.shape == (0,)
    assert np.isnan(scores.metrics()["val_auc"])
