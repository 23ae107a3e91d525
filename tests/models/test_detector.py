from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from unseen.models.backbone import Backbone
from unseen.models.detector import Detector, Part
from unseen.models.heads import BinaryHead
from unseen.types import Explanation, FaceBatch, Features


class Plain(Backbone):
    """One convolution, so that every number can be followed."""

    def __init__(self) -> None:
        super().__init__(2, 2, 8, mean=(0, 0, 0), std=(1, 1, 1))
        self.net = nn.Conv2d(3, 2, 1)

    def forward(self, image: Tensor) -> Features:
        grid = self.net(self.normalize(image))
        return Features(grid, grid.mean((2, 3)))


class Add(Part):
    """Adds a number to the vector, asks for a loss of that number, and has seen everything."""

    def __init__(self, backbone: Backbone, *, amount: float = 1.0) -> None:
        super().__init__()
        self.dim, self.amount = backbone.dim, amount

    def forward(self, features: Features) -> tuple[Features, Tensor]:
        return Features(features.map, features.vector + self.amount), features.vector

    def losses(self, aux: Tensor, batch: FaceBatch) -> dict[str, Tensor]:
        return {"added": aux.sum() * 0 + self.amount}

    def explain(self, aux: Tensor) -> list[list[Explanation]]:
        return [[Explanation("seen", scores=np.float32([self.amount]))] for _ in aux]


def batch() -> FaceBatch:
    return FaceBatch(torch.rand(3, 3, 8, 8), torch.tensor([0, 1, 0]))


def test_parts_work_in_order_and_head_sees_the_last() -> None:
    detector = Detector(Plain(), BinaryHead, [lambda b: Add(b, amount=2.0), Add])
    image = batch().image
    output = detector(image)
    plain = detector.backbone(image)
    assert torch.allclose(output.aux[1], plain.vector + 2)
    assert torch.allclose(output.features.vector, plain.vector + 3)
    assert torch.allclose(output.logits, detector.head(Features(plain.map, plain.vector + 3)))
    assert torch.equal(output.score, output.logits[:, 1] - output.logits[:, 0])


def test_terms_of_two_parts_of_a_kind_do_not_overwrite_each_other() -> None:
    detector = Detector(Plain(), BinaryHead, [Add, lambda b: Add(b, amount=5.0)])
    terms = detector.losses(batch())
    assert set(terms) == {"cross_entropy", "added", "added'"}
    assert terms["added"].item() == 1 and terms["added'"].item() == 5


def test_built_pieces_are_taken_as_they_are() -> None:
    backbone = Plain()
    head, part = BinaryHead(backbone), Add(backbone)
    detector = Detector(backbone, head, [part])
    assert detector.head is head and detector.parts[0] is part


def test_evidence_of_all_parts_is_joined_by_picture() -> None:
    found = Detector(Plain(), BinaryHead, [Add, Add]).explain(batch().image)
    assert [[e.kind for e in one] for one in found] == [["seen", "seen"]] * 3


def test_bytes_are_judged_like_floats() -> None:
    detector = Detector(Plain(), BinaryHead)
    image = torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8)
    assert torch.allclose(detector(image).score, detector(image.float() / 255).score, atol=1e-6)


def test_a_label_that_is_none_of_two_is_refused() -> None:
    with pytest.raises((IndexError, RuntimeError)):
        Detector(Plain(), BinaryHead).losses(FaceBatch(torch.rand(1, 3, 8, 8), torch.tensor([-1])))
