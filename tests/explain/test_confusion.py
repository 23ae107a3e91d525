from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from unseen.explain.confusion import Confusion, domain_confusion, draw_confusion
from unseen.models.backbone import Backbone
from unseen.models.detector import Detector, Part
from unseen.models.heads import BinaryHead
from unseen.types import FaceRecord, Features, InputError, Label


class Grey(Backbone):
    def __init__(self) -> None:
        super().__init__(3, 3, 8, mean=(0, 0, 0), std=(1, 1, 1))

    def forward(self, image: Tensor) -> Features:
        return Features(image, image.mean((2, 3)))


class ByBrightness(Part):
    """Takes dark faces for domain 0, and brighter ones for higher domains, a quarter of white each."""

    domains = 4

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()

    def forward(self, features: Features) -> tuple[Features, Tensor]:
        return features, features.vector[:, 0]

    def domain_logits(self, aux: Tensor) -> Tensor:
        return -(aux[:, None] * 4 - torch.arange(4) - 0.5).abs()


@pytest.fixture
def detector() -> Detector:
    return Detector(Grey(), BinaryHead, [ByBrightness])


@pytest.fixture
def make(tmp_path: Path):
    def face(method: str, grey: int) -> FaceRecord:
        path = tmp_path / f"{method}{grey}.png"
        cv2.imwrite(str(path), np.full((8, 8, 3), grey, np.uint8))
        return FaceRecord(str(path), Label.REAL if method == "real" else Label.FAKE, method=method)

    return face


def test_counts_by_hand(detector: Detector, make) -> None:
    faces = [("real", 0), ("real", 10), ("real", 100), ("a", 90), ("b", 160), ("b", 20), ("new", 150)]
    records = [make(*face) for face in faces]
    detector.train()
    found = domain_confusion(detector, records, methods=["b", "a"], batch_size=2)
    assert detector.training
    assert found.rows == ("real", "a", "b", "new") and found.columns == ("real", "a", "b")
    assert found.counts.tolist() == [[2, 1, 0], [0, 1, 0], [1, 0, 1], [0, 0, 1]]
    assert found.shares()[0].tolist() == pytest.approx([2 / 3, 1 / 3, 0])
    assert found.accuracy() == pytest.approx((2 / 3 + 1 + 1 / 2) / 3)  # the unseen method is no error


def test_a_domain_that_nothing_was_trained_on_shows_only_if_it_is_taken(detector: Detector, make) -> None:
    found = domain_confusion(detector, [make("real", 0), make("a", 255)])
    assert found.columns == ("real", "a", "(unused 3)")
    assert found.rows == found.columns and found.counts.tolist() == [[1, 0, 0], [0, 0, 1], [0, 0, 0]]
    assert np.isnan(found.shares()[2]).all() and found.accuracy() == pytest.approx(0.5)


def test_faces_that_cannot_be_read_are_left_out_and_told(
    detector: Detector, make, caplog: pytest.LogCaptureFixture
) -> None:
    gone = FaceRecord("gone.png", Label.FAKE, method="a")
    found = domain_confusion(detector, [make("real", 0), gone])
    assert found.counts.sum() == 1 and "gone.png" in caplog.text
    with pytest.raises(InputError, match="none of 1 faces"):
        domain_confusion(detector, [gone])


def test_what_cannot_be_asked(detector: Detector, make) -> None:
    with pytest.raises(InputError, match="no part of this detector tells domains"):
        domain_confusion(Detector(Grey(), BinaryHead), [make("real", 0)])
    with pytest.raises(InputError, match="tells 3 methods, not 4"):
        domain_confusion(detector, [make(m, 0) for m in ("a", "b", "c", "d")])


def test_the_picture_has_every_share(tmp_path: Path) -> None:
    figure = draw_confusion(
        Confusion(("real", "a", "new"), ("real", "a"), np.array([[3, 1], [0, 0], [1, 1]]))
    )
    axes = figure.axes[0]
    assert [t.get_text() for t in axes.texts] == ["0.75", "0.25", "-", "-", "0.50", "0.50"]
    assert [t.get_text() for t in axes.get_yticklabels()] == ["real", "a", "new"]
    figure.savefig(tmp_path / "figure4.png")
    assert cv2.imread(str(tmp_path / "figure4.png")).std() > 5
