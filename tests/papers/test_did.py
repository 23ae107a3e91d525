"""DID (Yang et al., 2023): formulas by hand, the min-max against two explicit players, eq. 1 on a toy."""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.train.faces import faces_file
from unseen.data.manifest import Manifest
from unseen.evaluate.metrics import auc
from unseen.export import export_graph
from unseen.methods.did import (
    AucHead,
    Decomposition,
    auc_margin,
    dependence,
    reversal,
    reverse_gradient,
)
from unseen.models.adversary import derangement
from unseen.models.backbone import Backbone, TimmBackbone
from unseen.models.detector import Detector
from unseen.models.heads import BinaryHead
from unseen.recipe import Recipe, read_recipe
from unseen.train.course import Course
from unseen.train.fit import train
from unseen.train.learner import Learner
from unseen.types import FaceBatch, FaceRecord, Features, InputError, Label

__all__ = ["faces_file"]

# --- eq. 1 -----------------------------------------------------------------------------------------------

SCORE = torch.tensor([0.1, 1.0, 0.0, 0.3])
LABEL = torch.tensor([1, 1, 0, 0])


def by_loops(score: Tensor, label: Tensor, margin: float, power: float) -> float:
    costs = [max(margin - float(f - r), 0.0) ** power for f in score[label == 1] for r in score[label == 0]]
    return sum(costs) / len(costs)


def test_auc_margin_by_hand() -> None:
    # Gaps of the fakes 0.1 and 1 to the reals 0 and 0.3: 0.1, -0.2, 1, 0.7. With margin 0.15 the first two
    # fall short by 0.05 and 0.35: (0.0025 + 0.1225) / 4 = 0.03125.
    assert auc_margin(SCORE, LABEL).item() == pytest.approx(0.03125)
    # (0.05 + 0.35) / 4 and (0.05^3 + 0.35^3) / 4
    assert auc_margin(SCORE, LABEL, power=1.0).item() == pytest.approx(0.1)
    assert auc_margin(SCORE, LABEL, power=3.0).item() == pytest.approx(0.01075)
    # The mean of the two pairs that cost something: 0.125 / 2.
    assert auc_margin(SCORE, LABEL, normalize="violations").item() == pytest.approx(0.0625)
    # The first fake twice as heavy: (2 * 0.0025 + 2 * 0.1225) / (2 + 2 + 1 + 1).
    weight = torch.tensor([2.0, 1.0, 1.0, 1.0])
    assert auc_margin(SCORE, LABEL, weight=weight).item() == pytest.approx(0.25 / 6)


@pytest.mark.parametrize("power", [1.0, 1.5, 2.0, 3.0])
def test_auc_margin_equals_two_loops(power: float) -> None:
    draw = torch.Generator().manual_seed(0)
    for fakes in (1, 4, 14):
        score = torch.randn(15, generator=draw, dtype=torch.float64)
        label = torch.zeros(15, dtype=torch.long)
        label[torch.randperm(15, generator=draw)[:fakes]] = 1
        ours = auc_margin(score, label, margin=0.4, power=power).item()
        assert ours == pytest.approx(by_loops(score, label, 0.4, power), rel=1e-12)


def test_auc_margin_is_zero_when_every_fake_is_a_margin_above_every_real() -> None:
    assert auc_margin(torch.tensor([0.0, 0.15, 2.0, -1.0]), torch.tensor([0, 1, 1, 0])).item() == 0
    assert auc_margin(torch.tensor([0.0, 0.149, 2.0, -1.0]), torch.tensor([0, 1, 1, 0])).item() > 0


def test_auc_margin_falls_as_any_gap_grows_and_knows_no_shift() -> None:
    costs = [auc_margin(torch.tensor([gap, 0.0]), torch.tensor([1, 0])).item() for gap in (-1, 0, 0.1, 0.14)]
    assert costs == sorted(costs, reverse=True) and min(costs) > 0
    score = SCORE.double().requires_grad_()
    auc_margin(score, LABEL).backward()
    # Fakes are to rise and reals to fall, by as much.
    assert (score.grad[:2] <= 0).all() and (score.grad[2:] >= 0).all()
    assert score.grad.sum().item() == pytest.approx(0, abs=1e-15)


def test_auc_margin_gradient_is_that_of_the_formula() -> None:
    score = torch.tensor([0.1, 0.9, 0.0, 0.3, -0.2], dtype=torch.float64, requires_grad=True)
    label = torch.tensor([1, 1, 0, 0, 1])
    for power in (2.0, 2.5):
        assert torch.autograd.gradcheck(lambda s, p=power: auc_margin(s, label, power=p), (score,))


@pytest.mark.parametrize("kind", [0, 1])
@pytest.mark.parametrize("normalize", ["pairs", "violations"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_one_class_costs_nothing_and_stays_on_the_graph(kind: int, normalize, dtype) -> None:
    score = torch.tensor([0.3, -2.0, 5.0], dtype=dtype, requires_grad=True)
    loss = auc_margin(score, torch.full((3,), kind), normalize=normalize)
    assert loss.item() == 0 and loss.shape == ()
    loss.backward()
    assert torch.equal(score.grad, torch.zeros_like(score))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_large_batch_in_half_precision_counts_all_its_pairs(dtype: torch.dtype) -> None:
    # 400 x 400 pairs: more than float16 can hold.
    score, label = torch.randn(800, generator=torch.manual_seed(0)).to(dtype), torch.arange(800) % 2
    torch.testing.assert_close(auc_margin(score, label), auc_margin(score.float(), label))
    half, full = dependence(score, -score), dependence(score.float(), -score.float())
    torch.testing.assert_close(half, full)


def test_ranked_all_right_costs_nothing_under_both_means() -> None:
    score = torch.tensor([2.0, 0.0], requires_grad=True)
    loss = auc_margin(score, torch.tensor([1, 0]), normalize="violations")
    loss.backward()
    assert loss.item() == 0 and torch.isfinite(score.grad).all()


def printed(score: Tensor, label: Tensor) -> Tensor:
    """Eq. 1 as it stands in the paper: -(g - margin)^2 where g < margin."""
    gap = score[label == 1][:, None] - score[label == 0][None, :]
    return torch.where(gap < 0.15, -((gap - 0.15) ** 2), torch.zeros(())).mean()


def toy(loss: Callable[[Tensor, Tensor], Tensor]) -> float:
    """AUC on new points, after 60 steps, for two clouds that overlap: d' = 2.4, at best 0.955."""
    draw = torch.Generator().manual_seed(3)

    def cloud() -> tuple[Tensor, Tensor]:
        label = torch.arange(400) % 2
        return torch.randn(400, 4, generator=draw) + 1.2 * label[:, None], label

    points, label = cloud()
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 1))
    optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
    for _ in range(60):
        optimizer.zero_grad()
        loss(net(points)[:, 0], label).backward()
        optimizer.step()
    points, label = cloud()
    with torch.no_grad():
        return auc(net(points)[:, 0].numpy(), label.numpy())


def test_the_repaired_sign_learns_to_rank_and_the_printed_one_to_rank_backwards() -> None:
    assert toy(auc_margin) > 0.9
    assert toy(printed) < 0.2


# --- V, the reversal, the shuffling -------------------------------------------------------------------------


def test_dependence_by_hand() -> None:
    # log sigmoid(0) = log 1/2, log sigmoid(log 3) = log 3/4; the other half is its mirror image:
    # 2 * (log 1/2 + log 3/4) / 2 = log 3/8
    log3 = math.log(3)
    value = dependence(torch.tensor([0.0, log3]), torch.tensor([0.0, -log3]))
    assert value.item() == pytest.approx(math.log(3 / 8))


def test_dependence_is_minus_two_log_two_by_chance_and_zero_at_best() -> None:
    assert dependence(torch.zeros(5), torch.zeros(5)).item() == pytest.approx(-2 * math.log(2))
    assert dependence(torch.full((5,), 50.0), torch.full((5,), -50.0)).item() == pytest.approx(0, abs=1e-20)
    draw = torch.Generator().manual_seed(0)
    assert dependence(torch.randn(99, generator=draw), torch.randn(99, generator=draw)).item() < 0


def test_dependence_is_the_cross_entropy_of_telling_pairs_apart() -> None:
    joint, marginal = torch.tensor([0.3, -1.0, 2.0]).double(), torch.tensor([0.1, 0.9, -3.0]).double()
    entropy = functional.binary_cross_entropy_with_logits
    wanted = -entropy(joint, torch.ones_like(joint)) - entropy(marginal, torch.zeros_like(marginal))
    assert dependence(joint, marginal).item() == pytest.approx(wanted.item(), rel=1e-14)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_dependence_is_finite_where_the_logarithm_of_a_sigmoid_is_not(dtype: torch.dtype) -> None:
    joint = torch.tensor([-300.0, 300.0], dtype=dtype, requires_grad=True)
    marginal = torch.tensor([300.0, -300.0], dtype=dtype, requires_grad=True)
    assert torch.isinf(joint.sigmoid().log()).any()
    value = dependence(joint, marginal)
    value.backward()
    assert value.item() == pytest.approx(-300)
    assert torch.isfinite(joint.grad).all() and torch.isfinite(marginal.grad).all()


def test_reverse_gradient_is_the_identity_forward_and_minus_scale_back() -> None:
    x = torch.tensor([1.0, -2.0], requires_grad=True)
    y = reverse_gradient(x, 0.25)
    assert torch.equal(y, x)
    (y * torch.tensor([3.0, 4.0])).sum().backward()
    assert x.grad.tolist() == [-0.75, -1.0]


def test_beta_by_hand() -> None:
    # 2 / (1 + exp(-2.5)) - 1 = 2 / 1.082085 - 1
    assert reversal(0) == 0
    assert reversal(0.5) == pytest.approx(0.848284, abs=1e-6)
    assert reversal(1) == pytest.approx(0.986614, abs=1e-6)


def test_beta_rises_at_each_step_or_once_an_epoch() -> None:
    each, stairs = Decomposition(plain()), Decomposition(plain(), epochs=6)
    for step in range(60):
        for part in (each, stairs):
            part.progress(step / 60)
        assert each.beta == reversal(step / 60)
        assert stairs.beta == reversal(step // 10 / 6)


def test_derangements_have_no_fixed_point_and_all_partners_are_as_likely() -> None:
    torch.manual_seed(0)
    for count in (2, 3, 4, 15):
        places = torch.arange(count)
        for _ in range(50):
            partner = derangement(count)
            assert torch.equal(partner.sort().values, places) and not (partner == places).any()
    met = torch.zeros(6, 6)
    for _ in range(6000):
        met[torch.arange(6), derangement(6)] += 1
    off = met[~torch.eye(6, dtype=torch.bool)]
    # 1200 each; the deviation of a binomial with p = 1/5 is 31, so that five of them are 155.
    assert met.diagonal().sum() == 0 and (off - 1200).abs().max() < 155


# --- the decomposition -------------------------------------------------------------------------------------


def plain(channels: int = 6) -> Backbone:
    return Backbone(channels, channels, 32, mean=(0, 0, 0), std=(1, 1, 1))


def seen(map: Tensor) -> Features:
    return Features(map, map.mean((2, 3)))


def batch(domain: list[int], *, weight: Tensor | None = None) -> FaceBatch:
    domains = torch.tensor(domain)
    return FaceBatch(torch.zeros(len(domain), 3, 1, 1), (domains > 0).long(), weight, domain=domains)


@pytest.mark.parametrize("mask", ["full", "cbam"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_the_two_halves_are_the_whole_bit_for_bit(mask, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    part = Decomposition(plain(16), mask=mask)
    for parameter in part.attention.parameters():
        parameter.data.mul_(20)  # masks from near 0 to near 1
    part.to(dtype)
    whole = (torch.randn(9, 16, 5, 5) * torch.logspace(-4, 4, 9)[:, None, None, None]).to(dtype)
    features, found = part(seen(whole))
    assert found.mask.shape == whole.shape and 0 <= found.mask.min() < 0.2 and 0.8 < found.mask.max() <= 1
    assert torch.equal(found.forgery + found.other, whole)
    error = (found.forgery - found.mask * whole).abs()  # of the size of the whole's rounding
    assert (error <= whole.abs() * torch.finfo(dtype).eps).all()
    assert features.map is found.forgery
    torch.testing.assert_close(features.vector, found.forgery.mean((2, 3)))


def test_attention_starts_undecided() -> None:
    torch.manual_seed(0)
    for mask in ("full", "cbam"):
        found = Decomposition(plain(64), mask=mask)(seen(torch.randn(4, 64, 7, 7)))[1]
        assert (found.mask - 0.5).abs().max() < 0.15


def naive(part: Decomposition, forgery: Tensor, other: Tensor, partner: Tensor) -> tuple[Tensor, Tensor]:
    """T as the paper draws it: both halves on top of each other, two whole passes."""
    net = part.discriminator

    def judge(behind: Tensor) -> Tensor:
        hidden = net.rest(net.first(torch.cat([forgery, behind], dim=1)))
        return net.last(functional.adaptive_avg_pool2d(hidden, 7).flatten(1))[:, 0]

    return judge(other), judge(other[partner])


@pytest.mark.parametrize("side", [7, 3, 9])
def test_split_first_convolution_equals_the_concatenation(side: int) -> None:
    torch.manual_seed(0)
    part = Decomposition(plain()).double()
    halves = [torch.randn(5, 6, side, side, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    partner = derangement(5)
    ours, theirs = part.discriminator(*halves, partner), naive(part, *halves, partner)
    inputs = [*halves, *part.discriminator.parameters()]
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other)
    slopes = [torch.autograd.grad((a**2 + b).sum(), inputs) for a, b in (ours, theirs)]
    for one, other in zip(*slopes, strict=True):
        torch.testing.assert_close(one, other)


def test_one_backward_is_two_players_stepping_at_once() -> None:
    """Five steps of the one loss with reversed gradients against V raised by T and lowered by G and A_df."""
    weight, rate = 0.3, 0.7
    pictures = torch.randn(6, 3, 7, 7, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def players() -> tuple[nn.Module, Decomposition]:
        torch.manual_seed(0)
        part = Decomposition(plain(), domain_weight=0.0, decorrelation_weight=weight).double()
        return nn.Conv2d(3, 6, 3).double(), part

    one, part = players()
    for step in range(5):
        part.progress((step + 1) / 6)
        torch.manual_seed(step)
        terms = part.losses(part(seen(one(pictures)))[1], batch([0] * 6))
        inputs = [*one.parameters(), *part.parameters()]
        for parameter, slope in zip(inputs, torch.autograd.grad(terms["decorrelation"], inputs), strict=True):
            parameter.data -= rate * slope

    other, twin = players()
    values = []
    for step in range(5):
        beta = reversal((step + 1) / 6)
        torch.manual_seed(step)
        _, halves = twin(seen(other(pictures)))
        joint, marginal = naive(twin, halves.forgery, halves.other, derangement(6))
        value = joint.sigmoid().log().mean() + (1 - marginal.sigmoid()).log().mean()
        values.append(value.item())
        judge = list(twin.discriminator.parameters())
        makers = [*other.parameters(), *twin.attention.parameters()]
        up, down = torch.autograd.grad(value, judge, retain_graph=True), torch.autograd.grad(value, makers)
        for parameter, slope in zip(judge, up, strict=True):
            parameter.data += rate * weight * slope  # max over T
        for parameter, slope in zip(makers, down, strict=True):
            parameter.data -= rate * weight * beta * slope  # min over G and A_df

    first, _ = players()
    assert not torch.allclose(one.weight, first.weight, atol=1e-7) and values[0] != values[-1]
    for ours, theirs in zip(
        [*one.parameters(), *part.parameters()], [*other.parameters(), *twin.parameters()], strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


def test_the_discriminator_finds_what_depends_and_only_that() -> None:
    torch.manual_seed(0)
    for tied in (True, False):
        part = Decomposition(plain(4), domain_weight=0.0)
        optimizer = torch.optim.Adam(part.discriminator.parameters(), lr=3e-3)
        values = []
        for _ in range(40):
            forgery = torch.randn(24, 4, 1, 1).expand(24, 4, 2, 2)
            other = forgery if tied else torch.randn(24, 4, 1, 1).expand(24, 4, 2, 2)
            value = dependence(*part.discriminator(forgery, other, derangement(24)))
            optimizer.zero_grad()
            (-value).backward()
            optimizer.step()
            values.append(value.item())
        late = float(np.mean(values[-10:]))
        assert late > -0.7 if tied else late < -1.2, (tied, late)


def test_one_face_costs_nothing_and_reaches_every_parameter() -> None:
    part = Decomposition(plain(), domain_weight=0.0)
    part.progress(0.5)
    aux = part(seen(torch.randn(1, 6, 4, 4)))[1]
    (loss,) = part.losses(aux, batch([1])).values()
    loss.backward()  # several processes wait for the gradient of each of T's weights
    assert loss.item() == 0
    assert all(p.grad is not None and not p.grad.any() for p in part.discriminator.parameters())


def test_domain_loss_by_hand() -> None:
    part = Decomposition(plain(), domains=3, decorrelation_weight=0.0, domain_weight=2.0, dropout=0.0)
    last = part.domain_classifier[-1]
    nn.init.zeros_(last.weight)
    last.bias.data = torch.tensor([0.0, math.log(2), 0.0])  # probabilities 1/4, 1/2, 1/4
    aux = part(seen(torch.randn(3, 6, 4, 4)))[1]
    # mean of log 4, log 2, log 4, twice; then the second alone
    loss = part.losses(aux, batch([0, 1, 2]))
    assert set(loss) == {"domain"} and loss["domain"].item() == pytest.approx(2 * 5 / 3 * math.log(2))
    alone = part.losses(aux, batch([0, 1, 2], weight=torch.tensor([0.0, 3.0, 0.0])))
    assert alone["domain"].item() == pytest.approx(2 * math.log(2))


def test_domains_are_told_from_the_masked_rest() -> None:
    torch.manual_seed(0)
    part = Decomposition(plain(), pool=False).eval()
    aux = part(seen(torch.randn(2, 6, 7, 7)))[1]
    rest = torch.sigmoid(part.domain_attention.layers(aux.other)) * aux.other
    torch.testing.assert_close(part.domain_logits(aux), part.domain_classifier(rest.flatten(1)))


def test_ablations_hold_no_weights_that_nothing_reaches() -> None:
    def names(**keywords: float) -> set[str]:
        return {name.split(".")[0] for name in Decomposition(plain(), **keywords).state_dict()}

    assert names() == {"attention", "domain_attention", "domain_classifier", "discriminator"}
    assert names(domain_weight=0.0) == {"attention", "discriminator"}
    assert names(decorrelation_weight=0.0) == {"attention", "domain_attention", "domain_classifier"}


def test_the_discriminator_has_the_weights_of_the_sheet() -> None:
    with torch.device("meta"):
        net = Decomposition(plain(1280)).discriminator
    # 2560 * 9 * 256 + 256 * 9 * 128 + 128 * 9 * 64 + 49 * 64, and 256 + 128 + 64 + 1 biases
    assert sum(p.numel() for p in net.parameters()) == 5898240 + 294912 + 73728 + 3136 + 449


def test_a_single_face_has_no_partner() -> None:
    part = Decomposition(plain(), domain_weight=0.0)
    whole = torch.randn(1, 6, 7, 7, requires_grad=True)
    loss = part.losses(part(seen(whole))[1], batch([0]))["decorrelation"]
    loss.backward()
    assert loss.item() == 0 and torch.equal(whole.grad, torch.zeros_like(whole))


def test_a_new_part_reverses_nothing_until_it_is_told_of_progress() -> None:
    torch.manual_seed(0)
    detector = Detector(plain_net(), AucHead, [lambda b: Decomposition(b, domain_weight=0.0)])
    part = detector.parts[0]
    whole = torch.randn(4, 6, 7, 7)

    def slope() -> float:
        leaf = whole.clone().requires_grad_()
        part.losses(part(seen(leaf))[1], batch([0, 1, 0, 1]))["decorrelation"].backward()
        return leaf.grad.abs().sum().item()

    assert slope() == 0
    detector.progress(0.5)
    assert part.beta == reversal(0.5) and slope() > 0


class plain_net(Backbone):
    def __init__(self) -> None:
        super().__init__(6, 6, 32, mean=(0, 0, 0), std=(1, 1, 1))
        self.net = nn.Conv2d(3, 6, 4, 4)

    def forward(self, image: Tensor) -> Features:
        return seen(self.net(image))


@pytest.mark.parametrize("scale", [1.0, 1e3])
def test_half_precision_stays_finite(scale: float) -> None:
    torch.manual_seed(0)
    detector = Detector(plain_net(), AucHead, [Decomposition])
    detector.progress(0.9)
    faces = replace(batch([0, 1, 2, 0]), image=torch.rand(4, 3, 32, 32) * scale)
    with torch.autocast("cpu", torch.bfloat16):
        terms = detector.losses(faces)
    assert set(terms) == {"cross_entropy", "auc", "domain", "decorrelation"}
    assert all(torch.isfinite(term) and term.dtype == torch.float32 for term in terms.values())
    torch.stack(list(terms.values())).sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in detector.parameters())


# --- the head ----------------------------------------------------------------------------------------------


def logits(values: Tensor) -> Tensor:
    return values[:, None].clone().requires_grad_()


def test_head_mixes_cross_entropy_and_ranking() -> None:
    faces = batch([1, 2, 0, 0])
    entropy = functional.binary_cross_entropy_with_logits(SCORE, LABEL.float()).item()
    terms = AucHead(plain(), alpha=0.25).losses(logits(SCORE), faces)
    assert terms["cross_entropy"].item() == pytest.approx(0.25 * entropy)
    assert terms["auc"].item() == pytest.approx(0.75 * 0.03125)
    assert set(AucHead(plain(), alpha=1.0).losses(logits(SCORE), faces)) == {"cross_entropy"}
    assert set(AucHead(plain(), alpha=0.0).losses(logits(SCORE), faces)) == {"auc"}


def test_head_refuses_a_face_without_a_label() -> None:
    faces = batch([1, 0])
    faces.label[1] = -1  # what `collate` gives it
    with pytest.raises(IndexError):
        AucHead(plain()).losses(logits(torch.zeros(2)), faces)


def test_head_ranks_probabilities_if_asked() -> None:
    wanted = auc_margin(SCORE.sigmoid(), LABEL, normalize="violations").item()
    head = AucHead(plain(), alpha=0.0, space="prob", normalize="violations")
    assert head.losses(logits(SCORE), batch([1, 2, 0, 0]))["auc"].item() == pytest.approx(wanted)
    assert wanted != pytest.approx(0.0625, rel=0.1)


def test_head_reads_the_vector_or_the_flattened_map() -> None:
    torch.manual_seed(0)
    map = torch.randn(2, 6, 7, 7)
    features = Features(map, torch.randn(2, 6))
    for pool, inputs in ((True, features.vector), (False, map.flatten(1))):
        head = AucHead(plain(), pool=pool).eval()
        assert torch.equal(head(features), head.classifier(inputs))
        assert head.log_odds(head(features)).shape == (2,)


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda: AucHead(plain(), alpha=1.5), "alpha"),
        (lambda: AucHead(plain(), power=0.5), "power >= 1"),
        (lambda: AucHead(plain(), space="log"), "logit or prob"),
        (lambda: AucHead(plain(), dropout=1.0), "dropout"),
        (lambda: Decomposition(plain(), domains=1), "at least 2"),
        (lambda: Decomposition(plain(), domain_weight=-1.0), "domain_weight"),
        (lambda: Decomposition(plain(), mask="half"), "full or cbam"),
        (
            lambda: Decomposition(Backbone(6, 8, 32, mean=(0, 0, 0), std=(1, 1, 1))),
            "8 numbers, its map 6 channels",
        ),
        (
            lambda: Decomposition(plain()).losses(
                Decomposition(plain())(seen(torch.zeros(2, 6, 7, 7)))[1], replace(batch([0, 1]), domain=None)
            ),
            "no domains",
        ),
        (lambda: Decomposition(plain(), domain_weight=0.0).domain_logits(None), "no classifier of domains"),
    ],
)
def test_wrong_arguments_are_refused(make: Callable[[], object], what: str) -> None:
    with pytest.raises(InputError, match=what):
        make()


# --- in use ------------------------------------------------------------------------------------------------

IN_USE = ("backbone.", "parts.0.attention.", "head.")


def test_in_use_there_is_one_mask_and_the_head(tmp_path: Path) -> None:
    import onnx
    import onnxruntime
    from safetensors.torch import save_file

    torch.manual_seed(0)
    detector = Detector(TimmBackbone("test_efficientnet", image_size=64), AucHead, [Decomposition]).eval()
    image = torch.rand(3, 3, 64, 64)
    with torch.no_grad():
        wanted = detector(image).score

    save_file({k: v.contiguous() for k, v in detector.state_dict().items()}, tmp_path / "weights.safetensors")
    path = export_graph(detector, tmp_path)
    held = [
        t.name.removeprefix("detector.") for t in onnx.load(path, load_external_data=False).graph.initializer
    ]
    assert [n for n in held if n in detector.state_dict() and not n.startswith(IN_USE)] == []
    assert any(n.startswith("parts.0.attention.") for n in held)
    session = onnxruntime.InferenceSession(str(path))
    (score,) = session.run(["score"], {"image": image.numpy()})
    assert np.allclose(score, wanted, atol=1e-5)

    part = detector.parts[0]
    del part.domain_attention, part.domain_classifier, part.discriminator
    with torch.no_grad():
        assert torch.equal(detector(image).score, wanted)


def test_explanations_are_both_attentions() -> None:
    torch.manual_seed(0)
    detector = Detector(plain_net(), BinaryHead, [Decomposition]).eval()
    part = detector.parts[0]
    for parameter in part.parameters():
        parameter.data.mul_(10)
    image = torch.rand(2, 3, 32, 32)
    found = detector.explain(image)
    assert [[one.kind for one in face] for face in found] == [["forgery attention", "domain attention"]] * 2
    mask = detector(image).aux[0].mask[1].mean(0).detach()  # (8, 8)
    heat = found[1][0].heatmap
    assert heat.shape == (32, 32) and heat.dtype == np.float32 and heat.min() == 0 and heat.max() == 1
    hottest = np.unravel_index(heat.argmax(), heat.shape)
    coldest = np.unravel_index(heat.argmin(), heat.shape)
    assert mask[hottest[0] // 4, hottest[1] // 4] == mask.max()
    assert mask[coldest[0] // 4, coldest[1] // 4] == mask.min()


def test_attention_that_is_the_same_everywhere_shows_nothing() -> None:
    part = Decomposition(plain(), domain_weight=0.0)
    for parameter in part.attention.parameters():
        nn.init.zeros_(parameter)
    ((only,),) = part.explain(part(seen(torch.randn(1, 6, 7, 7)))[1])
    assert only.kind == "forgery attention" and not only.heatmap.any()


# --- rows and training -------------------------------------------------------------------------------------


def rows(*methods: str | None) -> list[FaceRecord]:
    return [
        FaceRecord(f"{i}.png", Label.REAL if m == "real" else Label.FAKE, method=m)
        for i, m in enumerate(methods)
    ]


def test_rows_are_checked_before_training(caplog: pytest.LogCaptureFixture) -> None:
    part = Decomposition(plain(), domains=3)
    part.check(rows("real", "a", "b", "a"))
    part.check(rows("real", "a"), made=["sbi"])
    assert caplog.records == []
    with pytest.raises(InputError, match=r"domains 3, .* hold 3: a, b, c; give domains: 4"):
        part.check(rows("real", "a", "b", "c"))
    with pytest.raises(InputError, match=r"hold 3: a, b, sbi"):
        part.check(rows("real", "a", "b"), made=["sbi"])
    with pytest.raises(
        InputError, match=r"row 3 \(2\.png\): a fake with method None.*`method` column"
    ) as error:
        part.check(rows("real", "a", None, ""))
    assert error.value.reason == "no_method"
    with pytest.raises(InputError, match="none of 2 rows is fake"):
        part.check(rows("real", "real"))
    with caplog.at_level(logging.WARNING):
        part.check(rows("real", "a", "a"))
    assert [r.levelname for r in caplog.records] == ["WARNING"] and "one method (a)" in caplog.text
    Decomposition(plain(), domain_weight=0.0).check(rows("real", None))  # asks for no domains


RECIPE = Path(__file__).parents[2] / "recipes" / "did_tiny.yaml"


@pytest.fixture(scope="module")
def forged(faces_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The faces, two thirds of them called fakes of two methods."""
    names = itertools.cycle(["real", "swap", "blend"])
    records = [
        replace(record, method=name, label=Label.REAL if name == "real" else Label.FAKE)
        for record, name in zip(Manifest.read(faces_file), names, strict=False)
    ]
    folder = tmp_path_factory.mktemp("forged")
    Manifest.from_records(records, folder).write(folder / "faces.parquet")
    return folder / "faces.parquet"


def small(manifest: Path, *overrides: str) -> Recipe:
    fixed = ["trainer.max_steps=4", "trainer.val_every=2", "trainer.graph=false", "trainer.accelerator=cpu"]
    sampler = "data.sampler.init_args.batch_size=6"
    return read_recipe(RECIPE, [f"data.manifest={manifest}", sampler, *fixed, *overrides])


def test_training_tells_of_progress_and_resumes_with_the_same_bits(
    forged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stop(Exception):
        pass

    told: list[float] = []
    domains: list[list[int]] = []
    losses, after = Decomposition.losses, Course.__call__

    def watched(self: Decomposition, aux, batch: FaceBatch) -> dict[str, Tensor]:
        told.append(self.beta)
        named = [("real", "blend", "swap").index(str(r.method)) for r in batch.records]
        assert batch.domain.tolist() == named  # 0 is real, then the methods by their names
        domains.append(sorted(named))
        return losses(self, aux, batch)

    def interrupted(self: Course, learner: Learner, numbers: dict[str, float]) -> None:
        after(self, learner, numbers)
        if learner.step == 2:
            raise Stop

    monkeypatch.setattr(Decomposition, "losses", watched)
    hard = ["trainer.sam=0.05", "trainer.accumulate=2", "trainer.val_every=4", "trainer.save_every=2"]
    whole = train(small(forged, *hard), tmp_path / "whole")
    # Two batches a step and both passes of SAM see the beta of their step.
    assert told == [reversal(step / 4) for step in range(4) for _ in range(4)]
    assert all(domain == [0, 0, 1, 1, 2, 2] for domain in domains)

    told.clear()
    with monkeypatch.context() as patch:
        patch.setattr(Course, "__call__", interrupted)
        with pytest.raises(Stop):
            train(small(forged, *hard), tmp_path / "run")
    again = train(small(forged, *hard), tmp_path / "run", resume=True)
    assert told == [reversal(step / 4) for step in range(4) for _ in range(4)]
    weights = [(run / "weights.safetensors").read_bytes() for run in (whole, again)]
    assert weights[0] == weights[1]


def test_training_refuses_what_it_cannot_use_before_it_begins(
    forged: Path, faces_file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    with pytest.raises(InputError, match=r"3 domains \(real, blend, swap\); give batch_size: 6"):
        train(small(forged, "data.sampler.init_args.batch_size=7"), out)
    with pytest.raises(InputError, match="hold 2: blend, swap; give domains: 3"):
        train(small(forged, "detector.parts=[{class_path: Decomposition, init_args: {domains: 2}}]"), out)
    nameless = [replace(r, method=None if r.label == Label.FAKE else r.method) for r in Manifest.read(forged)]
    Manifest.from_records(nameless, tmp_path).write(tmp_path / "nameless.parquet")
    with pytest.raises(InputError, match="expected the forgery's name"):
        train(small(tmp_path / "nameless.parquet"), out)
    assert not out.exists()


def test_fakes_that_are_made_have_a_domain_of_their_own(
    forged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    met: set[tuple[str, int]] = set()
    losses = Decomposition.losses

    def watched(self: Decomposition, aux, batch: FaceBatch) -> dict[str, Tensor]:
        met.update(zip((str(r.method) for r in batch.records), batch.domain.tolist(), strict=True))
        return losses(self, aux, batch)

    monkeypatch.setattr(Decomposition, "losses", watched)
    settings = small(forged).expanded()
    settings["data"]["sampler"] = {
        "class_path": "Balanced",
        "init_args": {"batch_size": 8, "synthesise": "SelfBlend", "share": 0.5},
    }
    train(read_recipe(settings), tmp_path / "run")
    assert met == {("real", 0), ("blend", 1), ("sbi", 2), ("swap", 3)}
