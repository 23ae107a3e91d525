"""What RealID's memory and head add to a training step: `python benchmarks/realid.py --size 256 --batch 16`.

One EfficientNet-B4, once with a plain head and once with `RealMemory` and `DualDecisionHead`, takes whole
optimizer steps in turn in one process; the ratio of the medians is what holds on other machines. A difference
of a percent is less than the noise of a busy processor, so memory and head are also timed by themselves, on
features that are already there, less the plain head, over the plain step. Without a GPU it is processor
time, which other work stretches less. Prints JSON, then a line of a Markdown table.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable

import torch

from unseen.methods.realid import DualDecisionHead, RealMemory
from unseen.models.backbone import TimmBackbone
from unseen.models.detector import Detector
from unseen.models.heads import BinaryHead
from unseen.types import FaceBatch, Features


def taken(work: Callable[[], None], device: torch.device) -> float:
    """Return the seconds that one call takes, with all that it asked of the device."""
    if device.type != "cuda":
        start = time.process_time()
        work()
        return time.process_time() - start
    torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    torch.cuda.synchronize()
    return time.perf_counter() - start


def stepper(detector: Detector, batch: FaceBatch, *, half: bool) -> Callable[[], None]:
    """Return a whole training step."""
    optimizer = torch.optim.Adam(detector.parameters(), lr=2e-4)
    device = batch.image.device.type

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device, torch.bfloat16, enabled=half):
            terms = detector.losses(batch)
        torch.stack(list(terms.values())).sum().backward()
        optimizer.step()

    return step


def behind(detector: Detector, batch: FaceBatch) -> Callable[[], None]:
    """Return what happens behind the backbone: parts, head, losses, their gradient, the memory's update."""
    device = batch.image.device
    with torch.no_grad():
        seen = detector.backbone.see(batch)
    features = Features(*(t.to(device).detach().requires_grad_() for t in (seen.map, seen.vector)))
    learned = [p for part in (*detector.parts, detector.head) for p in part.parameters() if p.requires_grad]

    def work() -> None:
        terms = detector.losses_of(detector.judge(features), batch)
        total = torch.stack(list(terms.values())).sum()
        torch.autograd.grad(total, [features.map, features.vector, *learned], allow_unused=True)

    return work


def main() -> None:
    """Print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", default="tf_efficientnet_b4")
    parser.add_argument("--size", type=int, default=256, help="side of the pictures, in pixels")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=20, help="timed steps of each, after two to warm up")
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--half", action="store_true", help="bf16 autocast")
    known = parser.parse_args()
    if known.threads:
        torch.set_num_threads(known.threads)
    device = torch.device(known.device)
    torch.manual_seed(0)
    backbone = TimmBackbone(known.network, image_size=known.size)
    kinds = {
        "plain": Detector(backbone, BinaryHead),
        "realid": Detector(backbone, DualDecisionHead, [lambda made: RealMemory(made)]),
    }
    image = torch.rand(known.batch, 3, known.size, known.size, device=device)
    batch = FaceBatch(image, (torch.arange(known.batch) % 2).to(device))
    steps, alone = {}, {}
    for name, detector in kinds.items():
        detector.to(device, memory_format=torch.channels_last).train()
        steps[name] = stepper(detector, batch, half=known.half)
        alone[name] = behind(detector, batch)
    whole: dict[str, list[float]] = {name: [] for name in kinds}
    parts: dict[str, list[float]] = {name: [] for name in kinds}
    for number in range(known.steps + 2):
        for name in kinds if number % 2 else reversed(kinds):
            seconds = taken(steps[name], device)
            apart = [taken(alone[name], device) for _ in range(5)]
            if number >= 2:
                whole[name].append(seconds)
                parts[name] += apart
    step = {name: statistics.median(values) for name, values in whole.items()}
    rest = {name: statistics.median(values) for name, values in parts.items()}
    added = (rest["realid"] - rest["plain"]) / step["plain"]
    machine = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or "CPU"
    print(
        json.dumps(
            {
                **vars(known),
                "threads": torch.get_num_threads(),
                "machine": machine,
                "torch": torch.__version__,
                "plain_step_s": step["plain"],
                "realid_step_s": step["realid"],
                "step_ratio": step["realid"] / step["plain"],
                "plain_alone_s": rest["plain"],
                "realid_alone_s": rest["realid"],
                "added_share": added,
            },
            indent=2,
        )
    )
    print(
        f"| {known.network}, {known.batch} x {known.size} px, {machine} | {step['plain'] * 1e3:.0f} ms | "
        f"{step['realid'] * 1e3:.0f} ms | {step['realid'] / step['plain']:.3f} | "
        f"{(rest['realid'] - rest['plain']) * 1e3:.2f} ms | {100 * added:.2f} % |"
    )


if __name__ == "__main__":
    main()
