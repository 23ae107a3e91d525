"""DeLong by hand, against permutations and simulation; tables side by side, and what is refused."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from unseen.cli import main
from unseen.evaluate.card import STAMP, differing, facts
from unseen.evaluate.comparison import compare_tables, holm, to_json, to_markdown
from unseen.evaluate.delong import auc_covariance, delong
from unseen.evaluate.metrics import auc
from unseen.evaluate.scores import ScoreTable, ScoreWriter
from unseen.types import FaceRecord, InputError


def two_detectors(seed: int, n: int = 60, gain: float = 0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two detectors that see the same easy and hard videos; the first has `gain` more separation."""
    rng = np.random.default_rng(seed)
    label = np.repeat([0, 1], n)
    shared = rng.normal(label, 1.0)
    return shared + gain * label + rng.normal(0, 0.5, 2 * n), shared + rng.normal(0, 0.5, 2 * n), label


# DeLong


def test_by_hand() -> None:
    # Reals 1 2 4, fakes 3 5 6: below the fakes lie 2/3, 1, 1 of the reals; above the reals 1, 1, 2/3 of the
    # fakes above; AUC 8/9. Reals 2 1 5, fakes 4 3 6: 2/3, 2/3, 1 and 1, 1, 1/3; AUC 7/9.
    # Differences per fake 0, 1/3, 0: variance (1 + 4 + 1)/81 / 2 = 1/27; per real 0, 0, 1/3: 1/27.
    # Variance of the difference 1/27/3 + 1/27/3 = 2/81; z = (1/9) / sqrt(2/81) = 1/sqrt 2.
    found = delong([1.0, 2, 4, 3, 5, 6], [2.0, 1, 5, 4, 3, 6], [0, 0, 0, 1, 1, 1])
    assert found.first == pytest.approx(8 / 9)
    assert found.second == pytest.approx(7 / 9)
    assert found.error == pytest.approx(math.sqrt(2) / 9)
    assert found.z == pytest.approx(1 / math.sqrt(2))
    assert found.p == pytest.approx(math.erfc(0.5))


def test_the_variance_of_one_auc_from_its_definition() -> None:
    score, _, label = two_detectors(3, 25)
    score = np.round(score, 1)  # with ties
    fake, real = score[label == 1], score[label == 0]
    wins = (fake[:, None] > real) + 0.5 * (fake[:, None] == real)  # (m, n)
    expected = wins.mean(1).var(ddof=1) / fake.size + wins.mean(0).var(ddof=1) / real.size
    value, covariance = auc_covariance(score, label)
    assert value[0] == pytest.approx(auc(score, label))
    assert covariance[0, 0] == pytest.approx(expected)


@pytest.mark.parametrize("gain", [0.0, 0.35])
def test_it_agrees_with_a_permutation_test(gain: float) -> None:
    first, second, label = two_detectors(11, 80, gain)
    # Under "they are equal" each video's two scores could be exchanged, on the scale of ranks.
    ranks = np.stack([np.argsort(np.argsort(s)) for s in (first, second)]).astype(float)
    observed = auc(ranks[0], label) - auc(ranks[1], label)
    rng = np.random.default_rng(0)
    beyond = 0
    for _ in range(2000):
        flip = rng.integers(0, 2, label.size).astype(bool)
        a, b = np.where(flip, ranks[1], ranks[0]), np.where(flip, ranks[0], ranks[1])
        beyond += abs(auc(a, label) - auc(b, label)) >= abs(observed) - 1e-12
    assert delong(first, second, label).p == pytest.approx((1 + beyond) / 2001, abs=0.035)


def test_its_level_by_simulation() -> None:
    rejected = sum(delong(*two_detectors(seed)).p < 0.05 for seed in range(300))
    assert 5 <= rejected <= 27  # 15 of 300, with a standard deviation of 3.8


def test_degenerate_cases() -> None:
    score, _, label = two_detectors(0, 10)
    assert delong(score, score, label).p == 1
    assert delong(score, np.exp(score), label).difference == 0
    perfect, reverse = label * 1.0, -label * 1.0
    assert math.isnan(delong(perfect, reverse, label).p)  # nothing varies, so nothing is known of chance
    assert math.isnan(delong([0.0, 1], [1.0, 0], [0, 1]).p)
    with pytest.raises(InputError, match="same rows"):
        delong([0.0, 1], [1.0], [0, 1])


def test_holm() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert math.isnan(holm([0.2, math.nan])[1])


# Tables


def table(scores: np.ndarray, label: np.ndarray, **card: object) -> ScoreTable:
    rows = [
        FaceRecord(f"{i}/{f}.png", int(y), "d", f"v{i}", f, split="test", method="swap" if y else "real")
        for i, y in enumerate(label)
        for f in range(2)
    ]
    made = ScoreTable.from_records(rows, np.repeat(scores, 2).tolist())
    return replace(made, card={"rows_hash": "made by us", **card})


def test_two_tables_of_the_same_videos() -> None:
    first, second, label = two_detectors(5, 60, 0.8)
    found = compare_tables({"new": table(first, label), "old": table(second, label)}, resamples=400)
    assert (found.n_real, found.n_fake, found.flags) == (60, 60, ())
    pair = found.pairs[0]
    assert tuple(pair.auc) == pytest.approx(tuple(delong(first, second, label)))  # in another order of rows
    assert pair.differences["auc"].value == pytest.approx(auc(first, label) - auc(second, label))
    assert pair.differences["auc"].low > 0
    # Paired draws are surer than the two intervals by themselves.
    width = [v["auc"].high - v["auc"].low for v in found.values.values()]
    assert pair.differences["auc"].high - pair.differences["auc"].low < 0.8 * math.hypot(*width)
    text = to_markdown(found)
    assert "| new - old |" in text
    assert "| rows | " in text
    assert json.loads(to_json(found))["pairs"][0]["auc"]["p"] == pytest.approx(pair.auc.p)


def test_unlike_cards_are_refused_and_flagged() -> None:
    first, second, label = two_detectors(5, 20)
    a, b = table(first, label, frames="32 a video"), table(second, label, frames="8 a video")
    with pytest.raises(InputError, match="frames differ: a 32 a video; b 8 a video") as error:
        compare_tables({"a": a, "b": b})
    assert error.value.reason == "unlike"
    found = compare_tables({"a": a, "b": b}, unlike=True, resamples=20)
    assert any("frames differ" in flag for flag in found.flags)
    assert to_markdown(found).startswith("**Unlike cards")
    blurred = table(second, label, corruption="blur", severity=3)
    with pytest.raises(InputError, match="corruption differ"):
        compare_tables({"a": table(first, label), "b": blurred})


def test_other_videos_are_refused_and_named() -> None:
    first, second, label = two_detectors(5, 20)
    cut = table(second, label).where(video=[f"v{i}" for i in range(39)])
    foreign = replace(cut, card={})
    with pytest.raises(InputError, match="1 of 40 videos of a are not in every table, such as d/v39"):
        compare_tables({"a": table(first, label), "b": foreign})
    found = compare_tables({"a": table(first, label), "b": foreign}, unlike=True, resamples=20)
    assert found.n_fake == 19
    assert any("its card is unknown" in flag for flag in found.flags)
    with pytest.raises(InputError, match="rows differ"):
        compare_tables({"a": table(first, label), "b": cut})


def test_contradicting_labels_and_too_few() -> None:
    first, second, label = two_detectors(5, 20)
    wrong = label.copy()
    wrong[3] = 1
    b = replace(table(second, wrong), card={})
    rows = b.rows.collect().with_columns(method=table(first, label).rows.collect()["method"])
    b = replace(b, rows=rows.lazy())
    with pytest.raises(InputError, match="video 'v3' of data set 'd' has label 0 in a and 1 in b"):
        compare_tables({"a": table(first, label), "b": b})
    with pytest.raises(InputError, match="two of each"):
        compare_tables({"a": table(first[19:], label[19:]), "b": table(second[19:], label[19:])})
    with pytest.raises(InputError, match="two tables"):
        compare_tables({"a": table(first, label)})


def test_a_stamp_is_shown() -> None:
    first, second, label = two_detectors(5, 20)
    tables = {"a": table(first, label, **{STAMP: "NOT A TEST: 3 videos"}), "b": table(second, label)}
    assert "**a: NOT A TEST: 3 videos**" in to_markdown(compare_tables(tables, resamples=20))


def test_facts_are_never_guessed() -> None:
    known = facts(table(*two_detectors(1, 4)[::2]))
    assert known["weights"] == known["crop"] == known["seed"] == known["checkpoint"] == "unknown"
    assert known["split"] == "test"
    assert differing([{"rows": "a"}, {"rows": "unknown"}], ["rows"]) == {}
    assert differing([{"rows": "a"}, {"rows": "b"}], ["rows"]) == {"rows": ["a", "b"]}


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second, label = two_detectors(5, 30, 0.5)
    for name, scores in (("one", first), ("two", second)):
        with ScoreWriter(tmp_path / f"{name}.parquet", card={"rows_hash": "x"}) as writer:
            for i, y in enumerate(label):
                writer.add(FaceRecord(f"{i}.png", int(y), "d", f"v{i}"), float(scores[i]))
    files = [str(tmp_path / "one.parquet"), str(tmp_path / "two.parquet")]
    assert main(["compare", *files, "--resamples", "50"]) == 0
    assert "| one - two |" in capsys.readouterr().out
    assert main(["compare", *files, "--resamples", "50", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["n_real"] == 30
    assert main(["compare", files[0]]) == 2
    assert "two tables" in capsys.readouterr().err
