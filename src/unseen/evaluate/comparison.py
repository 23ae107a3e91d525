"""Detectors side by side on the same videos: their numbers, and whether they differ by more than chance.

Two intervals that overlap say little, because both detectors saw the same easy and hard videos. The tests
here are paired: DeLong's for the AUC, and for every metric the difference within each draw of videos.

Example:
    >>> from unseen.types import FaceRecord
    >>> rows = [FaceRecord(f"{i}.png", i % 2, "d", f"v{i}") for i in range(40)]
    >>> good = ScoreTable.from_records(rows, [r.label + i % 7 / 8 for i, r in enumerate(rows)])
    >>> poor = ScoreTable.from_records(rows, [r.label + i % 7 / 3 for i, r in enumerate(rows)])
    >>> found = compare_tables({"good": good, "poor": poor}, resamples=50)
    >>> found.pairs[0].second, found.pairs[0].auc.difference > 0
    ('poor', True)
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import polars as pl

from unseen.evaluate.aggregate import Aggregate
from unseen.evaluate.card import SAME, STAMP, UNKNOWN, differing, facts
from unseen.evaluate.delong import Paired, delong
from unseen.evaluate.intervals import Interval
from unseen.evaluate.metrics import Floats, Labels
from unseen.evaluate.resampling import METRICS, WeightedCurve, draws
from unseen.evaluate.scores import ScoreTable
from unseen.types import InputError

__all__ = ["Comparison", "Pair", "compare_tables", "to_json", "to_markdown"]

SHOWN = ("auc", "average_precision", "eer", "tpr_at_fpr_0.01")
_NAMES = {"auc": "AUC", "average_precision": "AP", "eer": "EER", "tpr_at_fpr_0.01": "TPR at FPR 1 %"}
_KEY = ["dataset", "video", "method"]


@dataclass(frozen=True)
class Pair:
    """The first table beside another one.

    Args:
        first: Name of the first table.
        second: Name of the other.
        auc: DeLong's test.
        p_holm: Its p-value after Holm's correction for the number of pairs.
        differences: Metric to first minus second, with the interval of that difference over draws of videos.
    """

    first: str
    second: str
    auc: Paired
    p_holm: float
    differences: Mapping[str, Interval]


@dataclass(frozen=True)
class Comparison:
    """Tables side by side.

    Args:
        values: Table to metric to its interval, over the common videos.
        pairs: The first table beside each other one.
        n_real: Real videos compared.
        n_fake: Fake videos compared.
        aggregate: How frames became a video's score.
        cards: Table to its facts.
        flags: Sentences on what makes the comparison less than fair; a reader must see them.
    """

    values: Mapping[str, Mapping[str, Interval]]
    pairs: tuple[Pair, ...]
    n_real: int
    n_fake: int
    aggregate: str
    cards: Mapping[str, Mapping[str, str]]
    flags: tuple[str, ...] = ()


def compare_tables(
    tables: Mapping[str, ScoreTable],
    *,
    aggregate: Aggregate = "mean",
    unlike: bool = False,
    resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> Comparison:
    """Compare the first table with each other one, video by video.

    Args:
        tables: Name to scores; two or more.
        aggregate: How a video's frames become its score, for all alike.
        unlike: Compare on the videos that all tables share although their cards differ, and flag it.
        resamples: Draws of videos.
        level: Share of the draws inside an interval.
        seed: Of the draws.

    Raises:
        InputError: Fewer than two tables, one video with two labels, or, unless `unlike`, cards or videos
            that differ; names what differs.
    """
    if len(tables) < 2:
        raise InputError("compare: give two tables of scores, or more", reason="usage")
    names = list(tables)
    cards = {name: facts(table) for name, table in tables.items()}
    # The hash of a foreign file's rows depends on the columns that it happens to have.
    foreign = [name for name, table in tables.items() if "rows_hash" not in table.card]
    checked = {n: {**card, "rows": UNKNOWN} if n in foreign else card for n, card in cards.items()}
    flags = _unlike_cards(checked, unlike)
    flags += [f"{name}: its card is unknown; only videos and labels are compared" for name in foreign]
    videos = {name: table.videos(aggregate) for name, table in tables.items()}
    common, more = _common(videos, unlike)
    flags += more
    flags += [f"{name}: {table.card[STAMP]}" for name, table in tables.items() if table.card.get(STAMP)]
    label = common["label"].to_numpy().astype(np.int64)
    scores = [common[f"score {i}"].to_numpy() for i in range(len(names))]
    values, differences = _bootstrap(scores, label, resamples, level, seed)
    tests = [delong(scores[0], other, label) for other in scores[1:]]
    corrected = holm([test.p for test in tests])
    return Comparison(
        dict(zip(names, values, strict=True)),
        tuple(
            Pair(names[0], name, test, p, difference)
            for name, test, p, difference in zip(names[1:], tests, corrected, differences, strict=True)
        ),
        int((label == 0).sum()),
        int((label == 1).sum()),
        aggregate,
        cards,
        tuple(flags),
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number (Holm 1979): any true difference among them is claimed.

    Example:
        >>> [round(p, 6) for p in holm([0.01, 0.04, 0.03])]  # 3 x .01, then 2 x .03, then the largest so far
        [0.03, 0.06, 0.06]
    """
    found = [math.nan] * len(p_values)
    order = sorted((i for i, p in enumerate(p_values) if not math.isnan(p)), key=lambda i: p_values[i])
    highest = 0.0
    for place, i in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - place) * p_values[i]))
        found[i] = highest
    return found


def _unlike_cards(cards: Mapping[str, Mapping[str, str]], unlike: bool) -> list[str]:
    def sentences_of(*keys: str) -> list[str]:
        return [
            f"{key} differ: " + "; ".join(f"{name} {v}" for name, v in zip(cards, values, strict=True))
            for key, values in differing(list(cards.values()), keys).items()
        ]

    sentences = sentences_of(*SAME)
    if sentences and not unlike:
        raise InputError(
            f"these tables are not of one experiment: {' | '.join(sentences)}. Score the same rows in the "
            "same way, or give --unlike to compare the videos that they share, with a flag",
            reason="unlike",
        )
    return [f"Unlike cards: {sentence}" for sentence in sentences + sentences_of("scored with")]


def _common(videos: Mapping[str, pl.DataFrame], unlike: bool) -> tuple[pl.DataFrame, list[str]]:
    """Return the videos that every table has, with a score column each, and flags about the others."""
    names = list(videos)
    common = videos[names[0]].select(*_KEY, "label", pl.col("score").alias("score 0"))
    for i, name in enumerate(names[1:], 1):
        other = videos[name].select(
            *_KEY, pl.col("label").alias("theirs"), pl.col("score").alias(f"score {i}")
        )
        common = common.join(other, on=_KEY, how="inner", maintain_order="left")
        wrong = common.filter(pl.col("label") != pl.col("theirs")).head(1)
        if len(wrong):
            row = wrong.row(0, named=True)
            raise InputError(
                f"video {row['video']!r} of data set {row['dataset']!r} has label {row['label']} in "
                f"{names[0]} and {row['theirs']} in {name}; one of the two is wrong",
                reason="mixed_video",
            )
        common = common.drop("theirs")
    flags = []
    for name, rows in videos.items():
        left = len(rows) - len(common)
        if not left:
            continue
        first = rows.join(common, on=_KEY, how="anti").row(0, named=True)
        example = f"{first['dataset']}/{first['video']}".strip("/")
        flags.append(f"{left} of {len(rows)} videos of {name} are not in every table, such as {example}")
    if flags and not unlike:
        raise InputError(
            f"{'; '.join(flags)}. Score the same videos with each, or give --unlike to compare the "
            f"{len(common)} that they share, with a flag",
            reason="unlike",
        )
    counts = [(common["label"] == k).sum() for k in (0, 1)]
    if min(counts) < 2:
        raise InputError(
            f"the tables share {counts[0]} real and {counts[1]} fake videos; a test needs two of each, and "
            "means little below twenty",
            reason="one_class",
        )
    return common, flags


def _bootstrap(
    scores: Sequence[Floats], label: Labels, resamples: int, level: float, seed: int
) -> tuple[list[dict[str, Interval]], list[dict[str, Interval]]]:
    """Return intervals of each detector's metrics, and of the first one's minus each other's."""
    curves = [WeightedCurve(score, label) for score in scores]
    whole = np.stack([curve.measure(np.ones(label.size)) for curve in curves])  # (K, M)
    weights = draws(label, np.arange(label.size), resamples, np.random.default_rng(seed))
    drawn = np.stack([[curve.measure(weight) for curve in curves] for weight in weights])  # (R, K, M)
    tails = [(1 - level) / 2, (1 + level) / 2]

    def intervals(value: Floats, draw: Floats) -> dict[str, Interval]:
        low, high = np.quantile(draw, tails, axis=0)
        return {
            m: Interval(float(v), float(a), float(b))
            for m, v, a, b in zip(METRICS, value, low, high, strict=True)
            if m in SHOWN
        }

    values = [intervals(whole[k], drawn[:, k]) for k in range(len(curves))]
    return values, [intervals(whole[0] - whole[k], drawn[:, 0] - drawn[:, k]) for k in range(1, len(curves))]


def to_json(found: Comparison) -> str:
    """Return a comparison as JSON; what has no value is null."""

    def plain(value: object) -> object:
        if isinstance(value, Mapping):
            return {key: plain(item) for key, item in value.items()}
        if isinstance(value, tuple | list):
            named = getattr(value, "_asdict", None)
            return plain(named()) if named else [plain(item) for item in value]
        return None if isinstance(value, float) and not math.isfinite(value) else value

    pairs = [{**asdict(pair), "auc": pair.auc, "differences": pair.differences} for pair in found.pairs]
    return json.dumps(plain({**asdict(found), "values": found.values, "pairs": pairs}), indent=2)


def to_markdown(found: Comparison) -> str:
    """Write flags, the detectors' numbers, the tests, and the cards."""
    lines = [f"**{flag}**\n" for flag in found.flags]
    lines += [
        f"{found.n_real:,} real and {found.n_fake:,} fake videos; a video's score is the {found.aggregate} "
        "of its frames; 95 % intervals over draws of videos.",
        "",
        "| detector | " + " | ".join(_NAMES[m] for m in SHOWN) + " |",
        "|---|" + "---:|" * len(SHOWN),
    ]
    for name, values in found.values.items():
        cells = [f"{v.value:.4f} [{v.low:.4f}, {v.high:.4f}]" for v in (values[m] for m in SHOWN)]
        lines.append(f"| {_cell(name)} | {' | '.join(cells)} |")
    lines += [
        "",
        "| difference | " + " | ".join(_NAMES[m] for m in SHOWN) + " | DeLong z | p | p (Holm) |",
        "|---|" + "---:|" * (len(SHOWN) + 3),
    ]
    for pair in found.pairs:
        cells = [
            f"{v.value:+.4f} [{v.low:+.4f}, {v.high:+.4f}]" for v in (pair.differences[m] for m in SHOWN)
        ]
        tests = [_number(pair.auc.z, ".2f"), _number(pair.auc.p, ".2g"), _number(pair.p_holm, ".2g")]
        lines.append(f"| {_cell(pair.first)} - {_cell(pair.second)} | {' | '.join(cells + tests)} |")
    lines += [
        "",
        "Paired: both detectors on the same videos. p is of equal AUCs, videos taken as independent.",
        "",
        "| card | " + " | ".join(map(_cell, found.cards)) + " |",
        "|---|" + "---|" * len(found.cards),
    ]
    keys = next(iter(found.cards.values()))
    lines += [f"| {key} | {' | '.join(_cell(card[key]) for card in found.cards.values())} |" for key in keys]
    return "\n".join(lines) + "\n"


def _number(value: float, form: str) -> str:
    return "-" if math.isnan(value) else format(value, form)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
