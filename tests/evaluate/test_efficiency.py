"""What a detector costs, against counts by hand and the literature's."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from unseen.evaluate.efficiency import efficiency, multiply_adds
from unseen.models.backbone import TimmBackbone
from unseen.models.detector import Detector
from unseen.models.heads import BinaryHead
from unseen.types import FaceBatch


def test_multiply_adds_by_hand() -> None:
    # 3 -> 4 channels, 3 x 3, on 8 x 8 with padding: 64 places * 4 * 3 * 9 = 6912
    # depthwise 4, 3 x 3, stride 2: 16 places * 4 * 9 = 576; linear 64 -> 5: 320
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 4, 3, stride=2, padding=1, groups=4),
        nn.Flatten(),
        nn.Linear(64, 5),
    )
    net[1].eval()
    assert multiply_adds(net, 8) == 6912 + 576 + 320
    assert [m.training for m in net] == [True, False, True, True, True, True]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "size", "gmacs", "millions"),
    [("legacy_xception", 299, 8.355, 20.811), ("tf_efficientnet_b4", 256, 1.961, 17.552)],
)
def test_known_networks(name: str, size: int, gmacs: float, millions: float) -> None:
    detector = Detector(TimmBackbone(name, image_size=size), BinaryHead)
    assert multiply_adds(detector, size) / 1e9 == pytest.approx(gmacs, rel=0.005)
    assert sum(p.numel() for p in detector.parameters()) / 1e6 == pytest.approx(millions, rel=0.002)


def test_all_numbers_and_the_detector_as_it_was() -> None:
    detector = Detector(TimmBackbone("test_efficientnet", image_size=64), BinaryHead).eval()
    before = {name: value.clone() for name, value in detector.state_dict().items()}
    batch = FaceBatch(torch.zeros(6, 3, 64, 64, dtype=torch.uint8), torch.tensor([0, 1] * 3))
    numbers = efficiency(detector, batch_size=4, device="cpu", repeats=2, batches=[batch] * 4)
    assert numbers.image_size == 64
    assert numbers.gmacs == multiply_adds(detector, 64) / 1e9
    assert numbers.parameters == sum(p.numel() for p in detector.parameters()) / 1e6
    assert numbers.inference > numbers.training > 0
    assert numbers.loading is not None
    assert numbers.loading > 0
    assert "not counted" in numbers.to_dict()["counted"]
    assert all(torch.equal(before[name], value) for name, value in detector.state_dict().items())
    assert not detector.training
