"""RealID, Liu et al., IJCAI 2025: eq. 2 to 9, 13 and 14 with K = 2 prototypes of D = 2 numbers, by hand."""

from __future__ import annotations

import copy
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional

from tests.train.test_learner import learn
from unseen.methods.realid import (
    DualDecisionHead,
    RealMemory,
    decision_regularizer,
    distinction,
    diversity,
    real_concepts,
    update_prototypes,
)
from unseen.models.backbone import Backbone
from unseen.models.detector import Detector
from unseen.models.heads import BinaryHead
from unseen.recipe import TrainerSettings
from unseen.types import FaceBatch, FaceRecord, Features, InputError, Label

AXES = torch.tensor([[1.0, 0.0], [0.0, 1.0]])


def close(found: Tensor, expected: object, atol: float = 1e-6) -> None:
    torch.testing.assert_close(found, torch.as_tensor(expected, dtype=found.dtype), atol=atol, rtol=1e-5)


def unit(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    return functional.normalize(torch.randn(*shape, generator=draw, dtype=torch.float64), dim=-1).to(dtype)


# --- eq. 2 to 6 -------------------------------------------------------------------------------------------


def test_update_by_hand() -> None:
    features = torch.tensor([[0.8, 0.6], [0.6, 0.8], [1.0, 0.0]])
    # dot products with (1, 0): .8 .6 1, with (0, 1): .6 .8 0; so U_1 = {1, 3}, U_2 = {2}
    # v'_11 = e^(.8 - 1) = .8187308, v'_13 = 1: (1, 0) + .8187308 (.8, .6) + (1, 0) = (2.6549846, .4912385),
    # of length sqrt(7.0489432 + .2413152) = 2.7000478
    # v'_22 = 1: (0, 1) + (.6, .8) = (.6, 1.8), of length sqrt(3.6) = 1.8973666
    close(update_prototypes(AXES, features), [[0.9833103, 0.1819370], [0.3162278, 0.9486833]])


def literal_update(prototypes: Tensor, features: Tensor) -> Tensor:
    """The printed equations, one number at a time, with both softmaxes (that of eq. 2 over prototypes)."""
    slots, count = len(prototypes), len(features)
    dot = [[float(m @ f) for f in features] for m in prototypes]
    w = [
        [math.exp(dot[k][j]) / sum(math.exp(dot[i][j]) for i in range(slots)) for j in range(count)]
        for k in range(slots)
    ]
    v = [[math.exp(dot[k][j]) / sum(math.exp(d) for d in dot[k]) for j in range(count)] for k in range(slots)]
    nearest = [max(range(slots), key=lambda k: w[k][j]) for j in range(count)]  # eq. 4; max takes the first
    new = []
    for k in range(slots):
        members = [j for j in range(count) if nearest[j] == k]
        moved = prototypes[k].clone()
        for j in members:
            moved += v[k][j] / max(v[k][i] for i in members) * features[j]  # eq. 6
        new.append(moved / moved.norm())  # eq. 5
    return torch.stack(new)


def test_three_updates_equal_the_literal_loop() -> None:
    ours = theirs = unit(4, 5, dtype=torch.float64)
    for step in range(3):
        features = unit(6, 5, seed=step + 1, dtype=torch.float64)
        ours, theirs = update_prototypes(ours, features), literal_update(theirs, features)
        close(ours, theirs, atol=1e-12)
        close(ours.norm(dim=1), [1.0] * 4, atol=1e-12)


def test_features_need_not_be_of_unit_length() -> None:
    features = 3 * unit(6, 5, seed=1, dtype=torch.float64)
    prototypes = unit(4, 5, dtype=torch.float64)
    close(update_prototypes(prototypes, features), literal_update(prototypes, features), atol=1e-12)


def test_a_prototype_without_features_stays() -> None:
    moved = update_prototypes(AXES, torch.tensor([[0.8, 0.6], [0.6, 0.8]])[:1])
    close(moved[1], AXES[1])
    close(moved[0], functional.normalize(torch.tensor([1.8, 0.6]), dim=0))
    close(update_prototypes(AXES, torch.zeros(0, 2)), AXES)


def test_a_single_prototype_takes_everything() -> None:
    features = torch.tensor([[0.8, 0.6], [0.0, 1.0]])
    # e^(0 - .8) = .4493290: (1, 0) + (.8, .6) + (0, .4493290) = (1.8, 1.0493290)
    close(update_prototypes(AXES[:1], features), functional.normalize(torch.tensor([[1.8, 1.0493290]])))


def test_equally_near_means_the_first() -> None:
    middle = torch.tensor([[math.sqrt(0.5), math.sqrt(0.5)]])
    moved = update_prototypes(AXES, middle)
    close(moved[1], AXES[1])
    assert moved[0, 1] > 0.3
    # with two equal prototypes the second is the other of the two: d1 = d2, so eq. 9 is the margin
    close(diversity(middle, AXES, margin=0.7), [0.7])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_large_features_overflow_in_no_dtype(dtype: torch.dtype) -> None:
    features, prototypes = (100 * unit(8, 16, seed=1)).to(dtype), unit(4, 16).to(dtype)
    new = update_prototypes(prototypes, features)
    assert new.dtype == dtype and new.isfinite().all()
    close(new.float().norm(dim=1), [1.0] * 4, atol=1e-2)
    assert distinction(features, prototypes, prototypes).isfinite().all()
    assert diversity(features, prototypes).isfinite().all()


# --- eq. 7 and 8 ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("denominator", "expected"),
    [
        # f = (1, 0), real (1, 0) and (0, 1): dots 1 and 0, with their mean (.5, .5): .5
        # fake (0, 1) and (-1, 0): dots 0 and -1, with their mean (-.5, .5): -.5
        # numerator e + e^.5 = 2.7182818 + 1.6487213 = 4.3670031
        ("real", math.log(4.3248125 / 4.3670031)),  # e + 1 + e^-.5 = 2.7182818 + 1 + .6065307
        ("fake", math.log(1.9744101 / 4.3670031)),  # 1 + e^-1 + e^-.5 = 1 + .3678794 + .6065307
        ("all", math.log(7.3414132 / 4.3670031)),  # e + 1 + e^.5 + 1 + e^-1 + e^-.5
    ],
)
def test_distinction_by_hand(denominator: str, expected: float) -> None:
    fake = torch.tensor([[0.0, 1.0], [-1.0, 0.0]])
    close(distinction(AXES[:1], AXES, fake, denominator=denominator), [expected])  # type: ignore[arg-type]


@pytest.mark.parametrize("slots", [1, 2, 3, 10])
def test_distinction_of_what_is_like_nothing(slots: int) -> None:
    """All dot products 0: K + 1 ones below, two above."""
    features = torch.tensor([[1.0, 0.0, 0.0]])
    others = torch.zeros(slots, 3)
    others[:, 1:] = unit(slots, 2)
    close(distinction(features, others, others), [math.log((slots + 1) / 2)])


@pytest.mark.parametrize("length", [1.0, 30.0])
@pytest.mark.parametrize("slots", [1, 2, 3, 10])
def test_distinction_stays_above_minus_log_2(slots: int, length: float) -> None:
    values = torch.cat(
        [
            distinction(
                length * unit(50, 3, seed=3 * i, dtype=torch.float64),
                unit(slots, 3, seed=3 * i + 1, dtype=torch.float64),
                unit(slots, 3, seed=3 * i + 2, dtype=torch.float64),
            )
            for i in range(40)
        ]
    )
    assert values.min() > -math.log(2) - 1e-12  # the bound is neared within rounding
    if length == 1 and slots > 2:
        assert values.min() > 0  # below 0 only if e^(2/K) > K - 1
    proper = distinction(
        length * unit(50, 3), unit(slots, 3, seed=1), unit(slots, 3, seed=2), denominator="all"
    )
    assert proper.min() >= 0


def test_an_unknown_denominator_is_refused() -> None:
    with pytest.raises(InputError, match="denominator 'both'; expected real, fake or all"):
        distinction(AXES, AXES, AXES, denominator="both")  # type: ignore[arg-type]


# --- eq. 9 ------------------------------------------------------------------------------------------------


def test_diversity_by_hand() -> None:
    # (.6, .8) is nearest to (0, 1): sqrt(.36 + .04) = .6324555, then (1, 0): sqrt(.16 + .64) = .8944272
    feature = torch.tensor([[0.6, 0.8]])
    close(diversity(feature, AXES), [0.7380283])
    close(diversity(feature, AXES, margin=0.2), [0.0])  # -.2619717 + .2 < 0


def test_diversity_lies_between_margin_less_two_and_margin() -> None:
    value = diversity(unit(500, 4, seed=1), unit(6, 4), margin=2.5)
    assert value.min() >= 0.5 and value.max() <= 2.5


def test_diversity_has_a_gradient_on_a_prototype() -> None:
    feature = AXES[:1].clone().requires_grad_()
    diversity(feature, AXES).sum().backward()
    assert feature.grad is not None and feature.grad.isfinite().all()


def test_diversity_needs_a_second_prototype() -> None:
    with pytest.raises(InputError, match="1 prototypes; expected at least 2"):
        diversity(AXES, AXES[:1])


def test_gradients_are_those_of_the_formulas() -> None:
    features = unit(5, 4, dtype=torch.float64).requires_grad_()
    real, fake = unit(3, 4, seed=1, dtype=torch.float64), unit(3, 4, seed=2, dtype=torch.float64)
    for reading in ("real", "fake", "all"):
        torch.autograd.gradcheck(lambda f, r=reading: distinction(f, real, fake, denominator=r), features)
    torch.autograd.gradcheck(lambda f: diversity(f, real), features)
    logits = torch.randn(6, 4, dtype=torch.float64, requires_grad=True)
    label = torch.tensor([0, 1, 0, 1, 0, 1])
    torch.autograd.gradcheck(lambda z: decision_regularizer(z, label), logits)


# --- eq. 10, 13 and 14 ------------------------------------------------------------------------------------


def test_decision_by_hand() -> None:
    logits = torch.tensor([[0.5, 0.2, 0.2, 0.1]] * 2).log()
    # real: P1 - P3 = .2 - .1 = .1, half of .01; fake: P0 - P2 = .5 - .2 = .3, half of .09
    close(decision_regularizer(logits, torch.tensor([0, 1])), [0.005, 0.045])
    close(decision_regularizer(logits, torch.tensor([0, 1]), beta=0.25), [0.0025, 0.0225])


def test_decision_equals_smooth_l1() -> None:
    logits = 5 * torch.randn(200, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    label = torch.arange(200) % 2
    chance = logits.softmax(1)
    for kind, (first, second) in enumerate([(1, 3), (0, 2)]):
        expected = functional.smooth_l1_loss(chance[:, first], chance[:, second], reduction="none")
        found = decision_regularizer(logits, label)
        close(found[label == kind], expected[label == kind], atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int32, torch.float32])
def test_decision_takes_labels_of_any_kind(dtype: torch.dtype) -> None:
    logits, label = torch.randn(6, 4, generator=torch.manual_seed(0)), torch.tensor([0, 1, 1, 0, 1, 0])
    assert torch.equal(decision_regularizer(logits, label.to(dtype)), decision_regularizer(logits, label))


def test_decision_at_a_difference_of_one() -> None:
    """Only rounding gets there; the second branch, |d| - beta, meets the first."""
    logits = torch.tensor([[0.0, 200.0, 0.0, 0.0]])
    close(decision_regularizer(logits, torch.tensor([0])), [0.5])


def head() -> DualDecisionHead:
    return DualDecisionHead(flat(2), weight=2.0)


def flat(dim: int) -> Backbone:
    return Backbone(dim, dim, 8, mean=(0, 0, 0), std=(1, 1, 1))


def faces(label: list[int], weight: list[float] | None = None) -> FaceBatch:
    return FaceBatch(
        torch.zeros(len(label), 3, 8, 8),
        torch.tensor(label),
        weight=None if weight is None else torch.tensor(weight),
        records=[FaceRecord(f"{i}.png", Label(kind)) for i, kind in enumerate(label)],
    )


def test_head_terms() -> None:
    logits = torch.tensor([[0.5, 0.2, 0.2, 0.1]] * 2).log()
    terms = head().losses(logits, faces([0, 1]))
    close(terms["cross_entropy"], (-math.log(0.5) - math.log(0.2)) / 2)
    close(terms["decision"], 2 * (0.005 + 0.045))
    terms = head().losses(logits, faces([0, 1], [3.0, 1.0]))
    close(terms["cross_entropy"], (-3 * math.log(0.5) - math.log(0.2)) / 4)
    close(terms["decision"], 2 * (3 * 0.005 + 0.045))
    close(head().log_odds(logits), [math.log(0.2 / 0.5)] * 2)


@pytest.mark.parametrize("argument", ["beta", "weight"])
def test_head_refuses_negative_numbers(argument: str) -> None:
    with pytest.raises(InputError, match=f"DualDecisionHead: {argument} -0.1"):
        DualDecisionHead(flat(2), **{argument: -0.1})


# --- the memory -------------------------------------------------------------------------------------------


def memory(dim: int = 4, **arguments: object) -> RealMemory:
    torch.manual_seed(0)
    return RealMemory(flat(dim), **arguments)  # type: ignore[arg-type]


def seen(count: int, dim: int = 4, seed: int = 0) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    return torch.rand(count, dim, generator=draw).requires_grad_()


def test_terms_are_those_of_real_faces_with_their_weights() -> None:
    part, vector = memory(slots=3), seen(4)
    real, fake = part.real, part.fake
    features = functional.normalize(vector.detach(), dim=1)[[0, 2]]
    apart, drawn = diversity(features, real), distinction(features, real, fake)
    terms = part.losses(vector, faces([0, 1, 0, 1]))
    close(terms["diversity"], 0.6 * apart.sum())
    close(terms["distinction"], drawn.mean())
    terms = memory(slots=3, diversity_weight=2.0, distinction_weight=3.0, reduction="mean").losses(
        vector, faces([0, 1, 0, 1], [1.0, 1.0, 3.0, 1.0])
    )
    close(terms["diversity"], 2 * (apart[0] + 3 * apart[1]) / 4)
    close(terms["distinction"], 3 * (drawn[0] + 3 * drawn[1]) / 4)


def test_losses_come_before_the_update_and_each_class_moves_its_memory() -> None:
    part, vector = memory(slots=3), seen(4)
    real, fake = part.real.clone(), part.fake.clone()
    features = functional.normalize(vector.detach(), dim=1)
    terms = part.losses(vector, faces([0, 1, 0, 1]))
    close(terms["distinction"], distinction(features[[0, 2]], real, fake).mean())
    close(part.real, update_prototypes(real, features[[0, 2]]))
    close(part.fake, update_prototypes(fake, features[[1, 3]]))
    torch.stack(list(terms.values())).sum().backward()  # the old values are still there for backward
    assert vector.grad is not None and vector.grad[[0, 2]].abs().sum() > 0
    assert not vector.grad[[1, 3]].any()


def test_a_face_of_weight_0_is_not_remembered() -> None:
    first, second, vector = memory(), memory(), seen(3)
    first.losses(vector, faces([0, 0, 0], [1.0, 0.0, 1.0]))
    second.losses(vector[[0, 2]], faces([0, 0]))
    close(first.real, second.real)


def test_momentum_keeps_part_of_the_old() -> None:
    part, vector = memory(momentum=0.9), seen(4)
    old = part.real.clone()
    new = update_prototypes(old, functional.normalize(vector.detach(), dim=1))
    part.losses(vector, faces([0] * 4))
    close(part.real, functional.normalize(0.9 * old + 0.1 * new, dim=1))


@pytest.mark.parametrize("label", [[0, 0], [1, 1]])
def test_a_class_that_is_missing_costs_nothing_and_moves_nothing(label: list[int]) -> None:
    part, vector = memory(), seen(2)
    real, fake, usage = part.real.clone(), part.fake.clone(), part.usage.clone()
    terms = part.losses(vector, faces(label))
    torch.stack(list(terms.values())).sum().backward()
    assert vector.grad is not None and vector.grad.isfinite().all()
    if label[0] == 1:
        assert all(term.item() == 0 for term in terms.values())
        close(part.real, real)
        assert torch.equal(part.usage, usage)
    else:
        close(part.fake, fake)


def test_it_moves_only_in_training_with_gradients_and_when_asked() -> None:
    part, vector, batch = memory(), seen(4), faces([0, 1, 0, 1])
    before = copy.deepcopy(part.state_dict())
    part.eval().losses(vector, batch)
    with torch.no_grad():
        part.train().losses(vector, batch)
    part.track_running_stats = False
    part.losses(vector, batch)
    part.settle()
    assert all(torch.equal(value, before[name]) for name, value in part.state_dict().items())
    part.track_running_stats = True
    part.losses(vector, batch)
    assert not torch.equal(part.real, before["real"]) and part.steps == 1


def test_batches_of_a_step_move_it_as_one_large_batch() -> None:
    whole, parts, vector = memory(), memory(), seen(8)
    whole.losses(vector, faces([0, 1] * 4))
    parts.waits = True
    start = parts.real
    for rows in (slice(0, 3), slice(3, 8)):
        parts.losses(vector[rows], faces(([0, 1] * 4)[rows]))
        assert torch.equal(parts.real, start)
    parts.settle()
    assert torch.equal(parts.real, whole.real) and torch.equal(parts.fake, whole.fake) and parts.steps == 1


def test_it_has_buffers_and_no_parameters() -> None:
    part = memory(dim=7, slots=5)
    assert not list(part.parameters())
    assert {"real", "fake", "usage", "steps"} <= set(part.state_dict())
    assert part.real.shape == part.fake.shape == (5, 7)
    close(part.real.norm(dim=1), [1.0] * 5)
    assert part.real.min() >= 0  # uniform on [0, 1)


def test_a_state_dict_round_trip_goes_on_alike(tmp_path: Path) -> None:
    for init in ("uniform", "features"):
        first = memory(init=init)
        first.losses(seen(4), faces([0, 1, 0, 1]))
        second = memory(init=init)
        save_file(first.state_dict(), tmp_path / "memory.safetensors")
        second.load_state_dict(load_file(tmp_path / "memory.safetensors"))
        for part in (first, second):
            part.losses(seen(4, seed=1), faces([0, 1, 0, 1]))
        assert all(
            torch.equal(a, b)
            for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True)
        )


def test_warm_up_learns_without_losses() -> None:
    part, vector, batch = memory(warmup_steps=2), seen(4), faces([0, 1, 0, 1])
    terms = [part.losses(vector, batch) for _ in range(3)]
    assert float(terms[0]["distinction"]) == float(terms[1]["diversity"]) == 0
    assert terms[0]["diversity"].requires_grad
    assert float(terms[2]["distinction"]) > 0 and not torch.equal(part.real, memory().real)


def test_perplexity_tells_a_collapse() -> None:
    part = memory(slots=4, dim=4)
    part.real, part.fake = torch.eye(4), torch.eye(4)
    close(part.numbers()["perplexity"], 4.0)
    # all four to one prototype: shares .25 + .01 (1 - .25) = .2575 and .25 - .01 * .25 = .2475
    part.losses(torch.eye(4)[[0, 0, 0, 0]].requires_grad_(), faces([0] * 4))
    close(part.usage, [0.2575, 0.2475, 0.2475, 0.2475])
    entropy = -0.2575 * math.log(0.2575) - 3 * 0.2475 * math.log(0.2475)
    close(part.numbers()["perplexity"], math.exp(entropy))
    for _ in range(1000):
        part.losses(torch.eye(4)[[0, 0]].requires_grad_(), faces([0, 0]))
    assert part.numbers()["perplexity"] < 1.01


def test_features_fill_the_slots_with_the_farthest_first() -> None:
    part = memory(dim=3, slots=3, init="features")
    near = torch.tensor([[1.0, 0.0, 0.0], [0.99, 0.1, 0.0], [0.0, 1.0, 0.0], [0.98, 0.0, 0.2]])
    part.losses(near.requires_grad_(), faces([0] * 4))
    # half of four: the first, and the one least like it
    assert part.filled.tolist() == [2, 0]
    close(part.real[:2], [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    part.losses(torch.tensor([[0.9, 0.1, 0.0], [0.0, 0.0, 2.0]]).requires_grad_(), faces([0, 0]))
    close(part.real[2], [0.0, 0.0, 1.0])  # of unit length; the rest moves by eq. 2 to 6 from the next step on
    assert part.filled.tolist() == [3, 0]
    real = part.real.clone()
    part.losses(torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]).requires_grad_(), faces([0, 1]))
    close(part.real, update_prototypes(real, torch.tensor([[1.0, 0.0, 0.0]])))
    assert part.filled.tolist() == [3, 1]


def test_bf16_autocast_gives_numbers_of_full_precision() -> None:
    torch.manual_seed(0)
    detector = Detector(flat(16), DualDecisionHead, [lambda backbone: RealMemory(backbone)])
    plain = copy.deepcopy(detector)
    vector = (50 * torch.rand(8, 16)).to(torch.bfloat16)
    features = Features(vector[:, :, None, None], vector)
    with torch.autocast("cpu", torch.bfloat16):
        terms = detector.losses_of(detector.judge(features), faces([0, 1] * 4))
    wide = vector.float()
    expected = plain.losses_of(plain.judge(Features(wide[:, :, None, None], wide)), faces([0, 1] * 4))
    assert all(term.isfinite() and term.dtype == torch.float32 for term in terms.values())
    part, other = detector.parts[0], plain.parts[0]
    assert isinstance(part, RealMemory) and isinstance(other, RealMemory)
    assert part.real.dtype == torch.float32
    close(part.real, other.real)
    for name in ("diversity", "distinction"):
        close(terms[name], expected[name])


def test_explanation_is_the_cosine_to_each_real_prototype() -> None:
    part = memory(dim=2, slots=2)
    part.real = 0.5 * AXES  # as a moving average of weights leaves it
    features, aux = part(Features(torch.zeros(1, 2, 1, 1), torch.tensor([[3.0, 4.0]])))
    ((found,),) = part.explain(aux)
    assert found.kind == "prototypes" and found.scores is not None
    close(torch.from_numpy(found.scores), [0.6, 0.8])
    assert features.vector is aux
    detector = Detector(flat(2), BinaryHead, [part])
    close(real_concepts(detector, detector.judge(features)), [[0.6, 0.8]])  # type: ignore[arg-type]
    plain = Detector(flat(2), BinaryHead)
    assert real_concepts(plain, plain.judge(features)) is None


# --- in training ------------------------------------------------------------------------------------------


class Mean(Backbone):
    """Sees the mean colour of a picture through one linear layer; no batch norm."""

    def __init__(self, dim: int = 4) -> None:
        super().__init__(dim, dim, 8, mean=(0, 0, 0), std=(1, 1, 1))
        self.linear = torch.nn.Linear(3, dim)

    def forward(self, image: Tensor) -> Features:
        vector = self.linear(image.mean((2, 3))).relu() + 0.1
        return Features(vector[:, :, None, None], vector)


def detector() -> Detector:
    torch.manual_seed(0)
    return Detector(
        Mean(), DualDecisionHead, [lambda backbone: RealMemory(backbone, slots=3, reduction="mean")]
    )


def pictures(number: int, label: list[int]) -> FaceBatch:
    batch = faces(label)
    draw = torch.Generator().manual_seed(number)
    batch.image = torch.rand(len(label), 3, 8, 8, generator=draw)
    return batch


def test_sam_leaves_the_memory_of_its_first_pass_to_both_and_moves_it_once() -> None:
    met: list[Tensor] = []

    def trained(settings: TrainerSettings) -> Detector:
        model = detector()
        part = model.parts[0]
        assert isinstance(part, RealMemory)
        plain = part.losses
        part.losses = lambda aux, batch: met.append(part.real) or plain(aux, batch)  # type: ignore[func-returns-value]
        learn(model, [pictures(0, [0, 1, 0, 1])], settings=settings)
        return model

    once = trained(TrainerSettings(channels_last=False)).parts[0]
    twice = trained(TrainerSettings(sam=0.5, channels_last=False)).parts[0]
    assert isinstance(once, RealMemory) and isinstance(twice, RealMemory)
    assert len(met) == 3 and torch.equal(met[1], met[2])
    assert torch.equal(once.real, twice.real) and torch.equal(once.fake, twice.fake)
    assert once.steps == twice.steps == 1 and not torch.equal(once.real, met[0])


def test_accumulated_batches_are_one_step_of_the_memory() -> None:
    model = detector()
    batches = [pictures(0, [0, 0, 0, 1]), pictures(1, [1, 1, 1, 0])]
    learn(model, batches, settings=TrainerSettings(accumulate=2, channels_last=False))
    joined = detector()
    both = pictures(0, [0, 0, 0, 1, 1, 1, 1, 0])
    both.image = torch.cat([batch.image for batch in batches])
    joined.losses(both)
    part, other = model.parts[0], joined.parts[0]
    assert isinstance(part, RealMemory) and isinstance(other, RealMemory)
    assert torch.equal(part.real, other.real) and part.steps == 1


def test_perplexity_is_logged_and_not_summed() -> None:
    _, told = learn(detector(), [pictures(0, [0, 1])])
    names = ("cross_entropy", "decision", "diversity", "distinction")
    assert told[0]["perplexity"] == pytest.approx(3)
    assert told[0]["loss"] == pytest.approx(sum(told[0][name] for name in names))


# --- bad input --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"slots": 1}, "slots 1; expected at least 2"),
        ({"diversity_weight": -0.1}, "diversity_weight -0.1; expected 0 or more"),
        ({"distinction_weight": -1.0}, "distinction_weight -1.0; expected 0 or more"),
        ({"distinction_weight": math.nan}, "distinction_weight nan; expected 0 or more"),
        ({"margin": -1.0}, "margin -1.0"),
        ({"warmup_steps": -1}, "warmup_steps -1"),
        ({"momentum": 1.0}, "momentum 1.0; expected 0 <= momentum < 1"),
        ({"denominator": "both"}, "denominator 'both'; expected real or fake or all"),
        ({"reduction": "none"}, "reduction 'none'; expected sum or mean"),
        ({"init": "zeros"}, "init 'zeros'; expected uniform or features"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=f"RealMemory: {message}"):
        memory(**arguments)


def test_features_that_are_not_finite_are_named_and_not_remembered() -> None:
    part, vector = memory(), seen(3).detach()
    vector[1, 2] = math.nan
    before = part.real
    with pytest.raises(
        InputError, match=r"features of 1 of 3 faces are not finite: row 1 \(1\.png\)"
    ) as error:
        part.losses(vector, faces([0, 0, 1]))
    assert error.value.reason == "not_finite" and torch.equal(part.real, before)


def test_rows_without_a_real_face_are_refused() -> None:
    with pytest.raises(InputError, match=r"none of the 2 training rows .*0\.png.* is real") as error:
        detector().check(faces([1, 1]).records)
    assert error.value.reason == "one_class"
    detector().check(faces([0, 1]).records)


def test_another_number_of_slots_is_told_with_the_way_round_it() -> None:
    model, other = (
        detector(),
        Detector(Mean(), DualDecisionHead, [lambda backbone: RealMemory(backbone, slots=5)]),
    )
    told = r"parts\.0\.real is \(3, 4\), here \(5, 4\).*give `slots: 3`, or load without the memory"
    with pytest.raises(RuntimeError, match=told):
        other.load_state_dict(model.state_dict())
    # the way that it names
    state = {name: value for name, value in model.state_dict().items() if not name.startswith("parts.0.")}
    other.load_state_dict(state, strict=False)
    image = torch.rand(2, 3, 8, 8)
    assert torch.equal(model(image).score, other(image).score)


# --- two processes ----------------------------------------------------------------------------------------

WORKER = """
import sys
import torch
from tests.papers.test_realid import SHARES, faces, memory, seen

rank, folder = int(sys.argv[1]), sys.argv[2]
torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
part = memory(init=sys.argv[3])
for step in range(4):
    rows = slice(4 * rank, 4 * rank + 4)
    part.losses(seen(8, seed=step)[rows], faces(SHARES[step % 2][rank]))
torch.save(part.state_dict(), f"{folder}/{rank}.pt")
torch.distributed.destroy_process_group()
"""
# Labels of two processes in turn: uneven, and once without a real face in the second.
SHARES = [([0, 0, 0, 1], [1, 1, 0, 1]), ([0, 1, 0, 1], [1, 1, 1, 1])]


@pytest.mark.slow
@pytest.mark.ddp
@pytest.mark.timeout(600)
@pytest.mark.parametrize("init", ["uniform", "features"])
def test_two_processes_share_one_memory(tmp_path: Path, init: str) -> None:
    root = Path(__file__).parents[2]
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, str(rank), str(tmp_path), init],
            cwd=root,
            env={**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"},
            stderr=subprocess.PIPE,
        )
        for rank in range(2)
    ]
    for worker in workers:
        _, errors = worker.communicate(timeout=500)
        assert worker.returncode == 0, errors.decode()[-3000:]
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    alone = memory(init=init)
    for step in range(4):
        alone.losses(seen(8, seed=step), faces([*SHARES[step % 2][0], *SHARES[step % 2][1]]))
    for name, value in alone.state_dict().items():
        torch.testing.assert_close(first[name], value, rtol=1e-5, atol=1e-6)
