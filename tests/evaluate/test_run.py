"""Scoring a manifest: one score a crop, whatever the batch, the workers and the broken files."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from unseen.data.transforms import Flip
from unseen.evaluate.run import fingerprint, score_records
from unseen.evaluate.scores import ScoreTable
from unseen.evaluate.summary import summary
from unseen.models.backbone import TimmBackbone
from unseen.models.detector import Detector
from unseen.models.heads import BinaryHead
from unseen.types import FaceRecord, InputError

BROKEN = {3: b"", 11: b"\xff\xd8 not a picture", 12: None}


class Red(nn.Module):
    """Scores how red the left half is; the dropout must be off."""

    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout(0.5)
        self.frozen = nn.BatchNorm2d(3).eval()

    def forward(self, image: torch.Tensor) -> SimpleNamespace:
        assert image.dtype == torch.float32
        assert float(image.max()) <= 1.0
        self.frozen(image)
        return SimpleNamespace(score=self.drop(image[:, 0, :, :8].mean((1, 2))) * 10)


@pytest.fixture
def records(tmp_path: Path) -> list[FaceRecord]:
    rows = []
    for i in range(24):
        path = tmp_path / f"{i:02d}.png"
        image = np.zeros((16, 16, 3), np.uint8)
        image[:, :8, 2] = 10 * i  # OpenCV writes BGR: this is red
        cv2.imwrite(str(path), image)
        if i in BROKEN:
            path.unlink()
            if BROKEN[i] is not None:
                path.write_bytes(BROKEN[i])
        label = int(i >= 12)
        rows.append(
            FaceRecord(str(path), label, "d", f"v{i // 4}", i % 4, method="swap" if label else "real")
        )
    return rows


def test_every_crop_gets_its_own_score_and_broken_ones_none(records, tmp_path):
    seen: list[tuple[int, float]] = []
    detector = Red().train()
    detector.frozen.eval()
    out = tmp_path / "runs" / "scores.parquet"
    table = score_records(
        detector, records, [Flip(p=1.0)], out=out, batch_size=5, report=lambda *now: seen.append(now),
        card={"model": "red"}, device="cpu",
    )  # fmt: skip
    rows = table.rows.collect()
    assert rows["path"].to_list() == [r.path for r in records]
    for i, score in enumerate(rows["score"].to_list()):
        if i in BROKEN:
            assert score is None
            assert rows["status"][i] == "unreadable"
            assert Path(records[i].path).name in rows["reason"][i]
        else:
            assert score == pytest.approx(10 * (10 * i / 255), abs=1e-5)
    assert [done for done, _ in seen] == [5, 10, 15, 20, 24]
    assert all(rate > 0 for _, rate in seen)
    assert detector.training
    assert not detector.frozen.training
    assert int(detector.frozen.num_batches_tracked) == 0
    assert table.video_metrics()["auc"] == 1.0
    assert table.counts()["unreadable"] == 3
    (said,) = (text for text in summary(table, resamples=0)["warnings"] if "no score" in text)
    assert said.startswith(f"3 rows have no score; the first is {records[3].path}: ")
    assert table.card["model"] == "red"
    assert table.card["rows_hash"] == fingerprint(records)
    assert table.card["scored"] == 21
    assert ScoreTable.read(out).card == table.card


@pytest.mark.parametrize(("batch_size", "workers"), [(1, 0), (24, 0), (7, 2)])
def test_batch_and_workers_change_nothing(records, batch_size, workers):
    before = torch.random.get_rng_state()
    one = score_records(Red(), records, batch_size=5, device="cpu").rows.collect()
    other = score_records(Red(), records, batch_size=batch_size, workers=workers, device="cpu").rows.collect()
    assert one.drop("score").equals(other.drop("score"))
    np.testing.assert_allclose(one["score"].to_numpy(), other["score"].to_numpy(), atol=1e-6)
    assert torch.equal(before, torch.random.get_rng_state())  # scoring inside a training run moves nothing


def test_scores_that_are_not_finite_become_rows_of_their_own(records):
    class Broken(Red):
        def forward(self, image: torch.Tensor) -> SimpleNamespace:
            score = super().forward(image).score
            return SimpleNamespace(score=torch.where(score > 8, torch.nan, score))

    table = score_records(Broken(), records, device="cpu")
    assert table.counts()["not_finite"] == 3  # 21, 22 and 23 of 24
    assert table.frame_metrics()["n_fake"] == 8


def test_a_real_detector_and_bfloat16(records):
    torch.manual_seed(0)
    detector = Detector(TimmBackbone("test_resnet", image_size=32), BinaryHead)
    full = score_records(detector, records, device="cpu")
    half = score_records(detector, records, device="cpu", precision="bfloat16")
    assert full.counts()["scored"] == 21
    a, b = (t.frames()["score"].to_numpy() for t in (full, half))
    np.testing.assert_allclose(a, b, atol=0.1)
    assert full.card["transforms"] == []


def test_no_records_and_pictures_of_different_sizes(records):
    with pytest.raises(InputError, match="no records") as error:
        score_records(Red(), [])
    assert error.value.reason == "empty"
    cv2.imwrite(records[1].path, np.zeros((20, 16, 3), np.uint8))
    with pytest.raises(InputError, match="AlignFace"):
        score_records(Red(), records, device="cpu")


def test_the_fingerprint_moves_with_rows_but_not_with_folders(records):
    moved = [
        FaceRecord("/elsewhere/" + Path(r.path).name, r.label, r.dataset, r.video, r.frame, method=r.method)
        for r in records
    ]
    assert fingerprint(moved) == fingerprint(records)
    assert fingerprint(records[1:]) != fingerprint(records)
    assert fingerprint(records[::-1]) != fingerprint(records)
