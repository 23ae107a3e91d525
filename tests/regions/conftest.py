"""Two trained detectors of different kind and input size, and faces for them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.train.faces import faces_file, tiny
from unseen.checkpoint import Run, load_run, save_run
from unseen.recipe import read_recipe

__all__ = ["faces_file", "tiny"]


@pytest.fixture
def zoo(tiny: Callable[..., dict], tmp_path: Path) -> list[Run]:
    """Runs whose weights are random: where they look does not matter, that they differ does."""
    runs = []
    for name, size, align in (
        ("test_efficientnet", 64, {"size": 64}),
        ("test_resnet", 96, {"size": 96, "template": "dlib"}),
    ):
        torch.manual_seed(4 + len(runs))
        settings = tiny()
        settings["detector"]["backbone"]["init_args"] = {"name": name, "image_size": size}
        settings["data"]["transforms"] = [{"class_path": "AlignFace", "init_args": align}, "Flip"]
        recipe = read_recipe(settings)
        runs.append(load_run(save_run(tmp_path / f"run_{name}", recipe.detector(), recipe)))
    return runs
