"""Forged regions that a detector finds: in the frame's pixels, in JSON, and drawn in the report."""

from __future__ import annotations

import json
import math
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from tests.detect.conftest import CARD, calibration
from unseen.checkpoint import save_run
from unseen.data.transforms import AlignFace
from unseen.detect.engine import read_transforms
from unseen.detect.inspector import Inspector
from unseen.detect.report import report
from unseen.detect.verdict import Evidence, Verdict
from unseen.explain.boxes import suppress
from unseen.explain.draw import draw_region
from unseen.methods.caddm import ArtifactDetector
from unseen.models.anchors import anchors
from unseen.recipe import read_recipe

RECIPE = {
    "detector": {
        "backbone": {"class_path": "TimmBackbone", "init_args": {"name": "test_resnet", "image_size": 224}},
        "parts": [{"class_path": "ArtifactDetector", "init_args": {"channels": 8}}],
        "head": "BinaryHead",
    },
    "data": {"transforms": [{"class_path": "AlignFace", "init_args": {"size": 224, "template": "caddm"}}]},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that takes the whole picture (certainty 0.88) and the wide anchors of 3 x 3 (0.73) for forged."""
    torch.manual_seed(0)
    recipe = read_recipe(RECIPE)
    detector = recipe.detector(pretrained=False)
    part = detector.parts[0]
    assert isinstance(part, ArtifactDetector)
    for heads in (part.boxes, part.classes):
        for head in heads:
            torch.nn.init.zeros_(head.weight)  # type: ignore[arg-type]
            torch.nn.init.zeros_(head.bias)  # type: ignore[arg-type]
    with torch.no_grad():
        for head in part.classes:
            head.bias[[0, 2]] = 9.0  # type: ignore[index]
        part.classes[3].bias[:] = torch.tensor([0.0, 2.0, 0.0, 2.0])  # type: ignore[index]
        part.classes[2].bias[:] = torch.tensor([9.0, 0.0, 0.0, 1.0])  # type: ignore[index]
    folder = tmp_path_factory.mktemp("runs") / "caddm"
    return save_run(folder, detector, recipe, calibration=calibration(60.0, 60.0), card=CARD, graph=True)


@pytest.fixture(scope="module")
def verdict(run: Path, portrait_file: Path) -> Verdict:
    return Inspector(run).inspect(portrait_file)


def into(piece: Evidence, corners: np.ndarray) -> np.ndarray:
    matrix = np.array(piece.matrix)
    return corners @ matrix[:, :2].T + matrix[:, 2]


def test_regions_are_the_boxes_brought_to_the_frame(verdict: Verdict) -> None:
    piece = verdict.evidence[0]
    assert piece.regions is not None and len(piece.regions) == 5
    whole, *others = piece.regions
    assert whole.score == pytest.approx(1 / (1 + math.exp(-2)), abs=1e-3)
    wanted = np.array([[0, 0], [224, 0], [224, 224], [0, 224]])
    np.testing.assert_allclose(into(piece, np.array(whole.corners)), wanted, atol=0.05)
    # The wide anchors of 3 x 3 have 160 x 120 pixels about (37.5, 37.5) and so on; one of them, clipped, is
    # the first that no other covers.
    table = (anchors()[148:166].reshape(9, 2, 4)[:, 1] * 224).numpy()
    low, high = table[:, :2] - table[:, 2:] / 2, table[:, :2] + table[:, 2:] / 2
    boxes = np.clip(np.concatenate([low, high], 1), 0, 224)
    for region in others:
        assert region.score == pytest.approx(1 / (1 + math.exp(-1)), abs=1e-3)
        found = into(piece, np.array(region.corners))[[0, 2]].ravel()
        assert np.abs(boxes - found).max(1).min() < 0.05


def test_json_and_report_hold_them(verdict: Verdict) -> None:
    row = json.loads(json.dumps(verdict.to_dict()))["evidence"][0]
    first = row["regions"][0]
    x, y = zip(*first["corners"], strict=True)
    assert first["box"] == [min(x), min(y), max(x), max(y)] and 0.5 <= first["score"] <= 1
    page = report([verdict])
    assert "Parts taken for forged" in page
    piece = verdict.evidence[0]
    drawn = cv2.imdecode(np.frombuffer(piece.region_picture, np.uint8), cv2.IMREAD_COLOR)
    plain = cv2.imdecode(np.frombuffer(piece.face_picture, np.uint8), cv2.IMREAD_COLOR)
    assert drawn is not None and plain is not None and drawn.shape == plain.shape
    assert np.abs(drawn.astype(int) - plain).max() > 100


def test_a_detector_that_looks_for_none_says_nothing_of_regions(real_run: Path, portrait_file: Path) -> None:
    verdict = Inspector(real_run).inspect(portrait_file)
    assert verdict.evidence[0].regions is None and "regions" not in verdict.evidence[0].to_dict()
    assert "Parts taken for forged" not in report([verdict])


def test_an_alignment_inside_a_swap_is_read_without_torch(tmp_path: Path) -> None:
    """The engine that needs no torch builds transforms by itself, one within another as well."""
    align = {"class_path": "AlignFace", "init_args": {"size": 224, "template": "caddm", "rotation": 30.0}}
    swap = {"class_path": "MultiScaleSwap", "init_args": {"align": align, "half": 0.5}}
    recipe = read_recipe({**RECIPE, "data": {"transforms": [swap, "Flip"]}})
    (tmp_path / "recipe.yaml").write_text(recipe.to_yaml())
    (found,) = read_transforms(tmp_path / "recipe.yaml")
    assert isinstance(found, AlignFace) and (found.size, found.template, found.rotation) == (
        224,
        "caddm",
        0.0,
    )


def test_suppression_by_hand() -> None:
    boxes = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [50, 50, 60, 60], [-5, -5, 5, 5], [20, 20, 20, 30]])
    scores = np.array([0.9, 0.95, 0.6, 0.8, 0.99])
    # The last has no area. The first overlaps the second by 90 of 110: covered. The fourth is clipped
    # to 5 x 5 and overlaps the second by 20 of 105.
    kept, certain = suppress(boxes, scores, (100, 100))
    assert kept.tolist() == [[1, 0, 11, 10], [0, 0, 5, 5], [50, 50, 60, 60]]
    assert certain.tolist() == pytest.approx([0.95, 0.8, 0.6])
    assert len(suppress(boxes, scores, (100, 100), overlap=0.85)[0]) == 4
    assert suppress(boxes, scores, (100, 100), threshold=0.7, most=1)[0].tolist() == [[1, 0, 11, 10]]
    none, empty = suppress(boxes, scores, (100, 100), threshold=0.999)
    assert none.shape == (0, 4) and empty.shape == (0,)


def test_a_region_is_drawn_where_its_corners_are() -> None:
    grey = np.full((200, 200, 3), 128, np.uint8)
    corners = np.array([[50, 40], [150, 60], [130, 160], [30, 140]])
    drawn = draw_region(grey, corners, "88 %")
    assert (grey == 128).all() and drawn.shape == grey.shape
    for x, y in [*corners, (corners[0] + corners[1]) // 2]:
        assert (drawn[y - 2 : y + 3, x - 2 : x + 3] != 128).any()
    assert (drawn[90:110, 80:100] == 128).all()
