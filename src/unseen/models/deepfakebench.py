"""Networks as DeepfakeBench trains them, so that its weights give here the scores that they give there.

Key names were learned from its public source (Xception, EfficientNet-B4); no code is copied.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from unseen.models.backbone import TimmBackbone
from unseen.types import InputError

__all__ = ["FixedPaddingB4", "architecture", "to_ours"]

# Pixels that the package `efficientnet_pytorch` adds before each strided convolution of B4, computed for
# its own 380-pixel input and kept at any size. (kernel, left and top, right and bottom)
_PADDED = {"blocks.1.0": (3, 0, 1), "blocks.2.0": (5, 2, 2), "blocks.3.0": (3, 0, 1), "blocks.5.0": (5, 1, 2)}


class FixedPaddingB4(TimmBackbone):
    """EfficientNet-B4 as DeepfakeBench has it: mean and std 0.5, and two other paddings than timm's.

    Its first convolution is not padded at all, and its strided ones are padded as for pictures of 380 pixels.
    At 256 pixels that moves every map by up to a pixel, so weights that were trained there do not fit timm's
    network, though they load into it.

    Args:
        image_size: Side of the input in pixels; 256 there.
    """

    def __init__(self, *, image_size: int = 256) -> None:
        super().__init__(
            "tf_efficientnet_b4", image_size=image_size, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)
        )
        net = self.net
        net.conv_stem = _plain(net.conv_stem, 0, 0)
        for name, (kernel, before, after) in _PADDED.items():
            block = net.get_submodule(name)
            if block.conv_dw.kernel_size != (kernel, kernel) or block.conv_dw.stride != (2, 2):
                raise AssertionError(f"timm's B4 changed: {name} is no strided {kernel}x{kernel} convolution")
            block.conv_dw = _plain(block.conv_dw, before, after)


class _Padded(nn.Conv2d):
    """A convolution of a zero-padded picture, the same key as a plain one."""

    extra: tuple[int, int, int, int] = (0, 0, 0, 0)

    def forward(self, image: Tensor) -> Tensor:
        return super().forward(nn.functional.pad(image, self.extra))


def _plain(conv: nn.Conv2d, before: int, after: int) -> nn.Conv2d:
    made = _Padded(
        conv.in_channels, conv.out_channels, 3 if conv.kernel_size == (3, 3) else 5, stride=2,
        groups=conv.groups, bias=False,
    )  # fmt: skip
    made.extra = (before, after, before, after)
    with torch.no_grad():
        made.weight.copy_(conv.weight)
    return made


def architecture(state: Mapping[str, Tensor]) -> str:
    """Return `xception` or `efficientnetb4`, by the names of the tensors.

    Raises:
        InputError: It is another network, or another method around one.
    """
    names = _bare(state)
    if "efficientnet._conv_stem.weight" in names:
        return "efficientnetb4"
    if {"block12.rep.1.conv1.weight", "conv4.pointwise.weight"} <= names.keys():
        return "xception"
    raise InputError(
        f"weights of an unknown network ({len(state)} tensors, such as {', '.join(list(state)[:2])}); "
        "expected DeepfakeBench's Xception or EfficientNet-B4 detector",
        reason="architecture",
    )


def to_ours(state: Mapping[str, Tensor], keys: Iterable[str]) -> dict[str, Tensor]:
    """Rename DeepfakeBench's tensors for a `Detector` of our backbone and `BinaryHead`.

    Args:
        state: The content of its `.pth`, with or without the `module.` of distributed training.
        keys: The names of our detector's state, whose `backbone.mean` and `backbone.std` are not asked for.

    Raises:
        InputError: A tensor is missing, or one is left over that changes what the network says.
    """
    names = _bare(state)
    renamed = _xception(names) if architecture(state) == "xception" else _b4(names)
    wanted = [key for key in keys if key not in ("backbone.mean", "backbone.std")]
    missing = [key for key in wanted if key not in renamed]
    over = [key for key in renamed if key not in set(wanted)]
    if missing or over:
        raise InputError(
            f"weights do not fit: {len(missing)} tensors missing{_such(missing)}, {len(over)} too many"
            f"{_such(over)}; "
            "only the plain Xception and EfficientNet-B4 detectors are understood",
            reason="architecture",
        )
    return {key: renamed[key] for key in wanted}


def _such(names: list[str]) -> str:
    return f" (such as {', '.join(names[:2])})" if names else ""


def _bare(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {re.sub(r"^(module\.)?(backbone\.)?", "", key): tensor for key, tensor in state.items()}


def _xception(names: Mapping[str, Tensor]) -> dict[str, Tensor]:
    renamed = {}
    for key, tensor in names.items():
        if key.startswith(
            ("adjust_channel.", "loss_func")
        ):  # built in every Xception there, used by none of these
            continue
        head = re.fullmatch(
            r"last_linear\.(?:1\.)?(weight|bias)", key
        )  # with dropout it is the second of two
        renamed[f"head.linear.{head[1]}" if head else f"backbone.net.{key}"] = tensor
    return renamed


_ENDS = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2"}
_FIRST = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
_OTHERS = {
    "_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2",
    "_project_conv": "conv_pwl", "_bn2": "bn3",
}  # fmt: skip
_EXCITE = {"_se_reduce": "se.conv_reduce", "_se_expand": "se.conv_expand"}
_DEPTHS = (2, 4, 4, 6, 6, 8, 2)  # blocks a stage of B4


def _b4(names: Mapping[str, Tensor]) -> dict[str, Tensor]:
    places = [(stage, block) for stage, depth in enumerate(_DEPTHS) for block in range(depth)]
    renamed = {}
    for key, tensor in names.items():
        module, _, leaf = key.removeprefix("efficientnet.").rpartition(".")
        block = re.fullmatch(r"_blocks\.(\d+)\.(\w+)", module)
        if module in ("last_layer", "last_layer.1"):
            renamed[f"head.linear.{leaf}"] = tensor
        elif module in _ENDS:
            renamed[f"backbone.net.{_ENDS[module]}.{leaf}"] = tensor
        elif block and int(block[1]) < len(places):
            stage, place = places[int(block[1])]
            ours = ({**(_FIRST if stage == 0 else _OTHERS), **_EXCITE}).get(block[2], block[2])
            renamed[f"backbone.net.blocks.{stage}.{place}.{ours}.{leaf}"] = tensor
        elif not key.startswith(("adjust_channel.", "loss_func", "dropout_layer")):
            renamed[key] = tensor
    return renamed
