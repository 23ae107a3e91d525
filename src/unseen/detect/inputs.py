"""What both engines share: crops to network inputs, a recipe's transforms, facts of a run; no torch."""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from unseen.data.transforms import Transform, for_evaluation
from unseen.explain.draw import fit_affine
from unseen.run_files import check_file, read_facts
from unseen.types import FaceRecord, FaceSample, InputError

if TYPE_CHECKING:
    from unseen.detect.seeing import Sight

__all__ = ["build_transforms", "checked", "cores", "floats", "read_transforms", "summary", "transform"]

Images = NDArray[np.uint8]


def transform(sight: Sight, transforms: list[Transform]) -> tuple[Images, NDArray[np.float64]]:
    """Run a face through the transforms of a run; see `Engine.input_of`."""
    image = sight.image()
    record = FaceRecord(path="", landmarks=sight.landmarks)
    sample = FaceSample(image=image, label=None, record=record, landmarks=sight.landmarks)
    for step in transforms:
        sample = step(sample, np.random.default_rng(0))
    # Landmarks are moved with the picture, so they tell where each pixel came from, whatever the transforms.
    assert sample.landmarks is not None
    return np.ascontiguousarray(sample.image), fit_affine(sight.landmarks, sample.landmarks)


def checked(folder: Path) -> Mapping[str, Any]:
    """Return `run.json`, having compared every file it lists: `unseen.checkpoint.load_run` without torch."""
    facts = read_facts(folder)
    for name in facts["files"]:
        check_file(folder / Path(name).name, facts["files"])
    return facts


def read_transforms(path: Path) -> list[Transform]:
    """Build the deterministic transforms of a run's recipe; torch is not needed for these.

    Raises:
        InputError: The recipe names something that is no transform of `unseen`.
    """
    import yaml

    entries = yaml.safe_load(path.read_text("utf-8"))["data"]["transforms"] or []
    return build_transforms(entries, path)


def build_transforms(entries: Sequence[Mapping[str, Any]], path: Path) -> list[Transform]:
    """Build transforms from a recipe's entries; `path` is named in errors. See `read_transforms`."""
    return for_evaluation([_transform(entry, path) for entry in entries])


def _transform(entry: Mapping[str, Any], path: Path) -> Transform:
    module, _, name = str(entry["class_path"]).rpartition(".")
    # Only our own rooms: a recipe must not be a way to call anything else.
    kind = getattr(importlib.import_module(module), name, None) if module.startswith("unseen.") else None
    if not (isinstance(kind, type) and issubclass(kind, Transform)):
        raise InputError(f"{path}: {entry['class_path']} is no transform of unseen; use --engine torch")
    arguments = {
        # A transform may hold another, such as the alignment of `MultiScaleSwap`.
        key: _transform(value, path) if isinstance(value, Mapping) and "class_path" in value else value
        for key, value in (entry.get("init_args") or {}).items()
    }
    return kind(**arguments)


def summary(card: str, facts: Mapping[str, Any]) -> dict[str, str]:
    """What a verdict says of its model: the card's first paragraph, its date and which weights they are."""
    paragraphs = [part.strip() for part in card.split("\n\n")]
    words = [part for part in paragraphs if part and part[0] not in "#|-<!`"]
    found = {"Card": " ".join(words[0].replace("**", "").replace("`", "").split())} if words else {}
    found["Trained"] = str(facts.get("created", ""))
    found["Weights (SHA-256)"] = str(facts.get("files", {}).get("weights.safetensors", ""))
    return {name: text for name, text in found.items() if text}


def floats(images: Images) -> NDArray[np.float32]:
    """Shape: (B, H, W, 3) uint8 to (B, 3, H, W) float32 in [0, 1]."""
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2), np.float32) / np.float32(255)


def cores() -> int:
    """Processor cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        return os.cpu_count() or 1
