"""What an interaction score costs beside its bare forward passes: `python benchmarks/explain.py`.

Both run in turn in one process, on the same network and in batches of the same size: the score of a frame,
which hides cells, judges 258 pictures and adds up; and a forward pass of 258 ready pictures. Times are
processor time, so that the ratio holds beside other work; `--device cuda` takes the clock instead.
"""

from __future__ import annotations

import argparse
import time

import torch

from unseen.explain.shapley import interaction
from unseen.models.backbone import TimmBackbone
from unseen.models.detector import Detector
from unseen.models.heads import BinaryHead

PASSES = 16 * 16 + 2


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    known = parser.parse_args()
    cpu = known.device == "cpu"
    torch.manual_seed(0)
    detector = (
        Detector(TimmBackbone(known.backbone, image_size=known.size), BinaryHead).eval().to(known.device)
    )
    pictures = torch.rand(PASSES, 3, known.size, known.size, device=known.device)

    def passes() -> None:
        with torch.inference_mode():
            for start in range(0, PASSES, known.batch_size):
                detector(pictures[start : start + known.batch_size])

    def score() -> None:
        interaction(detector, pictures[:1], batch_size=known.batch_size)

    best = {"passes": float("inf"), "score": float("inf")}
    for number in range(known.rounds + 1):
        for name, work in (("passes", passes), ("score", score)):
            start = time.process_time() if cpu else time.perf_counter()
            work()
            if not cpu:
                torch.cuda.synchronize()
            taken = (time.process_time() if cpu else time.perf_counter()) - start
            if number:  # the first round warms up
                best[name] = min(best[name], taken)
    print(
        f"{known.backbone} at {known.size}, batches of {known.batch_size}: {PASSES} forward passes "
        f"{best['passes']:.2f} s, interaction of a frame {best['score']:.2f} s, "
        f"ratio {best['score'] / best['passes']:.3f} (target 1.1)"
    )


if __name__ == "__main__":
    main()
