"""What each option of `trainer` and `optimizer` makes of a training step: `python benchmarks/options.py`.

One network, a plain head, whole steps in turn in one process; each option against the step with none of
them. What a step computes is the same but for rounding. On a processor seconds are of the clock, since
threads that wait are part of what an option costs: the machine should be idle.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from steps import faces

from unseen.data.memory import keep_memory
from unseen.models.backbone import TimmBackbone
from unseen.models.detector import Detector
from unseen.models.heads import BinaryHead

OPTIONS: dict[str, dict[str, bool]] = {
    "none of them": {},
    "channels_last": {"last": True},
    "bf16-mixed": {"half": True},
    "fused optimizer": {"fused": True},
    "compile": {"compiled": True},
    "channels_last, bf16-mixed": {"last": True, "half": True},
    "channels_last, bf16-mixed, fused": {"last": True, "half": True, "fused": True},
}


def stepper(
    network: str,
    side: int,
    count: int,
    device: torch.device,
    *,
    last: bool = False,
    half: bool = False,
    fused: bool = False,
    compiled: bool = False,
) -> Callable[[], None]:
    """A training step with these options, on uint8 pictures that start in main memory."""
    torch.manual_seed(0)
    layout = torch.channels_last if last else torch.contiguous_format
    detector = Detector(TimmBackbone(network, image_size=side), BinaryHead).train()
    detector.to(device, memory_format=layout)
    if compiled:
        detector.backbone.compile()
    optimizer = torch.optim.AdamW(detector.parameters(), lr=1e-5, fused=fused)
    batch = faces(count, side, device)

    def step() -> None:
        there = batch.to(device, non_blocking=True)
        there.image = there.image.contiguous(memory_format=layout)
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            loss = torch.stack([term.float() for term in detector.losses(there).values()]).sum()
        loss.backward()
        optimizer.step()
        if device.type == "cuda":
            torch.cuda.synchronize()

    return step


def measure(
    network: str, side: int, count: int, rounds: int, device: torch.device, names: list[str]
) -> list[dict[str, Any]]:
    """Return the median step of each option, and how many times as fast it is as none of them."""
    works = {name: stepper(network, side, count, device, **OPTIONS[name]) for name in names}
    found: dict[str, list[float]] = {name: [] for name in works}
    for number in range(rounds + 2):  # two to warm up, and to compile in
        for name, work in works.items():
            start = time.perf_counter()
            work()
            if number >= 2:
                found[name].append(time.perf_counter() - start)
    median = {name: statistics.median(seconds) for name, seconds in found.items()}
    return [
        {
            "what": f"{name}, {network}, {count} x {side} px",
            "value": 1e3 * seconds,
            "unit": "ms",
            "ratio": median["none of them"] / seconds,
        }
        for name, seconds in median.items()
    ]


def main() -> None:
    """Print JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--network", default="tf_efficientnet_b4")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--without-compile", action="store_true", help="which needs a C++ compiler")
    known = parser.parse_args()
    keep_memory()
    names = [name for name in OPTIONS if not (known.without_compile and OPTIONS[name].get("compiled"))]
    rows = measure(known.network, known.size, known.batch, known.rounds, torch.device(known.device), names)
    print(json.dumps(rows, indent=2))


if __name__ == "__main__":
    main()
