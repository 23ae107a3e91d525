"""Bootstrap intervals: videos are drawn, not frames."""

from __future__ import annotations

import math

import numpy as np
import pytest

from unseen.evaluate.intervals import bootstrap
from unseen.evaluate.metrics import auc
from unseen.types import InputError


def videos(rng: np.random.Generator, n: int, frames: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """2 n videos whose frames are near copies of each other."""
    label = np.repeat([0, 1], n)
    centre = rng.normal(label * 1.0, 1.0)
    video = np.repeat(np.arange(2 * n), frames)
    return centre[video] + rng.normal(0, 0.05, video.size), label[video], video


def test_frames_of_one_video_do_not_make_it_surer():
    score, label, video = videos(np.random.default_rng(1), 25, 16)
    by_video = bootstrap(auc, score, label, video, resamples=200)
    by_frame = bootstrap(auc, score, label, resamples=200)
    assert by_video.low < by_video.value < by_video.high
    assert by_video.high - by_video.low > 2 * (by_frame.high - by_frame.low)


def test_coverage_by_simulation():
    truth = 0.760250  # P(N(1,1) > N(0,1)) = Phi(1 / sqrt 2)
    inside = 0
    for seed in range(60):
        score, label, video = videos(np.random.default_rng(seed), 40, 3)
        found = bootstrap(auc, score, label, video, resamples=150, level=0.9)
        inside += found.low <= truth <= found.high
    assert 45 <= inside <= 60  # 90 % of 60 is 54, with a standard deviation of 2.3


def test_names_as_groups_seed_and_errors():
    score, label = np.array([0.0, 1, 2, 3]), np.array([0, 0, 1, 1])
    group = np.array(["a", "b", "c", "d"])
    a = bootstrap(auc, score, label, group, resamples=20, rng=np.random.default_rng(3))
    assert a == bootstrap(auc, score, label, group, resamples=20, rng=np.random.default_rng(3))
    assert math.isnan(bootstrap(auc, score, np.zeros(4, int), group).low)
    with pytest.raises(InputError, match="share a group"):
        bootstrap(auc, score, label, np.array(["a", "b", "b", "d"]))
