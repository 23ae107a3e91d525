"""Calibration: what it promises, by simulation and by hand."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from scipy.special import expit

from unseen.evaluate.calibration import Calibration
from unseen.evaluate.conformal import conformal_threshold, people_of
from unseen.evaluate.metrics import ece
from unseen.evaluate.scores import ScoreTable
from unseen.types import FaceRecord, InputError


def simple(n: int = 200, seed: int = 0, gap: float = 3.0) -> Calibration:
    rng = np.random.default_rng(seed)
    score = np.concatenate([rng.normal(-gap / 2, 1, n), rng.normal(gap / 2, 1, n)])
    return Calibration.fit(score, np.repeat([0, 1], n), [f"p{i}" for i in range(2 * n)], made_from="val")


@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
def test_temperature_recovers_the_one_that_distorted_the_logits(temperature):
    rng = np.random.default_rng(1)
    true = rng.normal(0, 2, 40_000)
    label = (rng.random(true.size) < expit(true)).astype(int)
    found = Calibration.fit(true * temperature, label, np.arange(true.size))
    assert found.temperature == pytest.approx(temperature, rel=0.04)
    assert found.bias == 0.0
    calibrated = found.probabilities(true * temperature)
    assert ece(np.log(calibrated / (1 - calibrated)), label) < 0.012


def test_bias_recovers_an_offset():
    rng = np.random.default_rng(2)
    true = rng.normal(0, 2, 40_000)
    label = (rng.random(true.size) < expit(true)).astype(int)
    found = Calibration.fit(2 * true - 3, label, np.arange(true.size), bias=True)
    assert found.temperature == pytest.approx(2, rel=0.05)
    assert found.bias == pytest.approx(1.5, abs=0.06)


def test_the_ratio_of_the_classes_does_not_move_the_probability():
    rng = np.random.default_rng(3)
    real, fake = rng.normal(-1, 1, 4000), rng.normal(1, 1, 4000)
    many = Calibration.fit(np.r_[real, fake], np.repeat([0, 1], 4000), bias=True)
    few = Calibration.fit(np.r_[real, fake[:400]], np.repeat([0, 1], [4000, 400]), bias=True)
    assert few.probability(0.5) == pytest.approx(many.probability(0.5), abs=0.03)


def test_perfectly_separated_scores_do_not_make_it_certain():
    found = Calibration.fit(np.r_[-np.ones(8), np.ones(8)], np.repeat([0, 1], 8))
    assert found.probability(1.0) == pytest.approx(9 / 10, abs=1e-4)  # (n + 1) / (n + 2), Platt
    assert math.isfinite(found.temperature)


def test_conformal_threshold_by_hand():
    score, weight = np.arange(1.0, 20.0), np.ones(19)  # 19 people: the smallest rate is 1/20
    assert conformal_threshold(score, weight, 0.049) is None
    # Above 19: p = 1/20. Above 18: p = 2/20.
    assert conformal_threshold(score, weight, 0.05) == np.nextafter(19.0, np.inf)
    assert conformal_threshold(score, weight, 0.1) == np.nextafter(18.0, np.inf)
    assert conformal_threshold(score, weight, 0.149) == np.nextafter(18.0, np.inf)
    # The two best as two videos of one person: 18 people; 0.5 a video.
    weight[-2:] = 0.5
    assert conformal_threshold(score, weight, 0.1) == np.nextafter(18.0, np.inf)  # (1 + .5) / 19 <= .1
    assert conformal_threshold(score, weight, 0.07) == np.nextafter(19.0, np.inf)  # (1 + .5) / 19 > .07


def test_p_values_by_hand_and_thresholds_agree_with_them():
    score = np.r_[np.arange(1.0, 20.0), [50.0, 60.0]]
    found = Calibration.fit(score, np.r_[np.zeros(19, int), 1, 1], rate=0.05)
    assert found.p_value(19.5) == pytest.approx(1 / 20)
    assert found.p_value(19.0) == pytest.approx(2 / 20)
    assert found.p_value(0.0) == 1.0
    assert found.p_value(10.5) == pytest.approx(10 / 20)
    for s in np.linspace(0, 25, 501):
        for rate in found.thresholds:
            assert (s >= found.threshold(rate)) == (found.p_value(s) <= float(rate) + 1e-12)


def test_the_false_alarm_promise_holds_for_new_people_whatever_the_scores():
    """People have levels of their own and 1 to 9 videos each; a new person shows one video."""
    rng = np.random.default_rng(4)
    alarms: dict[float, list[bool]] = {0.05: [], 0.1: []}
    for _ in range(800):
        videos = rng.integers(1, 10, 61)
        person = np.repeat(np.arange(60), videos[:60])
        # Who has many videos scores low: counting videos would put the threshold too low for the others.
        level = rng.standard_t(2, 61) - 0.3 * videos
        score = level[person] + rng.normal(0, 0.3, person.size)
        new = level[60] + rng.normal(0, 0.3)
        people = people_of(score, np.zeros(score.size, np.int64), person, None)
        for rate, seen in alarms.items():
            seen.append(new >= conformal_threshold(people.score, people.weight, rate))
    for rate, seen in alarms.items():
        assert np.mean(seen) <= rate + 2.5 * math.sqrt(rate / len(seen)), rate
        assert np.mean(seen) >= rate / 2.5, rate  # and is not bought by never alarming


@pytest.mark.parametrize("n", [99, 150, 500])
def test_one_per_cent_is_kept_from_99_people_on(n):
    rng = np.random.default_rng(n)
    score = rng.normal(size=n)
    found = Calibration.fit(np.r_[score, 3.0], np.r_[np.zeros(n, int), 1])
    assert found.default == "0.01"
    assert found.threshold() == conformal_threshold(score, np.ones(n), 0.01)
    # The exact false-alarm rate of such a threshold for standard normal scores.
    drawn = [conformal_threshold(rng.normal(size=n), np.ones(n), 0.01) for _ in range(1000)]
    rate = np.mean([0.5 * math.erfc(t / math.sqrt(2)) for t in drawn])
    assert 0.01 / 2.5 <= rate <= 0.01 * 1.1


def test_with_few_people_the_smallest_promise_is_taken_and_said():
    score = np.r_[np.linspace(-3, 0, 6), np.linspace(1, 3, 6)]
    found = Calibration.fit(score, np.repeat([0, 1], 6))
    assert found.default == "0.1429"  # 1 / 7, rounded up
    assert list(found.thresholds) == ["0.1429"]
    assert found.threshold() == np.nextafter(0.0, 1.0)
    assert found.p_value(found.threshold()) <= float(found.default)
    assert "takes 99 real people and there were 6" in found.threshold_rule
    with pytest.raises(InputError, match=r"0\.01.*there are 0\.1429"):
        found.threshold("0.01")


def test_many_frames_of_one_person_count_once():
    rng = np.random.default_rng(5)
    real, fake = rng.normal(-1, 1, 120), rng.normal(1, 1, 120)
    label = np.repeat([0, 1], 120)
    person = np.array([f"p{i}" for i in range(240)])
    once = Calibration.fit(np.r_[real, fake], label, person, person)
    # The first person's one video 500 times over.
    many = Calibration.fit(
        np.r_[np.repeat(real[0], 499), real, fake],
        np.r_[np.zeros(499, int), label],
        np.r_[np.repeat("p0", 499), person],
        np.r_[np.repeat("p0", 499), person],
    )
    assert many.n_real_people == once.n_real_people == 120
    assert many.n_real == 120
    assert many.temperature == pytest.approx(once.temperature, abs=1e-9)
    np.testing.assert_allclose(many.real_scores, once.real_scores)
    assert many.thresholds == pytest.approx(once.thresholds)
    # As 500 videos they share one weight.
    apart = Calibration.fit(
        np.r_[np.repeat(real[0], 499), real, fake],
        np.r_[np.zeros(499, int), label],
        np.r_[np.repeat("p0", 499), person],
    )
    assert apart.n_real_people == 120
    assert apart.n_real == 619
    assert apart.p_value(0.3) == pytest.approx(once.p_value(0.3))


def test_decision_bands():
    overlap = simple(gap=2.0)
    fake_from, real_below = overlap.threshold(), overlap.real_threshold
    assert real_below < fake_from
    assert overlap.decide(fake_from) == ("fake", "above_threshold")
    assert overlap.decide(np.nextafter(fake_from, -9)) == ("inconclusive", "in_band")
    assert overlap.decide(real_below) == ("inconclusive", "in_band")
    assert overlap.decide(np.nextafter(real_below, -9)) == ("real", "below_threshold")
    assert "inconclusive between" in overlap.threshold_rule
    assert "200 real validation people" in overlap.threshold_rule

    apart = simple(gap=12.0)
    assert apart.real_threshold > apart.threshold()
    assert apart.decide(np.nextafter(apart.threshold(), -9))[0] == "real"
    assert "inconclusive" not in apart.threshold_rule
    with pytest.raises(InputError, match="NaN"):
        apart.decide(float("nan"))


def test_at_most_the_stated_share_of_new_forgeries_is_called_real():
    shares = []
    for seed in range(60):
        found = simple(60, seed, gap=2.0)
        shares.append(0.5 * math.erfc((1.0 - found.real_threshold) / math.sqrt(2)))
    assert 0.05 < np.mean(shares) <= 0.10 * 1.1


def test_a_table_counts_people_of_each_data_set_and_skips_what_has_no_score():
    records, scores = [], []
    for i in range(30):
        for frame in range(3):
            label = i % 2
            records.append(
                FaceRecord(f"{i}_{frame}.png", label, f"d{i // 2 % 2}", f"v{i}", frame, identity=f"p{i // 4}")
            )
            scores.append(None if frame == 2 else 2.0 * label - 1 + 0.01 * i + frame)
    found = Calibration.from_table(ScoreTable.from_records(records, scores))
    assert (found.n_real, found.n_fake) == (15, 15)
    # Videos 0 and 2 are p0 in data sets d0 and d1: two people.
    assert (found.n_real_people, found.n_fake_people) == (15, 15)
    assert found.real_scores[0] == pytest.approx(-0.5)  # the mean of frames 0 and 1 of video 0


def test_one_class_missing_is_said_and_reversed_scores_noted():
    with pytest.raises(InputError, match="no fake face among the 3") as error:
        Calibration.fit(np.zeros(3), np.zeros(3, int))
    assert error.value.reason == "one_class"
    with pytest.raises(InputError, match="person has 2 entries and score 3"):
        Calibration.fit(np.zeros(3), np.array([0, 1, 0]), ["a", "b"])
    with pytest.raises(InputError, match="rate is 1"):
        Calibration.fit(np.zeros(3), np.array([0, 1, 0]), rate=1)
    reversed_ = Calibration.fit(np.array([3.0, 2, -2, -3]), np.array([0, 0, 1, 1]))
    assert "no higher than reals" in reversed_.threshold_rule
    assert math.isfinite(reversed_.probability(3.0))
    constant = Calibration.fit(np.ones(4), np.array([0, 0, 1, 1]))
    assert constant.probability(1.0) == pytest.approx(0.5, abs=0.01)


def test_uncalibrated_says_so(tmp_path):
    found = Calibration.uncalibrated()
    assert found.probability(0.0) == 0.5
    assert found.decide(0.1)[0] == "fake"
    assert found.decide(-0.1)[0] == "real"
    assert math.isnan(found.p_value(0.0))
    assert "no calibration" in found.threshold_rule
    assert Calibration.from_json(found.to_json()).threshold_rule == found.threshold_rule


def test_thinned_scores_never_lower_a_p_value():
    rng = np.random.default_rng(7)
    score = rng.normal(size=10_000)
    found = Calibration.fit(np.r_[score, 9.0], np.r_[np.zeros(score.size, int), 1])
    assert len(found.real_scores) == 4096
    for s in np.linspace(-4, 4, 101):
        exact = (1 + np.sum(score >= s)) / 10_001
        assert exact - 1e-12 <= found.p_value(s) <= exact + 3 / 10_001


def test_json_round_trip_is_exact(tmp_path):
    found = simple()
    path = tmp_path / "calibration.json"
    text = found.to_json(path)
    for again in (Calibration.from_json(path), Calibration.from_json(str(path)), Calibration.from_json(text)):
        assert again.to_json() == text
        assert again.decide(again.threshold()) == ("fake", "above_threshold")
        assert again.threshold_rule == found.threshold_rule
    assert json.loads(text)["version"] == 2


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("temperature", -1.0),
        ("temperature", "warm"),
        ("bias", None),
        ("bias", True),
        ("version", 7),
        ("default", "0.5"),
        ("thresholds", {"0.01": "x"}),
        ("thresholds", {"0.01": 0.0, "0.05": 5.0}),
        ("thresholds", {"low": 0.0, "0.01": 1.0}),
        ("real_scores", [1.0, 0.0]),
        ("real_scores", "none"),
        ("real_weights", [1.0]),
        ("n_real_people", 3),
        ("n_real_people", -1),
        ("n_fake", 1.5),
        ("miss_rate", 2.0),
        ("made_from", 5),
        ("notes", [1]),
    ],
)
def test_tampered_json_names_file_and_key(tmp_path, key, value):
    path = tmp_path / "calibration.json"
    values = json.loads(simple().to_json())
    values[key] = value
    path.write_text(json.dumps(values))
    named = (
        "real_weights"
        if key in ("real_scores", "n_real_people") and value not in ("none", -1, [1.0, 0.0])
        else key
    )
    with pytest.raises(InputError, match=rf"calibration\.json: `{named}` is"):
        Calibration.from_json(path)


def test_missing_unknown_and_broken(tmp_path):
    path = tmp_path / "calibration.json"
    values = json.loads(simple().to_json())
    for text, said in [
        (json.dumps({k: v for k, v in values.items() if k != "bias"}), "`bias` is missing"),
        (json.dumps(values | {"extra": 1}), "unknown key `extra`"),
        (json.dumps(values)[:-20], "not JSON"),
        ("[1]", "JSON object"),
        (json.dumps(values | {"temperature": float("nan")}), "`temperature` is nan"),
    ]:
        path.write_text(text)
        with pytest.raises(InputError, match=said) as error:
            Calibration.from_json(path)
        assert str(path) in str(error.value)
    with pytest.raises(InputError, match="no such file"):
        Calibration.from_json(tmp_path / "none.json")
