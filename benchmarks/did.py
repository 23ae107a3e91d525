"""What DID costs beside its backbone, and what splitting its discriminator saves: `python benchmarks/did.py`.

Both ways of the discriminator run in turn in one process on the same weights, forward and backward, and give
the same numbers, so that their ratio holds on any machine. `--device cuda` measures on a GPU.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from torch import Tensor

from unseen.methods.did import AucHead, Decomposition, dependence
from unseen.models.adversary import Discriminator, derangement, flat_map
from unseen.models.backbone import TimmBackbone
from unseen.models.detector import Detector
from unseen.types import FaceBatch

BATCH = 15


def naive(net: Discriminator, forgery: Tensor, other: Tensor, partner: Tensor) -> tuple[Tensor, Tensor]:
    """Return what `net` says of the same pairs, each pair concatenated and passed through every layer."""
    joint, marginal = (
        net.last(flat_map(net.rest(net.first(torch.cat([forgery, behind], dim=1)))))[:, 0]
        for behind in (other, other[partner])
    )
    return joint, marginal


def seconds(works: dict[str, Callable[[], None]], rounds: int, device: str) -> dict[str, float]:
    """Return the best time of each, taken in turn so that other load meets all alike."""
    best = dict.fromkeys(works, float("inf"))
    for number in range(rounds + 1):
        for name, work in works.items():
            if device != "cpu":
                torch.cuda.synchronize()
            start = time.perf_counter()
            work()
            if device != "cpu":
                torch.cuda.synchronize()
            if number:  # the first round warms up
                best[name] = min(best[name], time.perf_counter() - start)
    return best


def discriminators(channels: int, side: int, device: str) -> dict[str, Callable[[], None]]:
    """Forward and backward of the term, both ways."""
    torch.manual_seed(0)
    net = Discriminator(channels).to(device)
    halves = [torch.randn(BATCH, channels, side, side, device=device, requires_grad=True) for _ in range(2)]
    partner = derangement(BATCH, device)
    with torch.no_grad():
        for one, other in zip(net(*halves, partner), naive(net, *halves, partner), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)

    def run(judge: Callable[..., tuple[Tensor, Tensor]]) -> None:
        net.zero_grad(set_to_none=True)
        (-dependence(*judge(*halves, partner))).backward()

    return {"split": lambda: run(net), "naive": lambda: run(lambda *pair: naive(net, *pair))}


def steps(name: str, side: int, device: str) -> dict[str, Callable[[], None]]:
    """One step of Adam: the backbone with C alone, and with all of DID."""
    torch.manual_seed(0)
    image = torch.rand(BATCH, 3, side, side, device=device)
    domain = torch.arange(BATCH, device=device) % 5
    faces = FaceBatch(image, (domain > 0).long(), domain=domain)
    works: dict[str, Callable[[], None]] = {}
    for title, parts in (("bare", []), ("did", [Decomposition])):
        detector = Detector(TimmBackbone(name, image_size=side), AucHead, parts).to(device)
        detector.progress(0.5)
        optimizer = torch.optim.Adam(detector.parameters(), lr=1e-5, weight_decay=5e-4)

        def step(detector: Detector = detector, optimizer: torch.optim.Optimizer = optimizer) -> None:
            optimizer.zero_grad()
            torch.stack(list(detector.losses(faces).values())).sum().backward()
            optimizer.step()

        works[title] = step
    return works


def main() -> None:
    """Print times and ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--size", type=int, default=224)
    known = parser.parse_args()
    print(f"batch of {BATCH}, {known.device}, {torch.get_num_threads()} threads; best of {known.rounds}")
    for channels in (1280, 2048):
        found = seconds(discriminators(channels, 7, known.device), known.rounds, known.device)
        print(
            f"T on {channels} x 7 x 7, forward and backward: split {1e3 * found['split']:.0f} ms, "
            f"concatenated {1e3 * found['naive']:.0f} ms, ratio {found['naive'] / found['split']:.2f}"
        )
    found = seconds(steps(known.backbone, known.size, known.device), known.rounds, known.device)
    print(
        f"training step of {known.backbone} at {known.size}: bare {1e3 * found['bare']:.0f} ms, "
        f"with DID {1e3 * found['did']:.0f} ms, ratio {found['did'] / found['bare']:.3f}"
    )


if __name__ == "__main__":
    main()
