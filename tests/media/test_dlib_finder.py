"""The adapter with a stand-in for dlib, which is an extra; docs/faces.md measures the real one."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from unseen.media.dlib_finder import DlibFinder, five_points
from unseen.media.faces import face_finder
from unseen.types import InputError


def test_five_points_by_hand() -> None:
    points = np.stack([np.arange(68), 2 * np.arange(68)], axis=1).astype(np.float32)
    # Means of 36..41 and 42..47 are 38.5 and 44.5.
    np.testing.assert_allclose(five_points(points)[:, 0], [38.5, 44.5, 30, 48, 54])


def test_the_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dlib", None)
    with pytest.raises(InputError, match=r"unseen\[dlib\]") as caught:
        face_finder("dlib")
    assert caught.value.reason == "missing_extra"


def test_dlib_faces_become_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    def rectangle(x0: int, y0: int, x1: int, y1: int) -> SimpleNamespace:
        return SimpleNamespace(left=lambda: x0, top=lambda: y0, right=lambda: x1, bottom=lambda: y1)

    small, large = rectangle(0, 0, 10, 10), rectangle(20, 20, 60, 60)
    detector = SimpleNamespace(run=lambda image, upsample, least: ([small, large], [0.0, 2.0], [0, 0]))
    shape = SimpleNamespace(part=lambda i: SimpleNamespace(x=i, y=100 - i))
    dlib = ModuleType("dlib")
    dlib.get_frontal_face_detector = lambda: detector  # type: ignore[attr-defined]
    dlib.shape_predictor = lambda path: lambda image, box: shape  # type: ignore[attr-defined]
    models = ModuleType("face_recognition_models")
    models.pose_predictor_model_location = lambda: "68.dat"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "dlib", dlib)
    monkeypatch.setitem(sys.modules, "face_recognition_models", models)
    with pytest.warns(UserWarning, match="13 on the forehead are NaN"):
        finder = DlibFinder()
    first, second = finder(np.zeros((80, 80, 3), np.uint8))
    assert first.box.tolist() == [20, 20, 60, 60] and second.box.tolist() == [0, 0, 10, 10]
    assert second.score == 0.5 and first.score == pytest.approx(0.8808, abs=1e-4)
    assert first.landmarks[67].tolist() == [67, 33] and np.isnan(first.landmarks[68:]).all()
