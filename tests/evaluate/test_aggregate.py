"""How a video's frames become its score, with numbers worked by hand, and which frames are taken."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest

from unseen.evaluate.aggregate import AGGREGATES, chosen_frames
from unseen.evaluate.scores import ScoreTable
from unseen.types import FaceRecord, InputError


def log_odds(p: float) -> float:
    return math.log(p / (1 - p))


def video(chances: list[float], frames: list[int] | None = None, aggregate: str = "mean") -> float:
    """The probability of one fake video whose faces have these probabilities."""
    frames = list(range(len(chances))) if frames is None else frames
    rows = [FaceRecord(f"{i}.png", 1, "d", "v", frame, 0.0, "swap") for i, frame in enumerate(frames)]
    table = ScoreTable.from_records(rows, [log_odds(p) for p in chances])
    return float(1 / (1 + math.exp(-table.videos(aggregate)["score"].item())))


def test_the_highest_face_of_each_frame_then_the_mean_of_frames() -> None:
    # Frame 0 has faces .1 and .9, frame 1 one of .3, frame 2 twins of .6: (.9 + .3 + .6) / 3 = .6
    assert video([0.1, 0.9, 0.3, 0.6, 0.6], [0, 0, 1, 2, 2], "face_max") == pytest.approx(0.6)
    assert video([0.1, 0.9, 0.3, 0.6, 0.6], [0, 0, 1, 2, 2], "mean_probability") == pytest.approx(0.5)
    # One face a frame: no difference.
    assert video([0.2, 0.4], aggregate="face_max") == pytest.approx(0.3)


def test_rows_without_a_frame_number_are_frames_of_their_own() -> None:
    frame = pl.DataFrame(
        {"video": ["v", "v"], "label": [1, 1], "score": [log_odds(0.2), log_odds(0.6)], "path": ["a", "b"]}
    )
    score = ScoreTable.from_frame(frame).videos("face_max")["score"].item()
    assert score == pytest.approx(log_odds(0.4))


def test_the_k_highest() -> None:
    # (.9 + .8 + .4) / 3 = .7;  (.9 + .8) / 2 = .85;  ten of four are all: 2.2 / 4 = .55
    chances = [0.1, 0.9, 0.4, 0.8]
    assert video(chances, aggregate="top3") == pytest.approx(0.7)
    assert video(chances, aggregate="top_2") == pytest.approx(0.85)
    assert video(chances, aggregate="top10") == pytest.approx(0.55)
    assert video(chances, aggregate="top1") == pytest.approx(video(chances, aggregate="max"))


@pytest.mark.parametrize(
    ("chances", "expected"),
    [
        ([0.9] * 13 + [0.1] * 19, 0.9),  # 13 of 32 are sure: more than floor(32 / 2.5) = 12, and more than 11
        ([0.9] * 12 + [0.1] * 20, 0.4),  # 12 are not: the mean of all, (10.8 + 2.0) / 32
        ([0.9] * 11 + [0.5] * 5, 0.775),  # 11 of 16 are many, but not more than 11: (9.9 + 2.5) / 16
        ([0.1] * 19 + [0.6], 0.1),  # 19 of 20 is more than nine tenths: the mean of those below .2
        ([0.1] * 18 + [0.6] * 2, 0.15),  # 18 of 20 is not: (1.8 + 1.2) / 20
    ],
)
def test_confident(chances: list[float], expected: float) -> None:
    assert video(chances, aggregate="confident") == pytest.approx(expected)


@pytest.mark.parametrize("aggregate", [*AGGREGATES, "top3"])
def test_one_face_is_its_own_score(aggregate: str) -> None:
    assert video([0.3], aggregate=aggregate) == pytest.approx(0.3)


@pytest.mark.parametrize("aggregate", ["top", "top0", "mode", "Mean"])
def test_an_unknown_aggregate_says_what_there_is(aggregate: str) -> None:
    with pytest.raises(InputError, match=r"expected one of mean, median, max, .*top3") as error:
        video([0.3], aggregate=aggregate)
    assert error.value.reason == "aggregate"


def taken(numbers: list[int], count: int) -> list[int]:
    rows = pl.DataFrame(
        {"dataset": "d", "video": "v", "method": None, "frame": numbers},
        schema={"dataset": pl.String, "video": pl.String, "method": pl.String, "frame": pl.Int64},
    )
    return sorted(np.array(numbers)[chosen_frames(rows, count).to_numpy()].tolist())


def test_frames_are_spread_evenly() -> None:
    # Of 10 frames 4: floor(.5 * 2.5) = 1, floor(1.5 * 2.5) = 3, floor(6.25) = 6, floor(8.75) = 8
    assert taken(list(range(10)), 4) == [1, 3, 6, 8]
    assert taken([90, 10, 50], 1) == [50]  # one frame is the middle one, in the order of their numbers
    assert taken([3, 1, 2], 3) == [1, 2, 3]
    assert taken([3, 1], 32) == [1, 3]


def test_even_choice_equals_its_formula_for_all_small_numbers() -> None:
    for n in range(1, 41):
        for count in range(1, 41):
            expected = [int((i + 0.5) * n // count) for i in range(count)] if n > count else list(range(n))
            assert taken(list(range(n)), count) == expected, (n, count)


def test_every_face_of_a_chosen_frame_is_chosen_and_videos_do_not_mix() -> None:
    rows = pl.DataFrame(
        {
            "dataset": ["d"] * 7,
            "video": ["a"] * 4 + ["b"] * 3,
            "method": ["x"] * 4 + ["x", "x", "y"],
            "frame": [0, 1, 1, 2, 7, 8, 9],
        }
    )
    # a: frames 0 1 2, the middle one has two faces. b is two videos, of methods x (7, 8) and y (9).
    assert chosen_frames(rows, 1).to_list() == [False, True, True, False, False, True, True]
    assert chosen_frames(rows, None).all()
    assert chosen_frames(rows.head(0), 3).is_empty()
