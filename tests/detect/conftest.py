"""A run folder with random weights of a tiny network: states are tested, never a model's skill."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from unseen.checkpoint import save_run
from unseen.evaluate.calibration import Calibration
from unseen.recipe import read_recipe

RECIPE = {
    "detector": {
        "backbone": {"class_path": "TimmBackbone", "init_args": {"name": "test_resnet", "image_size": 96}},
        "head": "BinaryHead",
    },
    "data": {
        "transforms": [{"class_path": "AlignFace", "init_args": {"size": 96}}, {"class_path": "Flip"}],
        "sampler": {"class_path": "Balanced", "init_args": {"batch_size": 4}},
    },
}
CARD = "# Tiny\n\nA **random** network for tests; it knows nothing.\n"


def calibration(threshold: float, real_threshold: float) -> Calibration:
    """Thresholds where a test wants them, round a random network's scores near 0."""
    return Calibration(
        temperature=1.0,
        bias=0.0,
        thresholds={"0.01": threshold, "0.1": min(threshold, 0.0)},
        default="0.01",
        real_threshold=real_threshold,
        miss_rate=0.1,
        real_scores=tuple(i / 10 - 50 for i in range(1000)),
        real_weights=(1.0,) * 1000,
        n_real=1000,
        n_fake=1000,
        n_real_people=1000,
        n_fake_people=1000,
        made_from="nothing",
    )


@pytest.fixture(scope="session")
def make_run(tmp_path_factory: pytest.TempPathFactory):
    """A factory of run folders whose thresholds are as given."""

    def make(threshold: float = 60.0, real_threshold: float = 60.0, *, nan: bool = False) -> Path:
        torch.manual_seed(0)
        recipe = read_recipe(RECIPE)
        detector = recipe.detector(pretrained=False)
        if nan:
            detector.head.linear.bias.data.fill_(float("nan"))
        folder = tmp_path_factory.mktemp("runs") / "tiny"
        return save_run(
            folder, detector, recipe, calibration=calibration(threshold, real_threshold), card=CARD
        )

    return make


@pytest.fixture(scope="session")
def real_run(make_run) -> Path:
    """Calls everybody real."""
    return make_run()
