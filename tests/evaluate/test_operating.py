"""Thresholds and calibrations from validation, reliability, Cross-AUC, and how the summary shows them."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from sklearn.isotonic import IsotonicRegression

from unseen.cli import main
from unseen.evaluate.calibration import Calibration
from unseen.evaluate.card import STAMP
from unseen.evaluate.isotonic import Isotonic
from unseen.evaluate.metrics import auc, brier, ece, expit
from unseen.evaluate.operating import (
    calibrated,
    calibration_errors,
    operating_points,
    reliability,
    reliability_svg,
    run_thresholds,
    validation_thresholds,
)
from unseen.evaluate.scores import ScoreTable, ScoreWriter
from unseen.evaluate.summary import cross_auc, summary, to_json, to_markdown
from unseen.evaluate.svg import panels
from unseen.types import FaceRecord, InputError


def videos(score: list[float], label: list[int]) -> pl.DataFrame:
    return pl.DataFrame({"score": score, "label": label}, schema={"score": pl.Float64, "label": pl.Int8})


def sample(seed: int, n: int = 300, slope: float = 3.0, dataset: str = "d", shift: float = 0.0) -> ScoreTable:
    """Overconfident log-odds: `slope` times what they should be, of videos with two frames each."""
    rng = np.random.default_rng(seed)
    rows, scores = [], []
    for i in range(n):
        label = int(rng.random() < 0.5)
        right = rng.normal(2 * label - 1, math.sqrt(2))  # log-odds of two such normals are the value itself
        for frame in range(2):
            method = ("swap", "texture")[i % 2] if label else "real"
            path = f"{dataset}/{i}_{frame}.png"
            rows.append(FaceRecord(path, label, dataset, f"v{i}", frame, method=method, split="test"))
            scores.append(slope * right + shift)
    return ScoreTable.from_records(rows, scores)


# Thresholds


def test_thresholds_by_hand() -> None:
    # Fake from 3 on: 1 of 4 reals, 3 of 3 fakes: 3/4. From 5 on: none, 2 of 3: 2/3. The first is better;
    # half way down to the next score, 2, lies 2.5.
    known = videos([0, 1, 2, 4, 3, 5, 6], [0, 0, 0, 0, 1, 1, 1])
    found = validation_thresholds(known)
    assert found["best on validation"] == 2.5
    assert found["1% of validation reals"] == np.nextafter(4, 5)
    tested = videos([2.4, 2.6, -1, 9, 2.5], [0, 0, 0, 1, 1])
    points = operating_points(tested, found)
    # Above 2.5: one of three reals, one of two fakes (2.5 itself is not).
    best = points["best on validation"]
    assert best["accuracy"] == 3 / 5
    assert best["false_alarms"] == pytest.approx(1 / 3)
    assert best["caught"] == 1 / 2
    assert best["balanced_accuracy"] == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert points["even chance"]["threshold"] == 0
    with pytest.raises(InputError, match="2 real and 0 fake"):
        validation_thresholds(videos([1, 2], [0, 0]))


def test_a_runs_own_thresholds() -> None:
    rng = np.random.default_rng(0)
    fitted = Calibration.fit(rng.normal(0, 1, 400), np.repeat([0, 1], 200))
    found = run_thresholds(fitted)
    assert found["1 % by calibration"] == fitted.threshold("0.01")
    assert run_thresholds(Calibration.uncalibrated()) == {}


# Calibration


def test_isotonic_equals_scikit_learn() -> None:
    rng = np.random.default_rng(2)
    label = rng.integers(0, 2, 300)
    score = np.round(rng.normal(label, 1.0), 1)  # with ties
    counts = np.bincount(label)
    theirs = IsotonicRegression(out_of_bounds="clip").fit(score, label, sample_weight=1 / counts[label])
    low, high = 1 / (counts[0] + 2), (counts[1] + 1) / (counts[1] + 2)
    ours = Isotonic.fit(score, label)
    expected = np.clip(theirs.predict(ours.score), low, high)
    np.testing.assert_allclose(ours.probability, expected, atol=1e-9)
    # Between the scores of the fit both are lines; the limits are put on before they are drawn.
    at = np.linspace(-3, 4, 200)
    np.testing.assert_allclose(ours.probabilities(at), np.interp(at, ours.score, expected), atol=1e-9)
    assert (np.diff(ours.probabilities(at)) >= 0).all()


def test_isotonic_never_promises_certainty_and_needs_both_classes() -> None:
    found = Isotonic.fit([-2.0, -1, 1, 2], [0, 0, 1, 1])
    assert found.probabilities([-9.0, 9.0]).tolist() == [1 / 4, 3 / 4]
    assert np.isfinite(found.log_odds([-9.0, 0, 9])).all()
    with pytest.raises(InputError, match="no fake"):
        Isotonic.fit([0.0, 1], [0, 0])


def test_calibration_repairs_overconfidence_on_other_people() -> None:
    known, tested = (sample(seed, 1500, slope=3.0, shift=1.0).videos() for seed in (0, 1))
    ways = calibrated(tested, known)
    label = tested["label"].to_numpy().astype(int)
    errors = {name: calibration_errors(odds, label) for name, odds in ways.items()}
    assert errors["as it is"]["ece"] > 0.1
    for name in ("temperature", "isotonic"):
        assert errors[name]["ece"] < 0.05
        assert errors[name]["brier"] < errors["as it is"]["brier"] - 0.02
        assert auc(ways[name], label) == pytest.approx(auc(ways["as it is"], label), abs=0.005)
    # The true log-odds are (score - 1) / 3.
    right = (tested["score"].to_numpy() - 1) / 3
    np.testing.assert_allclose(ways["temperature"], right, atol=0.35)


def test_errors_of_equal_classes_are_the_plain_ones() -> None:
    rng = np.random.default_rng(0)
    label = np.repeat([0, 1], 50)
    odds = rng.normal(label, 1.0)
    found = calibration_errors(odds, label)
    assert found["brier"] == pytest.approx(brier(odds, label))
    assert found["ece"] == pytest.approx(ece(odds, label))
    # Five fakes a real change nothing.
    many = np.concatenate([np.flatnonzero(label == 0), np.tile(np.flatnonzero(label == 1), 5)])
    again = calibration_errors(odds[many], label[many])
    assert again["brier"] == pytest.approx(found["brier"])
    assert again["ece"] == pytest.approx(found["ece"])
    assert math.isnan(calibration_errors(odds, np.zeros(100, int))["ece"])


def test_reliability_bins_by_hand_and_drawn() -> None:
    # Probabilities .25, .25, .75; labels 0, 1, 1. Real weighs 3 / 2, each fake 3 / 4.
    odds = np.log(np.array([1 / 3, 1 / 3, 3.0]))
    label = np.array([0, 1, 1])
    low, high = reliability(odds, label, bins=2)
    assert low["probability"] == pytest.approx(0.25)
    assert low["fakes"] == pytest.approx(0.75 / (1.5 + 0.75))
    assert (low["rows"], high["rows"]) == (2, 1)
    assert high["fakes"] == 1
    drawn = reliability_svg({"as it is": odds, "a < b": odds}, label)
    assert drawn.startswith("<svg ")
    assert drawn.count("<circle") == 4
    assert "a &lt; b" in drawn


# The summary


def test_summary_shows_intervals_thresholds_and_card() -> None:
    table = sample(3, 120)
    found = summary(table, resamples=50, validation=sample(4, 120))
    low, high = found["video"]["intervals"]["auc"]
    assert low < found["video"]["auc"] < high
    # Frames of one video are copies here: the level changes nothing, and must not make it surer.
    width = [np.diff(found[level]["intervals"]["auc"])[0] for level in ("frame", "video")]
    assert width[0] > 0.7 * width[1]
    assert set(found["operating_points"]) >= {"even chance", "best on validation"}
    assert set(found["calibration"]) == {"as it is", "temperature", "isotonic"}
    text = to_markdown(found)
    assert f"[{low:.3f}, {high:.3f}]" in text
    assert "| best on validation |" in text
    assert "\nrows: " in text
    assert "\naggregation: mean" in text
    assert "no false alarm" in text  # 0.1 % of sixty reals
    assert json.loads(to_json(found))["video"]["intervals"]["auc"] == [low, high]


def test_intervals_of_groups_are_of_the_group() -> None:
    found = summary(sample(3, 200), resamples=50)["video"]["per_method"]
    for values in found.values():
        low, high = values["intervals"]["auc"]
        assert low < values["auc"] < high


def test_cross_auc_shows_a_detector_of_data_sets() -> None:
    # It scores one data set 4 higher than the other, and fakes 2 higher than reals.
    rows, scores = [], []
    for name, level in (("a", 0.0), ("b", 4.0)):
        for i in range(20):
            rows.append(FaceRecord(f"{name}{i}.png", i % 2, name, f"v{i}"))
            scores.append(level + 2 * (i % 2) + i / 100)
    table = ScoreTable.from_records(rows, scores)
    found = cross_auc(table.videos())
    assert found["a"]["a"] == found["b"]["b"] == 1
    assert found["a"]["b"] == 1
    assert found["b"]["a"] == 0
    text = to_markdown(summary(table))
    assert "| b | 0.0000 | 1.0000 |" in text


def test_groups_worst_first_and_unknown_columns() -> None:
    table = sample(5, 100)
    rows = table.rows.with_columns(
        identity=pl.when(pl.col("path").str.contains(r"[0-4]_\d")).then(pl.lit("ann")).otherwise(None)
    )
    worse = pl.when(pl.col("identity") == "ann").then(-pl.col("score")).otherwise(pl.col("score"))
    table = replace(table, rows=rows.with_columns(score=worse))
    text = to_markdown(summary(table, by=["identity"]))
    assert text.index("| video | identity ann |") < text.index("| video | identity (none) |")
    with pytest.raises(InputError, match="--by skin: no such column"):
        summary(table, by=["skin"])


def test_one_class_says_so_and_a_stamp_comes_first() -> None:
    table = ScoreTable.from_records([FaceRecord("a.png", 1, video="a")], [1.0])
    text = to_markdown(summary(replace(table, card={STAMP: "NOT A TEST: 1 of 1 videos trained it"})))
    assert text.startswith("**NOT A TEST")
    assert "holds no scored real row" in text


def test_command_with_validation_and_plot(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, seed in (("test", 0), ("val", 1)):
        with ScoreWriter(tmp_path / f"{name}.parquet") as writer:
            for row in sample(seed, 60).rows.collect().iter_rows(named=True):
                record = FaceRecord(row["path"], row["label"], "d", row["video"], row["frame"])
                writer.add(record, row["score"])
    words = [
        "evaluate",
        "--scores",
        str(tmp_path / "test.parquet"),
        "--validation",
        str(tmp_path / "val.parquet"),
    ]
    plot = tmp_path / "r.svg"
    assert main([*words, "--plot", str(plot), "--resamples", "20", "--aggregate", "top1"]) == 0
    said = capsys.readouterr().out
    assert "| best on validation |" in said
    assert "aggregation: top1" in said
    assert plot.read_text().count("<polyline") == 3
    assert main([*words, "--json", "--resamples", "0"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["operating_points"]["even chance"]["threshold"] == 0
    assert "intervals" not in found["video"]


def test_probabilities_are_those_of_the_log_odds() -> None:
    known = sample(0, 200).videos()
    score, label = known["score"].to_numpy(), known["label"].to_numpy()
    ours = Isotonic.fit(score, label)
    np.testing.assert_allclose(expit(ours.log_odds(score)), ours.probabilities(score), atol=1e-12)


def test_the_title_of_a_single_panel_fits() -> None:
    title = "People recognised by a linear layer on frozen features"
    drawn = panels({"a": []}, title=title, x=(0, 1), y=(0, 1), x_ticks=(), y_ticks=(), x_label="")
    assert int(re.findall(r'width="(\d+)"', drawn)[0]) > 14 + 7 * len(title)  # 13 px semi-bold
