"""Metrics against scikit-learn, literal references, and numbers worked by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn import metrics as sk

from unseen.evaluate import metrics as m
from unseen.types import InputError


def simulated(seed: int, n: int = 400, ties: bool = False) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 2, n)
    score = rng.normal(label * 1.2 - 0.3, 1.0)
    return (np.round(score * 2) / 2 if ties else score), label


CASES = [(seed, ties) for seed in range(4) for ties in (False, True)]


def auc_by_pairs(score: np.ndarray, label: np.ndarray) -> float:
    fake, real = score[label == 1], score[label == 0]
    wins = sum(1.0 if f > r else 0.5 if f == r else 0.0 for f in fake for r in real)
    return wins / (len(fake) * len(real))


@pytest.mark.parametrize(("seed", "ties"), CASES)
def test_auc_is_the_share_of_ordered_pairs(seed, ties):
    score, label = simulated(seed, 120, ties)
    assert m.auc(score, label) == pytest.approx(auc_by_pairs(score, label), abs=1e-12)
    assert m.auc(score, label) == pytest.approx(sk.roc_auc_score(label, score), abs=1e-12)


@pytest.mark.parametrize(("seed", "ties"), CASES)
def test_average_precision_brier_and_balanced_accuracy_equal_scikit_learn(seed, ties):
    score, label = simulated(seed, ties=ties)
    chance = 1 / (1 + np.exp(-score))
    assert m.average_precision(score, label) == pytest.approx(sk.average_precision_score(label, score))
    assert m.brier(score, label) == pytest.approx(sk.brier_score_loss(label, chance))
    assert m.balanced_accuracy(score, label) == pytest.approx(sk.balanced_accuracy_score(label, score > 0))
    assert m.accuracy(score, label, 0.3) == pytest.approx(sk.accuracy_score(label, score > 0.3))


@pytest.mark.parametrize(("seed", "ties"), CASES)
def test_roc_is_the_full_curve_of_scikit_learn(seed, ties):
    score, label = simulated(seed, ties=ties)
    ours, theirs = m.roc(score, label), sk.roc_curve(label, score, drop_intermediate=False)
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b)


def test_auc_by_hand():
    # Pairs (fake, real): (2,0) (2,1) (1,0) won, (1,1) tied: 3.5 of 4.
    assert m.auc(np.array([0.0, 1.0, 1.0, 2.0]), np.array([0, 0, 1, 1])) == 3.5 / 4
    assert m.auc(np.zeros(6), np.array([0, 1] * 3)) == 0.5
    assert m.auc(np.array([-np.inf, np.inf]), np.array([0, 1])) == 1.0


def test_rank_metrics_ignore_monotone_changes_and_order():
    score, label = simulated(9)
    mixed = np.random.default_rng(0).permutation(score.size)
    for metric in (m.auc, m.average_precision, m.eer):
        assert metric(np.exp(score), label) == pytest.approx(metric(score, label), abs=1e-12)
        assert metric(score[mixed], label[mixed]) == pytest.approx(metric(score, label), abs=1e-12)
    assert m.auc(-score, label) == pytest.approx(1 - m.auc(score, label))


def test_eer_three_ways_by_hand():
    # Fakes 3 3 2 0, reals 3 1 1 0 0. Called fake from 3 on: FPR 1/5, FNR 2/4, gap .3.
    # From 2 on: FPR 1/5, FNR 1/4, gap .05 (the least). From 1 on: FPR 3/5, FNR 1/4, gap -.35.
    score = np.array([3.0, 3, 2, 0, 3, 1, 1, 0, 0])
    label = np.array([1, 1, 1, 1, 0, 0, 0, 0, 0])
    assert m.eer(score, label, method="fpr") == pytest.approx(0.2)
    assert m.eer(score, label, method="mean") == pytest.approx((0.2 + 0.25) / 2)
    # On the line from (.2, .75) to (.6, .75): 1 - x = .75.
    assert m.eer(score, label, method="interpolate") == pytest.approx(0.25)
    assert m.eer(score, label) == m.eer(score, label, method="mean")


@pytest.mark.parametrize(("seed", "ties"), CASES)
def test_eer_against_ten_literal_lines(seed, ties):
    score, label = simulated(seed, ties=ties)
    best, answer = math.inf, {}
    for threshold in [np.inf, *sorted(set(score.tolist()), reverse=True)]:
        fpr = np.mean(score[label == 0] >= threshold)
        fnr = 1 - np.mean(score[label == 1] >= threshold)
        if abs(fnr - fpr) < best - 1e-12:
            best, answer = abs(fnr - fpr), {"fpr": fpr, "mean": (fpr + fnr) / 2}
    for method, value in answer.items():
        assert m.eer(score, label, method=method) == pytest.approx(value, abs=1e-9)


def test_eer_of_perfect_and_reversed_scores():
    label = np.array([0, 0, 1, 1])
    for method in ("mean", "fpr", "interpolate"):
        assert m.eer(np.array([0.0, 1, 2, 3]), label, method=method) == pytest.approx(0.0)
        assert m.eer(np.array([3.0, 2, 1, 0]), label, method=method) == pytest.approx(1.0)
    with pytest.raises(InputError, match="interpolate"):
        m.eer(np.array([0.0, 1.0]), np.array([0, 1]), method="best")  # type: ignore[arg-type]


def test_accuracy_at_the_threshold_is_real():
    # A two-way arg max with equal logits, and probability > 0.5, both say real.
    assert m.accuracy(np.array([0.0, 0.0, 1.0]), np.array([0, 1, 1])) == pytest.approx(2 / 3)


def test_class_accuracies_go_by_label_not_by_position():
    rng = np.random.default_rng(0)
    label = rng.permutation(np.repeat([0, 1], [700, 300]))
    assert m.class_accuracy(np.ones(1000), label) == (0.0, 1.0)  # a predictor that calls all fake
    assert m.class_accuracy(np.where(label == 1, 2.0, -2.0), label) == (1.0, 1.0)


@pytest.mark.parametrize("label", [[0, 0, 0], [1, 1, 1], []])
def test_one_class_is_nan_and_never_raises(label):
    score = np.arange(len(label), dtype=float)
    kinds = [m.auc, m.average_precision, m.accuracy, m.eer, m.balanced_accuracy, m.brier, m.ece]
    for metric in kinds:
        assert math.isnan(metric(score, np.array(label))), metric.__name__
    for method in ("mean", "fpr", "interpolate"):
        assert math.isnan(m.eer(score, np.array(label), method=method))
    assert math.isnan(m.tpr_at_fpr(score, np.array(label), 0.1))


def test_results_are_plain_floats_and_inputs_stay():
    score, label = np.array([0.0, 1.0, 2.0], np.float32), np.array([0, 1, 0], np.uint8)
    before = score.copy(), label.copy()
    for metric in (m.auc, m.average_precision, m.accuracy, m.eer):
        assert type(metric(score, label)) is float
    np.testing.assert_array_equal(score, before[0])
    np.testing.assert_array_equal(label, before[1])
    assert m.auc([0.0, 1.0], [False, True]) == 1.0


@pytest.mark.parametrize(
    ("score", "label", "said"),
    [
        ([0.0, np.nan, 1.0], [0, 1, 1], r"score\[1\] is NaN"),
        ([0.0, 1.0, 2.0], [0, 1, 2], r"label\[2\] is 2"),
        ([0.0, 1.0], [0, -1], r"label\[1\] is -1"),
        ([0.0, 1.0], [0.0, 0.5], r"label\[1\] is 0.5"),
        ([0.0, 1.0], [0, 1, 1], r"\(2,\).*\(3,\)"),
        ([[0.0], [1.0]], [[0], [1]], "flat"),
    ],
)
def test_bad_input_names_its_place(score, label, said):
    for metric in (m.auc, m.average_precision, m.accuracy, m.eer):
        with pytest.raises(InputError, match=said):
            metric(np.array(score), np.array(label))


def test_tpr_at_fpr_takes_an_existing_operating_point():
    score = np.array([5.0, 4, 3, 2, 1, 0, 4.5, 3.5, 0.5])
    label = np.array([0, 0, 0, 0, 0, 0, 1, 1, 1])
    # Reals above 4.5: 1 of 6. At FPR 1/6 only the fake at 4.5 is found; 2/6 adds 3.5.
    assert m.tpr_at_fpr(score, label, 0.0) == 0.0
    assert m.tpr_at_fpr(score, label, 1 / 6) == pytest.approx(1 / 3)
    assert m.tpr_at_fpr(score, label, 0.30) == pytest.approx(1 / 3)
    assert m.tpr_at_fpr(score, label, 2 / 6) == pytest.approx(2 / 3)
    assert m.tpr_at_fpr(score, label, 1.0) == 1.0


@pytest.mark.parametrize("fpr", [0.0, 0.01, 0.05, 0.5, 1.0])
def test_threshold_at_fpr_is_the_least_that_holds(fpr):
    real = np.round(np.random.default_rng(3).normal(size=357), 1)  # with ties
    threshold = m.threshold_at_fpr(real, fpr)
    assert np.mean(real >= threshold) <= fpr
    assert np.mean(real >= threshold) == np.mean(real > threshold)
    lower = real[real < threshold]
    if lower.size:
        assert np.mean(real >= lower.max()) > fpr


def test_ece_by_hand():
    # Ten bins. In .7-.8: .75 four times, 3 fakes, no gap. In .2-.3: .25 twice, 1 fake, a gap of .25.
    logit = math.log(3)
    score = np.array([logit] * 4 + [-logit] * 2)
    label = np.array([1, 1, 1, 0, 1, 0])
    assert m.ece(score, label, bins=10) == pytest.approx(0.25 * 2 / 6)
