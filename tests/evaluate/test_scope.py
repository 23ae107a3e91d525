"""What a calibration knows of its people's pictures."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from unseen.evaluate.calibration import Calibration
from unseen.evaluate.scope import SIDES, Scope, medians
from unseen.media.quality import Quality, blockiness, quality_of
from unseen.types import InputError


def quality(size: float) -> Quality:
    return Quality(size, 200.0, 0.05, 0.05, 10.0)


def test_p_values_count_people_by_hand() -> None:
    # Person 0 has two crops (10, 30), whose median is 20; persons 1 to 98 have 21 to 118.
    crops = [("0", quality(10)), ("0", quality(30)), *((str(i), quality(20 + i)) for i in range(1, 99))]
    scope = Scope.fit(crops)
    assert scope is not None and scope.people == 99
    assert scope.p_value("size", "low", 5) == pytest.approx(1 / 100)
    assert scope.p_value("size", "low", 20) == pytest.approx(2 / 100)
    assert scope.p_value("size", "high", 118) == pytest.approx(2 / 100)
    assert scope.p_value("size", "high", 0) == 1
    assert [r.measure for r in scope.rare({"size": 5.0})] == ["size"]
    assert scope.rare({"size": 20.0}) == []


def test_few_people_say_nothing() -> None:
    assert Scope.fit([]) is None
    few = Scope.fit((str(i), quality(100 + i)) for i in range(18))
    assert few is not None and few.rare({"size": 1.0}) == []
    enough = Scope.fit((str(i), quality(100 + i)) for i in range(19))
    assert enough is not None and len(enough.rare({"size": 1.0})) == 1


def test_ordinary_faces_are_seldom_unlike() -> None:
    rng = np.random.default_rng(0)
    scope = Scope.fit((str(i), Quality(*rng.lognormal(3, 0.5, 5))) for i in range(3000))
    assert scope is not None and max(map(len, scope.measures.values())) == 512
    new = [dict(zip(scope.measures, rng.lognormal(3, 0.5, 5), strict=True)) for _ in range(2000)]
    share = np.mean([bool(scope.rare(values)) for values in new])
    assert 0.02 < share < 0.08  # at most 1 % of each of six sides


def test_it_travels_in_the_calibration(tmp_path) -> None:
    scope = Scope.fit((str(i), quality(100 + i)) for i in range(30))
    plain = Calibration.fit([0, 1, 2, 3], [0, 0, 1, 1])
    from dataclasses import replace

    text = replace(plain, scope=scope).to_json()
    again = Calibration.from_json(text)
    assert again.scope == scope and again.to_json() == text
    old = text.replace('"version": 2', '"version": 1')
    with pytest.raises(InputError, match="scope"):
        Calibration.from_json(text.replace('"people": 30', '"people": 3'))
    assert Calibration.from_json(old).scope is None


def test_measures_tell_what_they_are_for(portrait: np.ndarray) -> None:
    face = np.ascontiguousarray(portrait[20:420, 60:460])
    points = np.stack(np.meshgrid(np.linspace(80, 320, 9), np.linspace(60, 340, 9)), -1).reshape(81, 2)
    plain = quality_of(face, points)
    _, code = cv2.imencode(".jpg", face, [cv2.IMWRITE_JPEG_QUALITY, 15])
    blocky = quality_of(cv2.imdecode(code, 1), points)
    soft = quality_of(cv2.GaussianBlur(face, (0, 0), 4), points)
    poster = quality_of(cv2.medianBlur(face, 7) // 51 * 51, points)
    assert plain is not None and blocky is not None and soft is not None and poster is not None
    assert plain.size == 280
    assert blocky.blocks > 4 * max(plain.blocks, 0.1)
    assert soft.sharpness < plain.sharpness / 3
    assert poster.flat > 3 * plain.flat and poster.drawn > 3 * plain.drawn
    assert quality_of(face, np.full((81, 2), np.nan)) is None
    assert quality_of(face, np.full((81, 2), 7.0)) is not None  # a face of one pixel is measured, not a crash
    for measure, side, text in SIDES:
        assert measure in medians([plain]) and side in ("low", "high") and text


def test_a_grid_is_found_wherever_it_starts() -> None:
    rng = np.random.default_rng(1)
    noise = rng.integers(100, 110, (80, 80)).astype(np.uint8)
    grid = noise.copy()
    grid[3::8] += 30
    grid[:, 5::8] += 30
    assert blockiness(noise) < 0.3 < blockiness(grid)
    lines = noise.copy()
    lines[3::8] += 30  # one direction alone is no grid
    assert blockiness(lines) < 0.3
