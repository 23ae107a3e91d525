"""Folded networks say what they said."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from unseen.models.backbone import Backbone, TimmBackbone
from unseen.models.f3net import F3Net
from unseen.models.folding import fold_norms
from unseen.types import Features


def used(backbone: Backbone) -> Backbone:
    """With statistics as after training, or folding would have nothing to do."""
    torch.manual_seed(0)
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 2)
    return backbone.eval()


def norms(backbone: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in backbone.modules())


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "test_byobnet"])
def test_no_norm_is_left_and_nothing_changes(name: str) -> None:
    backbone = used(TimmBackbone(name, image_size=64))
    folded = fold_norms(backbone)
    assert norms(backbone) > 0
    assert norms(folded) == 0
    image = torch.rand(3, 3, 64, 64)
    with torch.no_grad():
        before, after = backbone(image), folded(image)
    torch.testing.assert_close(after.map, before.map, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(after.vector, before.vector, atol=1e-4, rtol=1e-4)


def test_two_branches() -> None:
    backbone = used(F3Net(name="test_resnet", image_size=96, mix_after=["layer2"]))
    image = torch.rand(2, 3, 96, 96)
    with torch.no_grad():
        torch.testing.assert_close(fold_norms(backbone)(image).map, backbone(image).map, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("name", ["test_convnext", "test_vit"])
def test_networks_without_such_norms_are_left_alone(name: str) -> None:
    backbone = used(TimmBackbone(name, image_size=160))
    image = torch.rand(1, 3, 160, 160)
    with torch.no_grad():
        assert torch.equal(fold_norms(backbone)(image).map, backbone(image).map)


class Twice(Backbone):
    """Uses a convolution's output beside its norm's: folding would change it."""

    def __init__(self) -> None:
        super().__init__(4, 4, 16, mean=(0, 0, 0), std=(1, 1, 1))
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, image: Tensor) -> Features:
        plain = self.conv(self.normalize(image))
        map = plain + self.norm(plain)
        return Features(map, map.mean((2, 3)))


def test_what_cannot_be_folded_is_returned_as_it_is() -> None:
    backbone = used(Twice())
    assert fold_norms(backbone) is backbone
