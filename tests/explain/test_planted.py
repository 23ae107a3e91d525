"""An artifact planted at a known place: heat maps, boxes and residuals must point there."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.explain.planted import PATCH, Small, checkered, smooth
from unseen.evaluate.boxes import overlaps
from unseen.explain.evidence import Seen, explain_views, summarize
from unseen.explain.views import View
from unseen.methods.caddm import ArtifactDetector
from unseen.methods.rffr import ResidualBackbone
from unseen.models.backbone import Backbone
from unseen.models.detector import Detector
from unseen.models.heads import BinaryHead
from unseen.models.inpainter import FaceInpainter
from unseen.types import FaceBatch, FaceRecord, Label

pytestmark = pytest.mark.slow


def faces(label: np.ndarray, rng: np.random.Generator, side: int) -> tuple[torch.Tensor, np.ndarray]:
    return checkered(smooth(rng.uniform(0.3, 0.7, (len(label), 3, 3, 3)), side, rng), label, rng)


def views(side: int, count: int = 24) -> list[View]:
    image, boxes = faces(np.ones(count), np.random.default_rng(9), side)
    found = []
    for number, (face, box) in enumerate(zip(image, boxes.astype(int), strict=True)):
        picture = (face.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
        mask = np.zeros((side, side), np.float32)
        mask[box[1] : box[3], box[0] : box[2]] = 1
        record = FaceRecord(f"{number}", Label.FAKE, method="planted")
        found.append(View(f"{number}", picture, picture, np.eye(2, 3), record, None, mask))
    return found


def pointing(seen: list[Seen], kind: str) -> tuple[float, float]:
    row = next(row for row in summarize(seen) if (row.kind, row.method) == (kind, "planted"))
    assert row.faces == len(seen) and row.pointing is not None and row.iou is not None
    return row.pointing, row.iou


def learned(detector: Detector, steps: int) -> Detector:
    """Trains for seconds on faces with a patch at a known place, and faces without."""
    rng, label = np.random.default_rng(0), np.tile([0, 1], 8)
    optimizer = torch.optim.Adam(detector.parameters(), lr=5e-3)
    for _ in range(steps):
        image, boxes = faces(label, rng, 56)
        regions = [torch.from_numpy(boxes[i : i + y]) for i, y in enumerate(label)]
        terms = detector.losses(FaceBatch(image, torch.from_numpy(label), regions=regions))
        optimizer.zero_grad()
        sum(terms.values()).backward()  # type: ignore[union-attr]
        optimizer.step()
    return detector.eval()


def test_the_heat_map_finds_a_planted_patch() -> None:
    """The patch covers 8 % of the picture: an arbitrary map would point to it in 8 % of the faces."""
    torch.manual_seed(0)
    seen = explain_views(learned(Detector(Small(), BinaryHead), 100), views(56), ["gradcam"], steps=8)
    assert np.mean([one.score > 0 for one in seen]) > 0.9
    places, overlap = pointing(seen, "gradcam")
    assert places >= 0.9 and overlap >= 0.35
    # Erasing what is hot takes the score of fake away sooner than erasing at random, and showing brings it.
    row = summarize(seen)[0]
    assert row.deletion is not None and row.deletion_random is not None
    assert row.deletion < row.deletion_random - 0.1
    assert row.insertion is not None and row.insertion_random is not None
    assert row.insertion > row.insertion_random


def test_boxes_find_a_planted_patch() -> None:
    torch.manual_seed(0)

    def finder(backbone: Backbone) -> ArtifactDetector:
        return ArtifactDetector(backbone, channels=16, weight=1.0)

    seen = explain_views(learned(Detector(Small(), BinaryHead, [finder]), 120), views(56), ["regions"])
    # The whole picture is a region of every fake in CADDM; the box that is left lies on the patch.
    overlap = []
    for one in seen:
        (told,) = one.found["regions"]
        assert told.boxes is not None and one.view.mask is not None
        small = told.boxes[(told.boxes[:, 2:] - told.boxes[:, :2]).prod(1) < 0.8 * 56 * 56]
        rows, columns = np.nonzero(one.view.mask)
        planted = np.array([[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]])
        overlap.append(overlaps(small[:1], planted)[0, 0] if len(small) else 0.0)
    assert np.mean(overlap) >= 0.55


def test_the_residual_of_an_inpainter_that_knows_smooth_faces_shows_a_planted_patch() -> None:
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    inpainter = FaceInpainter("tiny", image_size=64, patch=8, blocks=2)
    steps = torch.optim.Adam(inpainter.parameters(), lr=1e-3)
    for _ in range(60):
        image, _ = faces(np.zeros(8), rng, 64)
        steps.zero_grad()
        sum(inpainter.losses(FaceBatch(image, torch.zeros(8, dtype=torch.int64))).values()).backward()  # type: ignore[union-attr]
        steps.step()
    backbone = ResidualBackbone(inpainter, name="test_vit", blocks=2)
    seen = explain_views(Detector(backbone, BinaryHead).eval(), views(64, 16), ["residual"])
    places, overlap = pointing(seen, "residual")
    assert places >= 0.8 and overlap >= 0.3
    assert PATCH**2 / 64**2 < 0.07  # by chance
