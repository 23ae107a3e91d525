"""Weights that others trained, to a run folder that every verb takes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unseen.checkpoint import save_run
from unseen.models.deepfakebench import architecture, to_ours
from unseen.recipe import read_recipe
from unseen.run_files import LIST, digest
from unseen.types import InputError

__all__ = ["adopt_deepfakebench", "read_weights"]

_BACKBONES = {
    "xception": {
        "class_path": "TimmBackbone",
        "init_args": {
            "name": "legacy_xception", "image_size": 256, "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5],
        },
    },
    "efficientnetb4": {"class_path": "FixedPaddingB4", "init_args": {"image_size": 256}},
}  # fmt: skip


def adopt_deepfakebench(weights: Path | str, out: Path | str) -> Path:
    """Make a run folder of DeepfakeBench's Xception or EfficientNet-B4.

    The crop is its own: five points to the ArcFace template, 1.3 times wider, 256 pixels. Scores are not
    calibrated; run `unseen evaluate` on faces that you know.

    Args:
        weights: Its `.pth`; read without executing anything in it.
        out: The run folder; must not hold a run yet.

    Returns:
        The folder.

    Raises:
        InputError: No such file, not weights only, another network, or a run is there already.
    """
    weights, out = Path(weights), Path(out)
    if (out / LIST).exists():
        raise InputError(f"{out}: already holds a run; give another folder", reason="exists")
    state = read_weights(weights)
    kind = architecture(state)
    settings = {
        "detector": {"backbone": _BACKBONES[kind], "head": {"class_path": "BinaryHead"}},
        "data": {
            "transforms": [{"class_path": "AlignFace", "init_args": {"size": 256, "template": "arcface"}}]
        },
    }
    recipe = read_recipe(settings)
    detector = recipe.detector(pretrained=False)
    try:
        ours = to_ours(state, detector.state_dict())
        detector.load_state_dict({**detector.state_dict(), **ours})  # mean and std are the recipe's
    except RuntimeError as error:
        raise InputError(f"{weights}: {' '.join(str(error).split())[:300]}", reason="architecture") from error
    except InputError as error:
        raise InputError(f"{weights}: {error}", reason=error.reason) from error
    card = (
        f"# {out.name}\n\nDeepfakeBench's {kind}, imported from `{weights.name}` "
        f"(SHA-256 {digest(weights)}). "
        "What it was trained on, its publisher says; its licence is CC BY-NC 4.0. Not calibrated.\n"
    )
    return save_run(out, detector.eval(), recipe, card=card, data={"imported": "DeepfakeBench", "kind": kind})


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read a `.pth` or `.safetensors` file of tensors; nothing in it is executed.

    Raises:
        InputError: It is missing, cut short, or holds anything but tensors.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file", reason="missing")
    state: Any
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state = load_file(path)
        else:
            state = torch.load(path, "cpu", weights_only=True)
    except Exception as error:  # each library has errors of its own for a broken file
        # torch goes on with advice to read it unsafely.
        said = " ".join(str(error).split()).split(". ")[0][:200]
        raise InputError(
            f"{path}: cannot be read as plain weights ({said}); a file with "
            "Python objects is refused: save its state dict alone",
            reason="unreadable",
        ) from error
    for key in ("state_dict", "model", "network"):
        if isinstance(state, Mapping) and isinstance(state.get(key), Mapping):
            state = state[key]
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise InputError(f"{path}: expected a mapping of names to tensors", reason="unreadable")
    return dict(state)
