"""What a process holds of a network that is shared out (`trainer.strategy: fsdp`), against all of it.

    python benchmarks/sharding.py [NETWORK ...]       # computed: weights, gradients, both moments of AdamW
    python benchmarks/sharding.py --measure NETWORK   # two processes on this processor, one step each way

Computed is with the very cuts that training makes, of weights without memory, by a process that is told that
it is the first of 1, 2 and 8. Measured are the tensors that a process holds after a step of one picture, and
the largest size of the process beyond what it had before the network was built: that has activations in it,
what is on its way between processes, and freed memory that the C library keeps.
"""

from __future__ import annotations

import argparse
import os
import resource
import socket
import subprocess
import sys

import torch

from unseen.models.backbone import TimmBackbone
from unseen.models.detector import Detector
from unseen.models.heads import BinaryHead
from unseen.train.sharding import blocks, held, roots, share_out, split_groups

NETWORKS = ("vit_large_patch16_224", "tf_efficientnetv2_l")
GB = 1e9


def computed(name: str) -> None:
    """Print a line for each number of processes."""
    from torch.testing._internal.distributed.fake_pg import FakeStore

    for count in (1, 2, 8):
        torch.distributed.init_process_group("fake", store=FakeStore(), rank=0, world_size=count)
        with torch.device("meta"):
            detector = Detector(TimmBackbone(name), BinaryHead)
        detector.to_empty(device="cpu")  # addresses, of which little is touched
        (root,) = roots(detector)
        largest = max(held(block.parameters()) for block in blocks(root))
        share_out(detector)
        weights = held(detector.parameters())
        print(
            f"| {name} | {count} | {weights / GB:.2f} | {4 * weights / GB:.2f} | {largest / GB:.3f} |",
            flush=True,
        )
        torch.distributed.destroy_process_group()


def measured(name: str) -> None:
    """Print the largest memory of either process, both ways."""
    for shared in ("", "shared"):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        world = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, __file__, "--side", name, shared]
        pair = [
            subprocess.Popen(command, env={**os.environ, **world, "RANK": str(rank)}, stdout=subprocess.PIPE)
            for rank in range(2)
        ]
        found = [[float(word) for word in one.communicate()[0].split()] for one in pair]
        tensors, peak = (max(numbers) for numbers in zip(*found, strict=True))
        print(f"| {name} | {'fsdp' if shared else 'ddp'} | {tensors:.2f} | {peak:.2f} |", flush=True)


def side(name: str, shared: str) -> None:
    """Take two steps, and print the GB of what is held after them, and of the process at most."""
    from unseen.train.processes import average_gradients

    torch.distributed.init_process_group("gloo")
    TimmBackbone("test_vit")  # what importing costs is not the network's
    before = _peak()
    torch.manual_seed(0)
    detector = Detector(TimmBackbone(name), BinaryHead)
    if shared:
        share_out(detector)
    optimizer = torch.optim.AdamW(split_groups([{"params": list(detector.parameters())}]))
    for _ in range(2):
        detector(torch.rand(1, 3, detector.image_size, detector.image_size)).score.square().mean().backward()
        average_gradients(detector.parameters())
        optimizer.step()
        learned = list(detector.parameters())
        moments = [t for state in optimizer.state.values() for t in state.values() if t.ndim]
        tensors = held([*learned, *(p.grad for p in learned if p.grad is not None), *moments])
        optimizer.zero_grad()
    print(tensors / GB, _peak() - before)
    torch.distributed.destroy_process_group()


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / GB  # Linux counts in KiB


def main() -> None:
    """Compute, or measure."""
    parser = argparse.ArgumentParser()
    parser.add_argument("networks", nargs="*", default=NETWORKS)
    parser.add_argument("--measure")
    parser.add_argument("--side", nargs=2)
    words = parser.parse_args()
    if words.side:
        side(*words.side)
    elif words.measure:
        print("| network | strategy | tensors, GB | process, GB |\n|---|---|---|---|")
        measured(words.measure)
    else:
        print(
            "| network | processes | weights, GB | and gradients, moments | fetched |\n|---|---|---|---|---|"
        )
        for name in words.networks:
            computed(name)


if __name__ == "__main__":
    main()
