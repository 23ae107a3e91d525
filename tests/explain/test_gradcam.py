"""Grad-CAM against numbers worked by hand and against plain autograd."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from unseen.explain.gradcam import class_activation_map
from unseen.models.backbone import Backbone, TimmBackbone
from unseen.models.detector import Detector, Head, Part
from unseen.models.heads import BinaryHead
from unseen.types import Features


class Given(Backbone):
    """Gives a fixed map and its mean."""

    def __init__(self, map: Tensor, vector: Tensor | None = None) -> None:
        channels = map.shape[1]
        dim = channels if vector is None else vector.shape[1]
        super().__init__(channels, dim, 2, mean=(0, 0, 0), std=(1, 1, 1))
        self.map, self.vector = map, vector

    def forward(self, image: Tensor) -> Features:
        return Features(self.map, self.map.mean((2, 3)) if self.vector is None else self.vector)


class Line(Head):
    """score = weight . vector"""

    def __init__(self, backbone: Backbone, weight: tuple[float, ...] = (1.0, -2.0)) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weight))

    def forward(self, features: Features) -> Tensor:
        return (features.vector * self.weight).sum(1, keepdim=True)

    def log_odds(self, logits: Tensor) -> Tensor:
        return logits[:, 0]


class Doubled(Part):
    """Changes the map and pools it again, as a decomposition does."""

    def forward(self, features: Features) -> tuple[Features, Any]:
        map = 2 * features.map**2
        return Features(map, map.mean((2, 3))), None


def by_autograd(detector: Detector, image: Tensor) -> Tensor:
    """Eq. 1 and 2 of Grad-CAM as printed, through the whole head."""
    seen = detector.backbone(image)
    map = seen.map.detach().requires_grad_()
    score = detector.judge(Features(map, map.mean((2, 3)))).score
    (slope,) = torch.autograd.grad(score.sum(), map)
    heat = (slope.mean((2, 3), keepdim=True) * map).sum(1).relu()
    return (heat / heat.amax((1, 2), keepdim=True).clamp_min(1e-12)).detach()


def test_two_channels_two_by_two_by_hand() -> None:
    # score = mean(a) - 2 mean(b); weights 1/4 and -2/4.
    # a/4 - 2b/4: (4 - 0, 2 - 2, 0 - 2, 8 - 0) / 4 = 1, 0, -.5, 2 -> ReLU 1, 0, 0, 2 -> / 2 = .5, 0, 0, 1
    a = [[4.0, 2.0], [0.0, 8.0]]
    b = [[0.0, 1.0], [1.0, 0.0]]
    detector = Detector(Given(torch.tensor([[a, b]])), Line)
    heat = class_activation_map(detector, torch.zeros(1, 3, 2, 2))
    assert heat.tolist() == [[[0.5, 0.0], [0.0, 1.0]]]


def test_all_zero_stays_zero_beside_a_face_that_speaks() -> None:
    zero, tiny = torch.zeros(1, 2, 2, 2), torch.full((1, 2, 2, 2), 1e-16)
    loud = torch.tensor([[[[4.0, 2.0], [0.0, 8.0]], [[0.0, 1.0], [1.0, 0.0]]]])
    detector = Detector(Given(torch.cat([zero, loud, tiny])), Line)
    heat = class_activation_map(detector, torch.zeros(3, 3, 2, 2))
    assert heat[0].abs().max() == 0
    assert heat[1].max() == 1
    assert heat[2].abs().max() == 0  # noise is not blown up to a map


def test_a_confident_network_keeps_its_map() -> None:
    # At a score of about 2000 the sigmoid's slope is 0 in float32; the log-odds' is not.
    map = torch.tensor([[[[4000.0, 0.0], [0.0, 4000.0]], [[0.0, 0.0], [0.0, 0.0]]]])
    heat = class_activation_map(Detector(Given(map), Line), torch.zeros(1, 3, 2, 2))
    assert heat.tolist() == [[[1.0, 0.0], [0.0, 1.0]]]


@pytest.mark.parametrize("name", ["test_resnet", "test_convnext", "test_mambaout"])
def test_closed_form_equals_autograd(name: str) -> None:
    torch.manual_seed(0)
    detector = Detector(TimmBackbone(name, image_size=96), BinaryHead).eval()
    image = torch.rand(3, 3, 96, 96)
    heat = class_activation_map(detector, image)
    assert torch.allclose(heat, by_autograd(detector, image), atol=1e-5)
    weight = detector.head.state_dict()["linear.weight"]  # linear on the mean: weights times the map
    closed = torch.einsum("c,bchw->bhw", weight[1] - weight[0], detector.backbone(image).map).relu()
    closed = closed / closed.amax((1, 2), keepdim=True).clamp_min(1e-12)
    assert torch.allclose(heat, closed, atol=1e-5)


def test_a_part_that_pools_again_is_followed() -> None:
    torch.manual_seed(0)
    backbone = Given(torch.rand(2, 2, 3, 3))
    detector = Detector(backbone, Line, [lambda _: Doubled()])
    image = torch.zeros(2, 3, 2, 2)
    assert torch.allclose(class_activation_map(detector, image), by_autograd(detector, image), atol=1e-6)


def test_a_class_token_projects_the_patches() -> None:
    detector = Detector(TimmBackbone("test_vit", image_size=160), BinaryHead)
    heat = class_activation_map(detector, torch.rand(2, 3, 160, 160))
    assert heat.shape[0] == 2
    assert heat.min() >= 0
    assert heat.max() <= 1


def test_no_way_from_the_map_to_the_score_is_said() -> None:
    backbone = Given(torch.rand(1, 5, 2, 2), torch.rand(1, 2))
    with pytest.raises(ValueError, match="no Grad-CAM"):
        class_activation_map(Detector(backbone, Line), torch.zeros(1, 3, 2, 2))


def test_leaves_modes_and_gradients_alone_even_inside_inference_mode() -> None:
    detector = Detector(TimmBackbone("test_resnet", image_size=64), BinaryHead)
    detector.train()
    detector.head.eval()
    before = [module.training for module in detector.modules()]
    image = torch.rand(2, 3, 64, 64)
    first = class_activation_map(detector, image)
    with torch.inference_mode():
        second = class_activation_map(detector, image)
    assert torch.equal(first, second)
    assert not first.requires_grad
    assert [module.training for module in detector.modules()] == before
    assert all(parameter.grad is None for parameter in detector.parameters())
