"""A training step of each method beside the bare backbone's own: `python benchmarks/steps.py`.

All take whole optimizer steps in turn, in one process, on the same random faces; the ratio of the medians is
what holds on other machines. What a method adds behind the backbone is also timed by itself, since two steps
of a busy processor differ by more than a percent, and counted: "arithmetic" is the ratio of floating point
operations, what the layers that a paper prescribes cost by their size. RFFR's other side is its two
transformers alone, its residuals being cached. PRLE and SBI change pictures before the network and add
nothing to the step.

`--roofline` (for a GPU): the same steps beside torch alone, timm's network on random tensors that lie on the
device, with the same optimizer and precision; ours start from uint8 in the host's pinned memory.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable
from typing import Any

import timm
import torch
from realid import behind, taken
from torch import nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from unseen.methods.caddm import ArtifactDetector
from unseen.methods.did import AucHead, Decomposition
from unseen.methods.realid import DualDecisionHead, RealMemory
from unseen.methods.rffr import ResidualBackbone
from unseen.models.backbone import TimmBackbone
from unseen.models.blocks import to_patches
from unseen.models.detector import Detector
from unseen.models.heads import BinaryHead
from unseen.models.inpainter import FaceInpainter
from unseen.types import FaceBatch

Rows = list[dict[str, Any]]


def faces(count: int, side: int, device: torch.device) -> FaceBatch:
    """Random faces that carry what every method asks for; a third of them are real."""
    generator = torch.Generator().manual_seed(0)
    domain = torch.arange(count) % 3
    boxes = torch.tensor([[0.2, 0.3, 0.7, 0.8]]) * side
    image = torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8, generator=generator)
    regions = [boxes if d else boxes[:0] for d in domain.tolist()]
    batch = FaceBatch(image, (domain > 0).long(), domain=domain, regions=regions)
    return batch.pin_memory() if device.type == "cuda" else batch


def detectors(network: str, side: int) -> dict[str, Detector]:
    """The bare backbone, and each method that lives behind one."""

    def made(head: Any, *parts: Any) -> Detector:
        torch.manual_seed(0)
        return Detector(TimmBackbone(network, image_size=side), head, parts)

    return {
        "bare": made(BinaryHead),
        "realid": made(DualDecisionHead, RealMemory),
        "caddm": made(BinaryHead, lambda b: ArtifactDetector(b, channels=256, grid="adapt")),
        "did": made(AucHead, lambda b: Decomposition(b, domains=3)),
    }


class TwoTransformers(nn.Module):
    """What RFFR cannot do without: its two branches on patches that are there, and a linear layer."""

    def __init__(self, backbone: ResidualBackbone) -> None:
        super().__init__()
        self.branches = nn.ModuleList([backbone.image_branch, backbone.residual_branch])
        self.patch, self.grid = backbone.inpainter.patch, backbone.inpainter.grid
        self.linear = nn.Linear(backbone.dim, 2)

    def losses(self, batch: FaceBatch) -> dict[str, torch.Tensor]:
        """Return the cross entropy."""
        patches = to_patches(batch.image, self.patch)
        index = torch.arange(self.grid**2, device=patches.device).expand(len(batch), -1)
        token = torch.cat([branch(patches, index)[:, 0] for branch in self.branches], 1)
        return {"cross_entropy": functional.cross_entropy(self.linear(token), batch.label)}


def rffr(network: str, size: str, side: int, patch: int) -> dict[str, nn.Module]:
    """RFFR, and its two transformers alone; every patch is seen, so that both do the same work."""
    torch.manual_seed(0)
    painter = FaceInpainter(size=size, image_size=side, patch=patch, blocks=1)  # type: ignore[arg-type]
    backbone = ResidualBackbone(painter, name=network, draw="whole", blocks=1)
    return {"two transformers": TwoTransformers(backbone), "rffr": Detector(backbone, BinaryHead)}


def stepper(
    model: nn.Module, batch: FaceBatch, device: torch.device, half: bool, fused: bool
) -> Callable[[], None]:
    """A whole step as the learner takes it: to the device, losses, gradients, one look at values."""
    model.to(device, memory_format=torch.channels_last).train()
    learned = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learned, lr=1e-5, fused=fused)

    def step() -> None:
        there = batch.to(device, non_blocking=True)
        there.image = there.image.contiguous(memory_format=torch.channels_last)
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            terms = torch.stack([t.float() for t in model.losses(there).values()])  # type: ignore[operator]
        terms.sum().backward()
        terms.tolist()
        optimizer.step()

    return step


def torch_alone(
    network: str, count: int, side: int, device: torch.device, half: bool, fused: bool
) -> Callable[[], None]:
    """The bound: timm's network on random tensors that lie on the device."""
    sized = {"img_size": side} if "vit" in network else {}
    net = timm.create_model(network, num_classes=2, **sized).to(device, memory_format=torch.channels_last)
    image = torch.rand(count, 3, side, side, device=device).contiguous(memory_format=torch.channels_last)
    label = (torch.arange(count) % 2).to(device)
    optimizer = torch.optim.AdamW(net.train().parameters(), lr=1e-5, fused=fused)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            loss = functional.cross_entropy(net(image), label)
        loss.backward()
        optimizer.step()

    return step


def medians(works: dict[str, Callable[[], None]], rounds: int, device: torch.device) -> dict[str, float]:
    """Return the median seconds of each, taken in turn; the first two rounds warm up."""
    found: dict[str, list[float]] = {name: [] for name in works}
    for number in range(rounds + 2):
        for name in works if number % 2 else reversed(works):
            seconds = taken(works[name], device)
            if number >= 2:
                found[name].append(seconds)
    return {name: statistics.median(values) for name, values in found.items()}


def arithmetic(detector: Detector, batch: FaceBatch) -> int:
    """Return the floating point operations of a forward pass with its losses; backward takes twice as many.

    torch's counter takes the backward pass of grouped convolutions for that of dense ones: it is not asked.
    """
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        detector.train().losses(batch)
    return int(counter.get_total_flops())


def measure(
    network: str, side: int, count: int, rounds: int, device: torch.device, *, half: bool = False
) -> Rows:
    """Each method's step over the bare one, what it adds behind the backbone, and by arithmetic."""
    batch, made = faces(count, side, device), detectors(network, side)
    works = {name: stepper(d, batch, device, half, fused=False) for name, d in made.items()}
    found = medians(works, rounds, device)
    there = batch.to(device)
    counted = {name: arithmetic(d, there) for name, d in made.items()}
    rest = medians({n: behind(d, there) for n, d in made.items()}, 3 * rounds, device)
    where = f"{network}, {count} x {side} px"
    return [
        {
            "what": f"{name} step, {where}",
            "value": 1e3 * found[name],
            "unit": "ms",
            "ratio": found[name] / found["bare"],
            "added_share": (rest[name] - rest["bare"]) / found["bare"],
            "arithmetic": counted[name] / counted["bare"],
        }
        for name in made
    ]


def measure_rffr(
    network: str, size: str, side: int, patch: int, count: int, rounds: int, device: torch.device
) -> Rows:
    """RFFR with cached residuals over its two transformers alone."""
    batch = faces(count, side, device)
    batch.residual = torch.zeros(batch.image.shape, dtype=torch.int8)
    made = rffr(network, size, side, patch)
    works = {name: stepper(m, batch, device, half=False, fused=False) for name, m in made.items()}
    found = medians(works, rounds, device)
    where = f"{network}, {count} x {side} px"
    return [
        {
            "what": f"{name} step, {where}",
            "value": 1e3 * found[name],
            "unit": "ms",
            "ratio": found[name] / found["two transformers"],
        }
        for name in made
    ]


def roofline(
    networks: dict[str, int], count: int, rounds: int, device: torch.device, *, half: bool = True
) -> Rows:
    """Pictures a second with and without each method, and the share of what torch alone reaches."""
    rows: Rows = []
    for network, side in networks.items():
        batch = faces(count, side, device)
        works = {"torch alone": torch_alone(network, count, side, device, half, fused=True)}
        works |= {
            name: stepper(d, batch, device, half, fused=True) for name, d in detectors(network, side).items()
        }
        # Where the rest goes: bytes to the device and floats there, without any network.
        works["to the device"] = lambda batch=batch: batch.to(device, non_blocking=True) and None
        found = medians(works, rounds, device)
        rows += [
            {
                "what": f"{name}, {network}, {count} x {side} px{', bf16' if half else ''}",
                "value": count / seconds,
                "unit": "pictures/s",
                "ratio": found["torch alone"] / seconds,
            }
            for name, seconds in found.items()
        ]
    return rows


def main() -> None:
    """Print JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--network", default="resnet18")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--half", action="store_true", help="bf16 autocast")
    parser.add_argument("--vit", default="vit_tiny_patch16_224", help="RFFR's transformers")
    parser.add_argument("--roofline", action="store_true")
    parser.add_argument("--networks", default="tf_efficientnet_b4:256,vit_base_patch16_224:224")
    known = parser.parse_args()
    device = torch.device(known.device)
    if known.roofline:
        networks = {name: int(side) for name, side in (n.split(":") for n in known.networks.split(","))}
        rows = roofline(networks, known.batch, known.rounds, device, half=known.half)
    else:
        rows = measure(known.network, known.size, known.batch, known.rounds, device, half=known.half)
        rows += measure_rffr(known.vit, "tiny", 224, 16, known.batch, known.rounds, device)
    print(json.dumps(rows, indent=2))


if __name__ == "__main__":
    main()
