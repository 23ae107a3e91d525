"""The weights that CADDM's authors released, brought to our names and to pictures as we have them."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from unseen.models.imagenet import lite_to_timm
from unseen.types import InputError

__all__ = ["released_backbone", "released_to_ours"]

_NETS = {1536: "tf_efficientnet_b3", 1792: "tf_efficientnet_b4"}  # by the channels of their last map
# Theirs to ours. The first three extra layers are lists of one block.
_RULES = (
    (re.compile(r"adm\.adm_extra_layers\.([012])\.0\.(?:(downsample)|(\w+))\."), "parts.0.layers.{0}.{1}."),
    (re.compile(r"adm\.adm_extra_layers\.(3)\.(?:(downsample)|(\w+))\."), "parts.0.layers.{0}.{1}."),
    (re.compile(r"adm\.multi_scale_detection_module\.ms_dets\.(\d)\."), "parts.0.boxes.{0}."),
    (re.compile(r"adm\.multi_scale_detection_module\.ms_cls\.(\d)\."), "parts.0.classes.{0}."),
    (re.compile(r"(fc)\."), "head.linear."),
)
_BASE = "base_model."


def released_backbone(state: Mapping[str, Tensor]) -> str:
    """Return timm's name of the network that a released state is of.

    Raises:
        InputError: It is none of those that were released.
    """
    if f"{_BASE}layer4.2.conv1.weight" in state and f"{_BASE}layer3.5.conv2.weight" in state:
        return "resnet34"
    head = state.get(f"{_BASE}_conv_head.weight")
    name = None if head is None else _NETS.get(len(head))
    if name is None:
        raise InputError(
            "not a network of CADDM: expected `base_model.layer4...` of ResNet-34 or `base_model._conv_head` "
            f"of EfficientNet-B3 or B4, and `adm...`; the first names are {sorted(state)[:3]}",
            reason="architecture",
        )
    return name


def released_to_ours(state: Mapping[str, Tensor], ours: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the tensors of a released state.

    The public network takes blue first, so the channels of its first layer change places; its classifier of
    1000 things, which it never uses, is left out.

    Args:
        state: The released weights.
        ours: The state of a `Detector` of a `TimmBackbone`, one `ArtifactDetector` and a `BinaryHead`.

    Returns:
        A tensor for each name of `ours`.

    Raises:
        InputError: Something is missing, left over, or of another shape.
    """
    base = {key.removeprefix(_BASE): value for key, value in state.items() if key.startswith(_BASE)}
    theirs: dict[str, Tensor] = {}
    inner = "backbone.net."
    wanted = [key.removeprefix(inner) for key in ours if key.startswith(inner)]
    # Counters that nothing reads; early versions of torch did not save them.
    zero = torch.zeros((), dtype=torch.int64)
    if any(key.startswith("_blocks.") for key in base):
        kept = [key for key in wanted if not key.endswith(".num_batches_tracked")]
        base, first = dict(lite_to_timm(base, kept)), "conv_stem.weight"
    else:
        base, first = {key: base[key] for key in base if not key.startswith("fc.")}, "conv1.weight"
    if first in base:
        base[first] = base[first].flip(1)  # BGR to RGB
    theirs |= {inner + key: value for key, value in base.items()}
    for key, value in state.items():
        if not key.startswith(_BASE):
            theirs[_renamed(key)] = value
    for key in ours:
        if key.endswith(".num_batches_tracked"):
            theirs.setdefault(key, zero)
        elif key in ("backbone.mean", "backbone.std"):
            theirs[key] = ours[key]
    missing = [key for key in ours if key not in theirs]
    unknown = [key for key in theirs if key not in ours]
    odd = [key for key in ours if key in theirs and ours[key].shape != theirs[key].shape]
    if missing or unknown or odd:
        raise InputError(
            f"not the weights of a whole CADDM: {len(missing)} missing {missing[:2]}, {len(unknown)} unknown "
            f"{unknown[:2]}, {len(odd)} of another shape {odd[:2]}",
            reason="architecture",
        )
    return {key: theirs[key] for key in ours}


def _renamed(key: str) -> str:
    for pattern, name in _RULES:
        if found := pattern.match(key):
            place, *kinds = found.groups()
            kind = next((("skip" if k == "downsample" else k) for k in kinds if k), "")
            return name.format(place, kind) + key[found.end() :]
    return key
