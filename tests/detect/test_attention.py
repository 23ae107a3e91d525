"""A detector's own maps, such as DID's attentions, are drawn on the face in the report."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch

from tests.detect.conftest import CARD, RECIPE, calibration
from unseen.checkpoint import save_run
from unseen.detect.inspector import Inspector
from unseen.detect.report import report
from unseen.recipe import read_recipe


def test_attention_is_drawn_on_the_face(portrait_file: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    parts = [{"class_path": "Decomposition", "init_args": {"domains": 3}}]
    recipe = read_recipe(RECIPE | {"detector": RECIPE["detector"] | {"parts": parts}})
    detector = recipe.detector(pretrained=False)
    run = save_run(tmp_path / "did", detector, recipe, calibration=calibration(60.0, 60.0), card=CARD)
    verdict = Inspector(run).inspect(portrait_file)
    piece = verdict.evidence[0]
    assert [kind for kind, _ in piece.explanations] == ["forgery attention", "domain attention"]
    plain = cv2.imdecode(np.frombuffer(piece.face_picture, np.uint8), cv2.IMREAD_COLOR)
    for _, data in piece.explanations:
        drawn = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        assert drawn.shape == plain.shape and np.abs(drawn.astype(int) - plain).max() > 60
        assert (
            np.abs(drawn[:3].astype(int) - plain[:3]).max() < 40
        )  # outside the network's view nothing changes
    page = report([verdict])
    assert "What goes to the verdict" in page and "What tells the method" in page
