"""The verdict's own rules: strict JSON, the most suspicious person decides, warnings."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest

from unseen.detect.findings import combine, people_of, starved, strange
from unseen.detect.seeing import Look
from unseen.detect.verdict import MEANING, REASONS, Person, Sighting, Verdict, plain

from .conftest import calibration


def seen(*scores: float | None) -> Look:
    sightings = [
        Sighting(
            0, 0.0, (0, 0, 1, 1), "scored" if s is not None else "dropped", None if s else "face_too_small", s
        )
        for s in scores
    ]
    return Look(0, 0.0, [], sightings)


def test_no_nan_in_json() -> None:
    assert plain({"a": float("nan"), "b": np.float32(1.5), "c": (np.inf, np.int64(2)), "d": np.zeros(2)}) == {
        "a": None,
        "b": 1.5,
        "c": [None, 2],
        "d": [0.0, 0.0],
    }
    verdict = Verdict("x", "real", "below_threshold", probability=float("nan"), media={"fps": float("inf")})
    facts = json.loads(verdict.to_json())
    assert facts["probability"] is None
    assert facts["media"]["fps"] is None


def test_a_person_is_the_mean_of_the_frames_that_count() -> None:
    looks = [seen(1.0), seen(None), seen(4.0)]
    (person,) = people_of(looks, [[(0, 0), (1, 0), (2, 0)]], calibration(2.0, 0.0))
    assert person.score == 2.5
    assert person.verdict == "fake"
    assert person.probability == pytest.approx(1 / (1 + np.exp(-2.5)))
    assert len(person.scored) == 2


def test_the_most_suspicious_person_decides() -> None:
    looks = [seen(-3.0, 3.0, None, 1.0)]
    people = people_of(looks, [[(0, j)] for j in range(4)], calibration(2.0, 0.0))
    assert [p.verdict for p in people] == ["real", "fake", "not_applicable", "inconclusive"]
    state, reason, worst = combine(people)
    assert (state, reason) == ("fake", "above_threshold")
    assert worst is people[1]
    assert combine([people[0], people[3]])[0] == "inconclusive"
    assert combine([people[0], people[2]])[0] == "real"
    assert combine([people[2]]) == ("not_applicable", "face_too_small", None)
    assert combine([]) == ("not_applicable", "no_face", None)


def test_scores_from_another_world_are_told() -> None:
    known = calibration(2.0, 0.0)  # real people from -50 to 49.9
    inside, outside = (Person(i, "real", "", [], score=score) for i, score in ((1, 60.0), (2, -200.0)))
    assert strange([inside], known) == []
    (text,) = strange([inside, outside], known)
    assert "person 2" in text


def test_starved_files_are_told(tmp_path) -> None:
    path = tmp_path / "x"
    path.write_bytes(bytes(1000))
    media = {"path": path, "kind": "video", "fps": 10.0, "duration": 10.0, "height": 100}
    assert starved(SimpleNamespace(**media, width=100))  # 8000 bits for a million pixels
    assert not starved(SimpleNamespace(**media, width=1))


def test_every_state_and_reason_has_words() -> None:
    assert all(len(pair) == 2 and all(pair) for pair in MEANING.values())
    assert all(text.endswith(".") for text in REASONS.values())
