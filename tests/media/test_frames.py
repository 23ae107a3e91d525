from __future__ import annotations

import numpy as np
import pytest

from unseen.media.frames import Limits, check_pixels, spread
from unseen.types import InputError


def test_equal_intervals_take_the_frame_shown_in_their_middle() -> None:
    # Frames each 0.5 s, 10 s in all, 4 intervals: middles 1.25, 3.75, 6.25, 8.75 s.
    assert spread(np.arange(20) * 0.5, 10.0, 4).tolist() == [2, 7, 12, 17]


def test_variable_rate_counts_time_not_frames() -> None:
    # Ten frames in the first second, then one that stays for nine.
    times = np.concatenate([np.arange(10) / 10, [1.0]])
    assert spread(times, 10.0, 5).tolist() == [10]
    assert spread(times, 10.0, 10).tolist() == [5, 10]


def test_short_videos_give_all_their_frames() -> None:
    assert spread(np.arange(3) / 10, 0.3, 32).tolist() == [0, 1, 2]


def test_middles_never_precede_the_first_frame() -> None:
    assert spread(np.array([0.0, 5, 6, 7]), 8.0, 1).tolist() == [0]


@pytest.mark.parametrize(
    ("size", "reason"), [((0, 5), "unreadable"), ((-4, -4), "unreadable"), ((11, 10), "too_large")]
)
def test_impossible_and_too_large_frames(size: tuple[int, int], reason: str) -> None:
    with pytest.raises(InputError, match=r"a\.png") as caught:
        check_pixels("a.png", *size, Limits(pixels=100))
    assert caught.value.reason == reason
    check_pixels("a.png", 10, 10, Limits(pixels=100))
