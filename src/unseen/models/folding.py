"""Batch norms of a finished network folded into the convolutions before them: the same numbers, sooner."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import fuse_conv_bn_weights

from unseen.models.backbone import Backbone

__all__ = ["fold_norms"]


@torch.no_grad()
def fold_norms(backbone: Backbone) -> Backbone:
    """Return a copy for inference in which each norm that follows a convolution is part of it.

    What follows what is seen in one pass, not guessed from names. Should the copy's map differ by more than
    rounding on that picture, as where a convolution's output is used twice, the backbone itself is returned.

    Args:
        backbone: In evaluation mode.
    """
    folded = copy.deepcopy(backbone).eval()
    draw = torch.Generator().manual_seed(0)
    side = backbone.image_size
    image = torch.rand(1, 3, side, side, generator=draw).to(backbone.mean.device)
    pairs = _pairs(folded, image)
    names = {module: name for name, module in folded.named_modules()}
    for conv, norm in pairs:
        weight, bias = norm.weight, norm.bias
        assert norm.running_mean is not None and norm.running_var is not None
        conv.weight, conv.bias = fuse_conv_bn_weights(
            conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, weight, bias
        )
        owner, _, last = names[norm].rpartition(".")
        setattr(folded.get_submodule(owner), last, _rest(norm))
    before, after = backbone(image).map, folded(image).map
    same = torch.allclose(before, after, rtol=1e-3, atol=1e-4 * float(before.abs().max()))
    return folded if same else backbone


def _rest(norm: nn.BatchNorm2d) -> nn.Module:
    """Return what a norm does besides norming: timm's carry an activation."""
    act: Any = getattr(norm, "act", None)
    return act if isinstance(act, nn.Module) else nn.Identity()


def _pairs(net: nn.Module, image: Tensor) -> list[tuple[nn.Conv2d, nn.BatchNorm2d]]:
    """Return the convolutions whose output is what a norm takes, both called once, with that norm."""
    made: dict[int, tuple[nn.Conv2d, Tensor]] = {}
    found: list[tuple[nn.Conv2d, nn.BatchNorm2d]] = []
    calls: dict[nn.Module, int] = {}

    def after(module: nn.Module, _: Any, output: Tensor) -> None:
        calls[module] = calls.get(module, 0) + 1
        assert isinstance(module, nn.Conv2d)
        made[id(output)] = (module, output)  # held, so that no other tensor gets its address

    def before(module: nn.Module, given: tuple[Tensor, ...]) -> None:
        calls[module] = calls.get(module, 0) + 1
        assert isinstance(module, nn.BatchNorm2d)
        if id(given[0]) in made and module.track_running_stats:
            found.append((made[id(given[0])][0], module))

    handles = []
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            handles.append(module.register_forward_hook(after))
        elif isinstance(module, nn.BatchNorm2d):
            handles.append(module.register_forward_pre_hook(before))
    try:
        net(image)
    finally:
        for handle in handles:
            handle.remove()
    return [(conv, norm) for conv, norm in found if calls[conv] == calls[norm] == 1]
