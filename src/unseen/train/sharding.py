"""One network shared out among processes (FSDP): each keeps a piece of every weight, gradient and moment.

PyTorch's `fully_shard` fetches the weights of one block of the network when its turn comes, forgets them, and
hands each process its piece of the mean gradient. What is shared out is the backbone, where the weights
are; heads, parts and their memories stay whole in each process and are averaged as without sharing.

A tensor is `shared out` if each process holds a piece of it (torch's `DTensor`), else `whole`.
A function marked (together) is called by all processes at once, or they would wait for each other for ever.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, Shard, distribute_tensor

from unseen.methods.rffr import ResidualBackbone
from unseen.models.backbone import TimmBackbone
from unseen.models.detector import Detector
from unseen.models.f3net import F3Net
from unseen.models.inpainter import FaceInpainter
from unseen.models.processes import process_count
from unseen.types import InputError

__all__ = [
    "blocks",
    "check_optimizer",
    "clip_norm",
    "gradient_norm",
    "held",
    "load_optimizer",
    "piece",
    "roots",
    "share_out",
    "split_groups",
    "whole",
    "whole_optimizer",
    "whole_state",
]

_EACH_BY_ITSELF = (
    torch.optim.Adam,
    torch.optim.AdamW,
    torch.optim.SGD,
    torch.optim.RMSprop,
    torch.optim.NAdam,
    torch.optim.RAdam,
    torch.optim.Adamax,
)
_LARGE = 16 << 20  # a stage of more weights than this is fetched block by block: 64 MB of float32


# --- what is shared out -----------------------------------------------------------------------------------


def roots(model: nn.Module) -> list[nn.Module]:
    """Return the modules that hold the weights of a backbone: each is called, and gives a tensor.

    Raises:
        InputError: The backbone is of a kind that is not known here.
    """
    if isinstance(model, FaceInpainter):
        return [*model.encoder, *model.decoder]
    backbone = model.backbone if isinstance(model, Detector) else model
    if isinstance(backbone, TimmBackbone):
        return [backbone.net]
    if isinstance(backbone, ResidualBackbone):  # its inpainter is frozen, and called by another name
        return [b for b in (backbone.image_branch, backbone.residual_branch) if b is not None]
    if isinstance(backbone, F3Net):
        chains: Any = backbone.trunks.values()
        return [m for chain in chains for m in chain.values() if any(True for _ in m.parameters())]
    raise InputError(
        f"trainer.strategy: fsdp does not know how to share out {type(backbone).__name__}; it knows "
        "TimmBackbone, F3Net, ResidualBackbone and the inpainter; give `strategy: ddp`",
        reason="processes",
    )


def blocks(network: nn.Module) -> Iterator[nn.Module]:
    """Yield what is fetched by itself: elements of lists of modules, or of the lists in large elements.

    What is left, and what is small beside the network, is fetched with the network as a whole.
    """
    least = max(1, _count(network) // 100)
    yield from (module for module in _elements(network) if _count(module) >= least)


def _elements(module: nn.Module) -> Iterator[nn.Module]:
    if not isinstance(module, nn.Sequential | nn.ModuleList | nn.ModuleDict):
        for child in module.children():
            yield from _elements(child)
        return
    for element in module.children():
        called = not isinstance(element, nn.ModuleList | nn.ModuleDict)
        inner = list(_elements(element)) if _count(element) > _LARGE or not called else []
        yield from inner or ([element] if called else [])


def _count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def share_out(model: nn.Module) -> None:
    """Keep a piece of each weight of the backbone in each process, in place (together).

    Weights must be the same in all processes, and on their device. Parameters are other objects afterwards.
    """
    device = next(model.parameters()).device
    mesh = init_device_mesh(device.type, (process_count(),))
    for network in roots(model):
        for parameter in network.parameters():
            parameter.data = parameter.data.contiguous()  # channels last cannot be cut
        for module in (*blocks(network), network):
            single = {p for p in module.parameters() if p.ndim == 0}  # one number: nothing to share
            fully_shard(
                module,
                mesh=mesh,
                reshard_after_forward=True,
                shard_placement_fn=_cut,
                ignored_params=single,
            )


def _cut(parameter: nn.Parameter) -> Shard | None:
    """Cut along rows, or what has fewer rows than there are processes along the first side that fits."""
    count = process_count()
    if parameter.shape[0] >= count:
        return None
    return next((Shard(i) for i, n in enumerate(parameter.shape) if n and n % count == 0), None)


@torch.no_grad()
def piece(tensor: Tensor) -> Tensor:
    """Return what this process holds, on the same memory."""
    if not isinstance(tensor, DTensor):
        return tensor
    local: Tensor = tensor.to_local()
    return local


def held(tensors: Iterable[Tensor]) -> int:
    """Return how many bytes of these tensors this process holds."""
    return sum(t.numel() * t.element_size() for t in map(piece, tensors))


# --- whole again ------------------------------------------------------------------------------------------


@contextmanager
def whole(model: nn.Module) -> Iterator[None]:
    """Let each process hold all weights for a while, and look at as many pictures as it likes (together).

    Else each forward pass would be a meeting of all processes, and validation, of which one may have a batch
    more than another, would never end. Nothing may be learned meanwhile. A whole model stays as it is.
    """
    shared = [m for m in model.modules() if isinstance(m, FSDPModule)]
    kept: list[tuple[Any, Any, Any]] = []
    for module in shared:
        module.unshard()
    try:
        # Weights are there: whatever would fetch and forget them is lifted off.
        for module in shared:
            kept.append((module, module._forward_pre_hooks, module._forward_hooks))
            module._forward_pre_hooks, module._forward_hooks = OrderedDict(), OrderedDict()
        yield
    finally:
        for module, before, after in kept:
            module._forward_pre_hooks, module._forward_hooks = before, after
        for module in shared:
            module.reshard()


def whole_state(model: nn.Module) -> dict[str, Tensor]:
    """Return the state of a model as one process would have it; empty in all but the first (together).

    What was shared out comes one tensor at a time, and lies in main memory.
    """
    return _gathered(model.state_dict())


def _gathered(values: Mapping[str, Any]) -> dict[str, Any]:
    """Gather what is shared out; only the first process keeps anything."""
    first = process_count() == 1 or torch.distributed.get_rank() == 0
    found: dict[str, Any] = {}
    for name, value in values.items():
        everything = value.full_tensor() if isinstance(value, DTensor) else value
        if first:
            found[name] = everything.cpu() if isinstance(value, DTensor) else everything
    return found


# --- gradients --------------------------------------------------------------------------------------------


@torch.no_grad()
def gradient_norm(gradients: Sequence[Tensor]) -> Tensor:
    """Return the norm of all these, the same in all processes (together, if any is shared out)."""
    norms = torch.stack([piece(g).norm() for g in gradients])
    cut = torch.tensor([isinstance(g, DTensor) for g in gradients])
    if cut.any():
        cut = cut.to(norms.device)
        pieces = (norms.square() * cut).sum()
        torch.distributed.all_reduce(pieces)
        norms = torch.stack([pieces.sqrt(), (norms * ~cut).norm()])
    norm: Tensor = norms.norm()
    return norm


@torch.no_grad()
def clip_norm(gradients: Sequence[Tensor], most: float) -> Tensor:
    """Shorten gradients to this norm as torch's `clip_grad_norm_` does; return what it was (together)."""
    norm = gradient_norm(gradients)
    factor = (most / (norm + 1e-6)).clamp(max=1)
    for gradient in gradients:
        piece(gradient).mul_(factor)
    return norm


# --- the optimizer ----------------------------------------------------------------------------------------


def split_groups(groups: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Make two groups of each, the shared out and the whole: an optimizer's kernels take one kind."""
    return [
        {**group, "params": [p for p in group["params"] if isinstance(p, DTensor) is kind]}
        for group in groups
        for kind in (True, False)
    ]


def check_optimizer(optimizer: torch.optim.Optimizer) -> None:
    """Refuse an optimizer that is not known to treat each weight by itself, with a number or more of its own.

    Others, which look at rows or at whole matrices, would have to meet in each step, and could not be stored.

    Raises:
        InputError: Names it, and those that are known.
    """
    if type(optimizer) not in _EACH_BY_ITSELF:
        known = ", ".join(kind.__name__ for kind in _EACH_BY_ITSELF)
        raise InputError(
            f"optimizer: {type(optimizer).__name__} with trainer.strategy: fsdp; expected one of torch's "
            f"that treat each weight by itself, {known}; or give `strategy: ddp`",
            reason="processes",
        )


def whole_optimizer(optimizer: torch.optim.Optimizer, groups: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the optimizer's state as one process would have it; empty in all but the first (together).

    Args:
        optimizer: Made of `split_groups(groups)`.
        groups: The groups as they would be in one process.
    """
    state: dict[int, dict[str, Any]] = {}
    listed: list[dict[str, Any]] = []
    number = 0
    for place, group in enumerate(groups):
        options = {k: v for k, v in optimizer.param_groups[2 * place].items() if k != "params"}
        numbers = range(number, number + len(group["params"]))
        for i, parameter in zip(numbers, group["params"], strict=True):
            values = _gathered(optimizer.state.get(parameter, {}))
            if values:
                state[i] = values
        number = numbers.stop
        listed.append({**options, "params": list(numbers)})
    first = torch.distributed.get_rank() == 0
    return {"state": state, "param_groups": listed} if first else {}


def load_optimizer(
    optimizer: torch.optim.Optimizer, groups: Sequence[Mapping[str, Any]], state: Mapping[str, Any]
) -> None:
    """Give an optimizer of shared out weights the state that one process had.

    Args:
        optimizer: Made of `split_groups(groups)`.
        groups: The groups as they would be in one process.
        state: From `state_dict()` of an optimizer of those, or from `whole_optimizer`.
    """
    old = [p for group in groups for p in group["params"]]
    now = {id(p): i for i, p in enumerate(p for group in optimizer.param_groups for p in group["params"])}
    values: dict[int, dict[str, Any]] = {}
    for number, kept in state["state"].items():
        parameter = old[number]
        values[now[id(parameter)]] = {name: _like(value, parameter) for name, value in kept.items()}
    listed = []
    for place, group in enumerate(optimizer.param_groups):
        options = {k: v for k, v in state["param_groups"][place // 2].items() if k != "params"}
        listed.append({**options, "params": [now[id(p)] for p in group["params"]]})
    optimizer.load_state_dict({"state": values, "param_groups": listed})


def _like(value: Any, parameter: Tensor) -> Any:
    """Keep this process's piece of what belongs to a weight that is shared out."""
    if not isinstance(parameter, DTensor) or not isinstance(value, Tensor) or value.shape != parameter.shape:
        return value
    there = value.to(parameter.device).contiguous()
    cut = distribute_tensor(there, parameter.device_mesh, parameter.placements, src_data_rank=None)
    # A copy, or the piece would keep the memory of the whole.
    return DTensor.from_local(
        cut.to_local().clone(),
        parameter.device_mesh,
        parameter.placements,
        run_check=False,
        shape=parameter.shape,
        stride=parameter.stride(),
    )
