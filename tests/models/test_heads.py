from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from unseen.models.backbone import Backbone
from unseen.models.heads import BinaryHead, weighted_mean
from unseen.types import FaceBatch, Features, InputError


def backbone() -> Backbone:
    return Backbone(4, 4, 8, mean=(0, 0, 0), std=(1, 1, 1))


def batch(label: list[int], weight: list[float] | None = None) -> FaceBatch:
    return FaceBatch(
        torch.zeros(len(label), 3, 8, 8),
        torch.tensor(label),
        None if weight is None else torch.tensor(weight),
    )


def test_score_is_the_log_odds_of_fake() -> None:
    head = BinaryHead(backbone())
    logits = torch.tensor([[0.0, math.log(3.0)]])  # P(fake) = 3/4, odds 3
    assert head.log_odds(logits).item() == pytest.approx(math.log(3))
    assert torch.sigmoid(head.log_odds(logits)).item() == pytest.approx(logits.softmax(1)[0, 1].item())


def test_loss_is_torch_cross_entropy() -> None:
    head = BinaryHead(backbone(), label_smoothing=0.1)
    logits = torch.randn(5, 2)
    label = [0, 1, 1, 0, 1]
    wanted = functional.cross_entropy(logits, torch.tensor(label), label_smoothing=0.1)
    assert torch.allclose(head.losses(logits, batch(label))["cross_entropy"], wanted)


def test_weights_count() -> None:
    # ln 2 for a face on the fence, ln(1 + e^-2) for one at odds e^2; weights 3 and 1
    logits = torch.tensor([[0.0, 0.0], [0.0, 2.0]])
    loss = BinaryHead(backbone()).losses(logits, batch([1, 1], [3.0, 1.0]))["cross_entropy"]
    assert loss.item() == pytest.approx((3 * math.log(2) + math.log(1 + math.exp(-2))) / 4)


def test_no_weight_left_is_zero_on_the_graph() -> None:
    value = torch.tensor([1.0, 2.0], requires_grad=True)
    loss = weighted_mean(value, torch.zeros(2))
    loss.backward()
    assert loss.item() == 0 and value.grad is not None and value.grad.tolist() == [0, 0]


def test_dropout_rests_outside_training() -> None:
    head = BinaryHead(backbone(), dropout=0.9).eval()
    features = Features(torch.zeros(1, 4, 1, 1), torch.ones(1, 4))
    assert torch.equal(head(features), head.linear(features.vector))


@pytest.mark.parametrize("arguments", [{"dropout": 1.0}, {"label_smoothing": -0.1}])
def test_bad_arguments_are_named(arguments: dict) -> None:
    with pytest.raises(InputError, match=next(iter(arguments))):
        BinaryHead(backbone(), **arguments)
