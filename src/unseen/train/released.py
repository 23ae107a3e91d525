"""The weights that CADDM's authors released, as a run folder that every verb takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from unseen.checkpoint import save_run
from unseen.models.caddm_names import released_backbone, released_to_ours
from unseen.recipe import read_recipe
from unseen.run_files import LIST, digest
from unseen.train.adopt import read_weights
from unseen.types import InputError

__all__ = ["import_caddm"]


def import_caddm(weights: str | Path, out: str | Path) -> Path:
    """Make a run folder of a released CADDM: ResNet-34, EfficientNet-B3 or B4.

    The public network takes pictures as OpenCV reads them, blue first and 0 to 255; its first layer is turned
    round and the range becomes the backbone's `std`, so that the scores are those of the public code on
    pictures as every other run takes them. Its boxes were learned with x and y exchanged, which
    `transpose_boxes` undoes where they are shown. Scores are not calibrated.

    Args:
        weights: The released file; read as plain tensors, nothing in it is executed.
        out: The run folder; must not hold a run yet.

    Returns:
        The folder.

    Raises:
        InputError: No such file, not plain weights, another network, or a run is there already.
    """
    weights, out = Path(weights), Path(out)
    if (out / LIST).exists():
        raise InputError(f"{out}: already holds a run; give another folder", reason="exists")
    # Trained on several GPUs, every name begins with the wrapper's.
    state = {str(key).removeprefix("module."): value for key, value in read_weights(weights).items()}
    try:
        name = released_backbone(state)
        recipe = read_recipe(_settings(name))
        detector = recipe.detector(pretrained=False)
        detector.load_state_dict(released_to_ours(state, detector.state_dict()))
    except InputError as error:
        raise InputError(f"{weights}: {error}", reason=error.reason) from error
    card = (
        f"# {out.resolve().name}\n\n"
        f"CADDM with {name}, as its authors released it, imported from `{weights.name}` "
        f"(SHA-256 {digest(weights)}). By their account it was trained on raw FaceForensics++. Its scores "
        "are not calibrated: `unseen evaluate` on faces that you know says what they are worth.\n"
    )
    facts = {"imported": "CADDM", "network": name}
    return save_run(out, detector.eval(), recipe, card=card, data=facts)


def _settings(name: str) -> dict[str, Any]:
    per_level = 1 / 255
    backbone = {"name": name, "image_size": 224, "mean": [0.0] * 3, "std": [per_level] * 3}
    return {
        "detector": {
            "backbone": {"class_path": "TimmBackbone", "init_args": backbone},
            "parts": [{"class_path": "ArtifactDetector", "init_args": {"transpose_boxes": True}}],
            "head": {"class_path": "BinaryHead"},
        },
        "data": {
            "transforms": [{"class_path": "AlignFace", "init_args": {"size": 224, "template": "caddm"}}],
        },
    }
