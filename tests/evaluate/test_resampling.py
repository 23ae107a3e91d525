"""Intervals of every metric at once, against rows repeated by hand, the slow bootstrap, and simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest

from unseen.evaluate.intervals import bootstrap
from unseen.evaluate.metrics import auc
from unseen.evaluate.resampling import METRICS, WeightedCurve, draws, measure_intervals
from unseen.evaluate.scores import measure
from unseen.types import InputError


def simulated(seed: int, n: int = 200, ties: bool = False) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 2, n)
    score = rng.normal(label * 1.2 - 0.3, 1.0)
    return (np.round(score * 2) / 2 if ties else score), label


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("ties", [False, True])
def test_whole_weights_are_repeated_rows(seed: int, ties: bool) -> None:
    score, label = simulated(seed, ties=ties)
    times = np.random.default_rng(seed).integers(0, 4, score.size)
    found = dict(zip(METRICS, WeightedCurve(score, label, 0.25).measure(times.astype(float)), strict=True))
    expected = measure(np.repeat(score, times), np.repeat(label, times), 0.25)
    for name in METRICS:
        assert found[name] == pytest.approx(expected[name], abs=1e-12), name
    alone = measure_intervals(score, label, threshold=0.25, resamples=2)
    for name, value in measure(score, label, 0.25).items():
        if name in METRICS:
            assert alone[name].value == pytest.approx(value, abs=1e-12), name


def test_extreme_tables() -> None:
    # Everything tied: half of all pairs, and no threshold lets fewer than all reals through.
    found = dict(
        zip(METRICS, WeightedCurve(np.zeros(4), np.array([0, 1, 0, 1])).measure(np.ones(4)), strict=True)
    )
    assert found["auc"] == 0.5
    assert found["tpr_at_fpr_0.01"] == 0
    assert found["eer"] == 0.5
    # Separated: everything right, whatever the weights.
    curve = WeightedCurve(np.array([-2.0, -1, 1, 2]), np.array([0, 0, 1, 1]))
    found = dict(zip(METRICS, curve.measure(np.array([3.0, 0, 0, 1])), strict=True))
    assert found["auc"] == found["tpr_at_fpr_0.001"] == found["accuracy"] == 1
    assert found["eer"] == 0
    assert np.isnan(curve.measure(np.array([0.0, 0, 1, 1]))).all()
    assert np.isnan(WeightedCurve(np.zeros(0), np.zeros(0, int)).measure(np.zeros(0))).all()


def test_groups_are_drawn_whole_and_classes_apart() -> None:
    label = np.repeat([0, 0, 1, 1, 1], 4)
    group = np.repeat([3, 1, 0, 2, 4], 4)
    for weight in draws(label, group, 50, np.random.default_rng(0)):
        per_group = weight.reshape(5, 4)
        assert (per_group == per_group[:, :1]).all()
        assert per_group[:2, 0].sum() == 2
        assert per_group[2:, 0].sum() == 3
    with pytest.raises(InputError, match="share a group but not a label"):
        next(draws(np.array([0, 1]), np.array([0, 0]), 1, np.random.default_rng(0)))


def test_it_agrees_with_the_slow_bootstrap_and_is_the_same_each_time() -> None:
    score, label = simulated(1, 160)
    fast = measure_intervals(score, label, resamples=2000)["auc"]
    slow = bootstrap(auc, score, label, resamples=1000)
    assert fast.value == slow.value
    assert fast.low == pytest.approx(slow.low, abs=0.01)
    assert fast.high == pytest.approx(slow.high, abs=0.01)
    assert measure_intervals(score, label, resamples=50) == measure_intervals(score, label, resamples=50)


def test_one_video_of_a_class_has_no_interval() -> None:
    found = measure_intervals([0.0, 1, 2, 3], [0, 0, 1, 1], ["a", "a", "b", "c"], resamples=10)["auc"]
    assert found.value == 1
    assert math.isnan(found.low)
    frames = measure_intervals([0.0, 1, 2, 3], [0, 0, 1, 1], ["a", "d", "b", "c"], resamples=10)["auc"]
    assert frames.low == 1


@pytest.mark.slow
def test_coverage_by_simulation() -> None:
    """95 % intervals of AUC and of accuracy hold the truth in 95 % of 300 studies, by video, not by frame."""
    truth = {
        "auc": 0.760250,
        "balanced_accuracy": 0.691462,
    }  # Phi(1 / sqrt 2); Phi(1/2) at a threshold of 1/2
    inside = dict.fromkeys(truth, 0)
    by_frame = 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        label = np.repeat([0, 1], 60)
        centre = rng.normal(label * 1.0, 1.0)
        video = np.repeat(np.arange(120), 8)
        score = centre[video]
        found = measure_intervals(score, label[video], video, threshold=0.5, resamples=400)
        for name, value in truth.items():
            inside[name] += found[name].low <= value <= found[name].high
        wrong = measure_intervals(score, label[video], threshold=0.5, resamples=400)["auc"]
        by_frame += wrong.low <= truth["auc"] <= wrong.high
    # 285 of 300, with a standard deviation of 3.8.
    assert 272 <= inside["auc"] <= 297
    assert 272 <= inside["balanced_accuracy"] <= 297
    assert by_frame < 200  # what counting frames would promise, and not keep
