"""Photometric transforms on the processor and moved to the device: `python benchmarks/augment.py`.

Two things: what a worker still delivers when they are moved (crops a second of processor time, one core), and
what a batch of them costs beside as many pictures one by one. The batch runs on the GPU if there is one; on a
processor it is no gain, and shows that.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import caddm
import cv2
import loader
import numpy as np
import torch

from unseen.data.batched import changes_of
from unseen.data.dataset import FaceDataset, collate
from unseen.data.distort import Distort
from unseen.data.photometric import Blur, ColorJitter, Downscale, Grayscale, JpegCompress, Noise
from unseen.data.samplers import Draw
from unseen.data.transforms import AlignFace, Flip, Transform
from unseen.media.crop import encode_crop
from unseen.types import FaceRecord, Label

DEFAULT = "default_lite0: six transforms"
CHAINS: dict[str, list[Transform]] = {  # as in the recipes of these names
    "sbi: two ColorJitter, JpegCompress": [
        ColorJitter(0.3, channels=20, brightness=0, contrast=0, saturation=0),
        ColorJitter(0.3, channels=0, brightness=0.3, contrast=0.3, saturation=0),
        JpegCompress(),
    ],
    DEFAULT: [
        ColorJitter(0.5, brightness=0.12, contrast=0.2, channels=12, saturation=0.3, hue=4),
        Grayscale(0.05),
        Downscale(0.2),
        Blur(0.15),
        Noise(0.2),
        JpegCompress(0.5),
    ],
    "caddm: Distort": [Distort()],
}
ALONE: list[Transform] = [Grayscale(), ColorJitter(1), Blur(1), Noise(1), Downscale(1), JpegCompress(1)]


def measure(side: int, size: int, repeats: int, device: torch.device) -> list[dict[str, Any]]:
    """Return rows of `what`, `value`, `unit` and, where two things are compared, `ratio`."""
    rows = of_loader(side, size * 4, repeats)
    sample = AlignFace(side)(caddm.faces(), np.random.default_rng(0))
    chains = {type(t).__name__: [t] for t in ALONE} | CHAINS
    for name, chain in chains.items():
        plain = seconds(lambda i, c=chain: [one(c, sample, size * i + k) for k in range(size)], repeats)
        late = [
            [replace(sample, changes=drawn(chain, size * i + k)) for k in range(size)] for i in range(repeats)
        ]
        batches = [(collate([batch]).image.to(device), changes_of(batch)) for batch in late]

        def together(i: int, batches: list[Any] = batches) -> None:
            image, changes = batches[i]
            for change in changes:
                image = change.to(device)(image)
            if device.type == "cuda":
                torch.cuda.synchronize()

        there = seconds(together, repeats, wall=device.type == "cuda")
        rows += [
            {"what": f"{name}, one by one", "value": 1000 * plain / size, "unit": "ms"},
            {
                "what": f"{name}, {size} at once on {device.type}",
                "value": 1000 * there / size,
                "unit": "ms",
                "ratio": there / plain,
            },
        ]
    return rows


def one(chain: list[Transform], sample: Any, key: int) -> Any:
    """Apply a chain to one picture."""
    rng = np.random.default_rng(key)
    for transform in chain:
        sample = transform(sample, rng)
    return sample


def drawn(chain: list[Any], key: int) -> Any:
    """Draw the chain's numbers for one picture."""
    rng = np.random.default_rng(key)
    return tuple(change for transform in chain for change in transform.drawn(rng))


def seconds(work: Callable[[int], object], repeats: int, *, wall: bool = False) -> float:
    """Return the median of calls: processor time, or the clock's for a GPU. The first call does not count."""
    clock = time.perf_counter if wall else time.process_time
    work(0)
    found = []
    for i in range(repeats):
        start = clock()
        work(i)
        found.append(clock() - start)
    return float(np.median(found))


def of_loader(side: int, count: int, repeats: int) -> list[dict[str, Any]]:
    """Crops a second of one core without photometric transforms, with them, and with them moved."""
    image = cv2.resize(caddm.faces().image, (loader.SIDE, loader.SIDE))
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "crop.jpg"
        path.write_bytes(encode_crop(cv2.GaussianBlur(image, (0, 0), 1.5)))
        record = FaceRecord(str(path), Label.REAL, landmarks=loader.landmarks())
        start = [AlignFace(side), Flip()]
        bare = 0.0
        for chain, moves in [("", False)] + [(name, moves) for name in CHAINS for moves in (False, True)]:
            faces = FaceDataset(
                [record],
                [*start, *CHAINS.get(chain, [])],
                photometric="device" if moves else "processor",
            )
            # A batch of 16, as a worker sends it: numbers are brought into tables there as well.
            batches = loader.rate(
                lambda i, f=faces: collate([f[Draw(0, i, k)] for k in range(16)]), count // 16, repeats
            )
            bare = bare or 16 * batches
            what = f"{chain}, {'moved' if moves else 'on the processor'}" if chain else "none"
            rows.append(
                {
                    "what": f"crops: {what}",
                    "value": 16 * batches,
                    "unit": "crops/s",
                    "ratio": 16 * batches / bare,
                }
            )
    return rows


def main() -> None:
    """Print the rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=5)
    known = parser.parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    for found in measure(known.side, known.batch, known.repeats, device):
        ratio = f"{found['ratio']:8.2f}" if "ratio" in found else ""
        print(f"{found['what']:60s} {found['value']:9.2f} {found['unit']:8s}{ratio}")


if __name__ == "__main__":
    main()
