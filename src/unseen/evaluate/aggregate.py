"""From a video's frames to its score, and which of its frames count: two rules that papers often leave out.

| aggregate | a video's score |
|---|---|
| `mean`, `median`, `max` | of the frames' log-odds |
| `mean_probability` | log-odds of the mean of sigmoid(score): what nearly all published code does |
| `face_max` | the highest face of each frame, then the mean of the frames' probabilities: SBI (CVPR 2022) |
| `top3` (any number) | log-odds of the mean of the three highest probabilities, or of all if fewer |
| `confident` | the rule that won the DFDC (S. Seferbekov, 2020): see `confident` |
"""

from __future__ import annotations

import re

import polars as pl

from unseen.types import InputError

__all__ = ["AGGREGATES", "Aggregate", "chosen_frames", "confident", "video_score"]

Aggregate = str
AGGREGATES = ("mean", "median", "max", "mean_probability", "face_max", "confident")
_TOP = re.compile(r"top_?([1-9]\d*)")


def _chance(score: pl.Expr) -> pl.Expr:
    return 1 / (1 + (-score).exp())


def _log_odds(chance: pl.Expr) -> pl.Expr:
    chance = chance.clip(1e-12, 1 - 1e-12)
    return (chance / (1 - chance)).log()


def video_score(aggregate: Aggregate, score: str = "score", face: str = "frame_key") -> pl.Expr:
    """Return the expression that turns a group of rows, the faces of a video, into its log-odds.

    Args:
        aggregate: See the module.
        score: Column of log-odds, without nulls.
        face: Column that is equal for faces of one frame; read by `face_max` alone.

    Raises:
        InputError: An unknown aggregate.
    """
    value = pl.col(score)
    chance = _chance(value)
    top = _TOP.fullmatch(aggregate)
    if top:
        return _log_odds(chance.top_k(pl.min_horizontal(pl.lit(int(top[1])), pl.len())).mean())
    ways = {
        "mean": value.mean(),
        "median": value.median(),
        "max": value.max(),
        "mean_probability": _log_odds(chance.mean()),
        # The mean over rows that are the highest of their frame, each frame once.
        "face_max": _log_odds(
            _chance(value.sort_by(value, descending=True)).filter(_first_of_frame(score, face)).mean()
        ),
        "confident": _log_odds(confident(chance)),
    }
    if aggregate not in ways:
        raise InputError(
            f"aggregate is {aggregate!r}; expected one of {', '.join(AGGREGATES)}, or top3, top5, ...",
            reason="aggregate",
        )
    return ways[aggregate]


def _first_of_frame(score: str, face: str) -> pl.Expr:
    return pl.col(face).sort_by(pl.col(score), descending=True).is_first_distinct()


def confident(chance: pl.Expr) -> pl.Expr:
    """Return the mean probability of those frames that are sure, if enough of them agree.

    Where more than 11 frames, and more than two fifths of all, lie above 0.8, their mean; where more than
    nine tenths lie below 0.2, *their* mean; otherwise the mean of all.
    """
    high, low, frames = chance > 0.8, chance < 0.2, pl.len()
    # `//` of a float, as in the rule's source: 32 frames need more than 12.
    sure = (high.sum() > (frames / 2.5).floor()) & (high.sum() > 11)
    return (
        pl.when(sure)
        .then(chance.filter(high).mean())
        .when(low.sum() > 0.9 * frames)
        .then(chance.filter(low).mean())
        .otherwise(chance.mean())
    )


def chosen_frames(rows: pl.DataFrame, count: int | None) -> pl.Series:
    """Say which rows belong to `count` frames of each video, spread evenly: the middle of each equal part.

    Of N frames in the order of their numbers, those at floor((i + 1/2) N / count), i = 0 .. count - 1: a
    single frame is the middle one. A video of fewer frames keeps all. Every face of a chosen frame is chosen.

    Args:
        rows: With columns dataset, video, method, frame; a row without a frame number is a frame of its own.
        count: None chooses every row.

    Returns:
        (N,) bool.
    """
    if count is None or rows.is_empty():
        return pl.repeat(True, len(rows), dtype=pl.Boolean, eager=True)
    key = ["dataset", "video", "method"]
    keyed = rows.select(
        *(pl.col(name).fill_null("") for name in key),
        # Numbers below every real one, all different, for rows that have none.
        pl.coalesce("frame", -1 - pl.int_range(pl.len())).alias("frame"),
    )
    place = (pl.col("frame").rank("dense").over(key).cast(pl.Int64) - 1).alias("place")
    frames = pl.col("frame").n_unique().over(key).cast(pl.Int64).alias("frames")
    # Place p is chosen if a whole i lies in [p count / N - 1/2, (p + 1) count / N - 1/2): whole numbers only.
    first = -((pl.col("frames") - 2 * count * pl.col("place")) // (2 * pl.col("frames")))
    inside = (2 * first + 1) * pl.col("frames") < 2 * count * (pl.col("place") + 1)
    found = keyed.select(place, frames).select((inside | (pl.col("frames") <= count)).alias("chosen"))
    return found["chosen"]
