"""What a detector costs: multiply-adds, parameters, pictures a second."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from unseen.models.device import device_of
from unseen.types import FaceBatch

__all__ = ["Efficiency", "efficiency", "multiply_adds", "pictures_per_second"]

COUNTED = (
    "multiply-adds of convolutions and matrix products (attention included) of one picture; norms, "
    "activations, pooling and resizing are not counted"
)


@dataclass(frozen=True)
class Efficiency:
    """The numbers of PRLE's Table VIII, a picture rather than a batch of 64.

    Args:
        image_size: Side of the picture, in pixels.
        gmacs: 10^9 multiply-adds of one picture; see `counted`.
        parameters: Of everything that is needed to judge a picture, in millions.
        inference: Pictures a second, forward only, without loading.
        training: Pictures a second of an optimizer step (Adam, float32), without loading.
        loading: Pictures a second of the same step with the pictures read, augmented and moved; None if there
            was no data to read.
        batch_size: Of all three.
        device: Where.
        threads: Of the processor.
        counted: What the multiply-adds count.
    """

    image_size: int
    gmacs: float
    parameters: float
    inference: float
    training: float
    loading: float | None
    batch_size: int
    device: str
    threads: int
    counted: str = COUNTED

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


def multiply_adds(detector: nn.Module, size: int) -> int:
    """Count the multiply-adds of one picture of `size` x `size` pixels.

    Convolutions and matrix products, attention included; a multiply-add is one, not two operations.

    Args:
        detector: Called on (1, 3, size, size); its modes are left as they were.
        size: Side in pixels.
    """
    image = torch.zeros(1, 3, size, size, device=next(detector.parameters()).device)
    modes = [(module, module.training) for module in detector.modules()]
    detector.eval()
    try:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            detector(image)
    finally:
        for module, mode in modes:
            module.training = mode
    return int(counter.get_total_flops()) // 2  # torch counts a multiply and an add


def pictures_per_second(
    work: Callable[[], object], pictures: int, device: torch.device, *, warmup: int = 2, repeats: int = 5
) -> float:
    """Time some work, the device's queue emptied before and after, and return pictures a second.

    The mean of the repeats, as a training runs, not the best one.
    """
    for _ in range(warmup):
        work()
    _wait(device)
    start = time.perf_counter()
    for _ in range(repeats):
        work()
    _wait(device)
    return pictures * repeats / (time.perf_counter() - start)


def efficiency(
    detector: nn.Module,
    *,
    size: int | None = None,
    batch_size: int = 32,
    batches: Iterable[FaceBatch] | None = None,
    device: str | torch.device = "auto",
    repeats: int = 5,
) -> Efficiency:
    """Measure a detector as PRLE's Table VIII does; it is copied, and itself not touched.

    Args:
        detector: A `Detector`. What is frozen stays so, unless everything is.
        size: Side of the picture; the detector's own if None.
        batch_size: Pictures at a time.
        batches: Real batches of any size, such as a training loader's: what reading and augmenting leave of
            the training's speed. At least two more than `repeats`.
        device: `auto` takes a CUDA device if there is one.
        repeats: Steps that are timed, after two that are not.
    """
    place = device_of(device)
    model: Any = copy.deepcopy(detector)
    if not any(p.requires_grad for p in model.parameters()):  # a run's, which is not to learn any more
        model.requires_grad_(True)
    model.to(place).to(memory_format=torch.channels_last)
    side = size or int(model.image_size)
    image = torch.rand(batch_size, 3, side, side, device=place).contiguous(memory_format=torch.channels_last)
    label = torch.arange(batch_size, device=place) % 2
    nowhere = [torch.zeros(0, 4, device=place)] * batch_size
    batch = FaceBatch(image, label, domain=label, regions=nowhere)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-6)

    def judge() -> None:
        with torch.inference_mode():
            model(image)

    def step(batch: FaceBatch = batch) -> int:
        optimizer.zero_grad(set_to_none=True)
        loss: Any = torch.stack(list(model.losses(batch).values())).sum()
        loss.backward()
        optimizer.step()
        return len(batch)

    gmacs = multiply_adds(model, side) / 1e9
    model.eval()
    inference = pictures_per_second(judge, batch_size, place, repeats=repeats)
    model.train()
    training = pictures_per_second(step, batch_size, place, repeats=repeats)
    loading = None
    if batches is not None:
        loading = _with_loading(step, iter(batches), place, repeats)
    return Efficiency(
        image_size=side,
        gmacs=gmacs,
        parameters=sum(p.numel() for p in model.parameters()) / 1e6,
        inference=inference,
        training=training,
        loading=loading,
        batch_size=batch_size,
        device=torch.cuda.get_device_name(place) if place.type == "cuda" else place.type,
        threads=torch.get_num_threads(),
    )


def _with_loading(
    step: Callable[[FaceBatch], int], batches: Any, device: torch.device, repeats: int
) -> float:
    for _ in range(2):
        step(next(batches).to(device))
    _wait(device)
    start, count = time.perf_counter(), 0
    for _ in range(repeats):
        count += step(next(batches).to(device, non_blocking=True))
    _wait(device)
    return count / (time.perf_counter() - start)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
