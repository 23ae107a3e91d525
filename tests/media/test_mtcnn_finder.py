"""The adapter with a stand-in for the mtcnn package, which is an extra and brings TensorFlow."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from unseen.media.faces import RetinaFaceMesh, face_finder
from unseen.types import InputError


def test_the_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mtcnn", None)
    with pytest.raises(InputError, match=r"unseen\[mtcnn\]"):
        face_finder("mtcnn")


def test_mtcnn_faces_get_mesh_landmarks(portrait: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    (face,) = RetinaFaceMesh(threads=1)(portrait)
    x0, y0, x1, y1 = face.box.tolist()
    keys = ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")
    found = {
        "box": [x0, y0, x1 - x0, y1 - y0],
        "confidence": 0.99,
        "keypoints": dict(zip(keys, face.points.tolist(), strict=True)),
    }
    detector = SimpleNamespace(detect_faces=lambda image: [{**found, "confidence": 0.5}, found])
    package = ModuleType("mtcnn")
    package.MTCNN = lambda device: detector  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mtcnn", package)
    (same,) = face_finder("mtcnn")(portrait)
    np.testing.assert_allclose(same.box, face.box, atol=1e-3)
    np.testing.assert_allclose(same.points, face.points, atol=1e-3)
    np.testing.assert_allclose(same.landmarks, face.landmarks, atol=0.5)
