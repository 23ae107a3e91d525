"""Several processes that train one network: how many there are, and what they tell each other.

Gradients are averaged by hand. PyTorch's wrapper wants exactly one backward pass a forward pass, and SAM or
accumulation need more. What is averaged is the loss of each process's own batch, so that N processes learn
what one does that accumulates N batches.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from unseen.models.processes import process_count
from unseen.recipe import TrainerSettings
from unseen.types import InputError

__all__ = [
    "ByHand",
    "SharedOut",
    "average",
    "average_gradients",
    "average_statistics",
    "gather",
    "layout",
    "process_number",
]

log = logging.getLogger("unseen.train")

_BUCKET = 8 << 20  # numbers that travel together: 32 MB of float32


class ByHand(DDPStrategy):
    """Several processes without PyTorch's wrapper: the learner averages gradients itself."""

    def configure_ddp(self) -> None:
        """Wrap nothing, and so register no hooks on a wrapper."""


class SharedOut(ByHand):
    """The same, with each process keeping a piece of the backbone; see `unseen.train.sharding`."""

    def configure_ddp(self) -> None:
        """Share out the weights: they are on their device, and the optimizer is not yet asked for."""
        if process_count() == 1:
            log.warning("trainer.strategy: fsdp in one process: there is nobody to share with")
            return
        learner: Any = self.model
        learner.share_out()

    def teardown(self) -> None:
        """Leave pieces on their device: only a device can gather them. They end with the process."""
        assert self.cluster_environment is not None and self.accelerator is not None
        self.cluster_environment.teardown()
        self.precision_plugin.teardown()
        self.accelerator.teardown()
        self.checkpoint_io.teardown()


def layout(settings: TrainerSettings) -> tuple[int | str, int, bool]:
    """Return the devices of a node, the nodes, and whether there is more than one process in all.

    `devices: auto` takes what `torchrun` or `srun` started, else all GPUs, else one processor.

    Raises:
        InputError: The recipe asks for other numbers than were started.
    """
    started = _started()
    if started is not None:
        here, nodes = started
        if settings.devices not in ("auto", here) or settings.num_nodes not in (1, nodes):
            raise InputError(
                f"trainer: devices {settings.devices} on {settings.num_nodes} nodes, but {here} processes on "
                f"each of {nodes} nodes were started; leave both out, or give `devices: {here}` and "
                f"`num_nodes: {nodes}`",
                reason="processes",
            )
        return here, nodes, here * nodes > 1
    devices = settings.devices
    if devices == "auto" and settings.accelerator in ("auto", "cpu") and not torch.cuda.is_available():
        devices = 1
    many = (
        settings.strategy != "auto"
        or devices not in (1, "auto")
        or (devices == "auto" and torch.cuda.device_count() > 1)
    )
    return devices, settings.num_nodes, many or settings.num_nodes > 1


def _started() -> tuple[int, int] | None:
    """Return processes a node, and nodes, if somebody else starts them: torchrun, or SLURM's srun."""
    env = os.environ
    if "TORCHELASTIC_RUN_ID" in env:
        here = int(env["LOCAL_WORLD_SIZE"])
        return here, int(env["WORLD_SIZE"]) // here
    tasks = int(env.get("SLURM_NTASKS", 1))
    if tasks > 1 and "SLURM_PROCID" in env and env.get("SLURM_JOB_NAME") not in ("bash", "interactive"):
        nodes = int(env.get("SLURM_NNODES", 1))
        return tasks // nodes, nodes
    return None


def process_number() -> int:
    """Return the number of this process, from 0."""
    return int(torch.distributed.get_rank()) if process_count() > 1 else 0


def gather(thing: Any) -> list[Any]:
    """Return everybody's thing, in the order of the processes."""
    if process_count() == 1:
        return [thing]
    things: list[Any] = [None] * process_count()
    torch.distributed.all_gather_object(things, thing)
    return things


def average(values: Tensor) -> Tensor:
    """Return the mean over processes; NaN as soon as one of them has it."""
    count = process_count()
    if count == 1:
        return values
    shared = values.clone()
    torch.distributed.all_reduce(shared)
    return shared / count


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace each gradient by its mean over processes; what no loss reached here counts as 0.

    The gradients of weights that are shared out are means already.
    """
    if process_count() == 1:
        return
    gradients: list[Tensor] = []
    for parameter in parameters:
        if parameter.requires_grad:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            if not isinstance(parameter, DTensor):
                gradients.append(parameter.grad)
    _average_in_place(gradients)


def average_statistics(model: nn.Module) -> None:
    """Average the running statistics of batch norms, so that all processes hold one network after each step.

    Each normalises by its own batch, as in accumulation. Memories see to themselves.
    """
    if process_count() == 1:
        return
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._NormBase)]
    running = [t for norm in norms for t in (norm.running_mean, norm.running_var) if t is not None]
    _average_in_place(running)


@torch.no_grad()
def _average_in_place(tensors: Sequence[Tensor]) -> None:
    """Average tensors over processes; one piece travels while the next is packed."""
    sent: list[tuple[Any, Tensor, list[Tensor]]] = []
    for bucket in _buckets(tensors):
        flat = torch.cat([t.flatten() for t in bucket])
        sent.append((torch.distributed.all_reduce(flat, async_op=True), flat, bucket))
    for work, flat, bucket in sent:
        work.wait()
        flat /= process_count()
        for tensor, part in zip(bucket, torch.split(flat, [t.numel() for t in bucket]), strict=True):
            tensor.copy_(part.view(tensor.shape))  # each keeps its own memory layout


def _buckets(tensors: Sequence[Tensor]) -> list[list[Tensor]]:
    buckets: list[list[Tensor]] = []
    size = 0
    for tensor in tensors:
        if not buckets or size + tensor.numel() > _BUCKET or buckets[-1][0].dtype != tensor.dtype:
            buckets.append([])
            size = 0
        buckets[-1].append(tensor)
        size += tensor.numel()
    return buckets
