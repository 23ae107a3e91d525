"""How many crops a second one core decodes, aligns and flips: `python benchmarks/loader.py`.

The crops have 400 x 400 pixels, are made from matplotlib's sample portrait and stored as `prepare` does.
Beside them runs the same pipeline with Pillow as the decoder, in the same process, so that the ratio holds on
any machine.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import cv2
import matplotlib
import numpy as np
from PIL import Image

from unseen.data.dataset import FaceDataset
from unseen.data.samplers import Draw
from unseen.data.transforms import AlignFace, Flip
from unseen.media.crop import encode_crop
from unseen.methods.sbi import SelfBlend
from unseen.types import FaceRecord, FaceSample, Label

SIDE = 400


def landmarks() -> np.ndarray:
    """Return 81 points laid out like a face that fills the middle of the crop."""
    angle = np.linspace(0, np.pi, 17)
    jaw = np.column_stack([200 - 90 * np.cos(angle), 210 + 100 * np.sin(angle)])
    brows = np.column_stack([np.r_[np.linspace(130, 185, 5), np.linspace(215, 270, 5)], np.full(10, 165)])
    nose = np.r_[
        np.column_stack([np.full(4, 200), np.linspace(185, 235, 4)]),
        np.column_stack([np.linspace(180, 220, 5), np.full(5, 245)]),
    ]
    circle = np.exp(-2j * np.pi * (np.arange(6) / 6) + 1j * np.pi)
    eyes = [np.column_stack([x + 16 * circle.real, 190 + 7 * circle.imag]) for x in (160, 240)]
    lips = [
        np.column_stack([200 + r * np.cos(a), 275 + 0.4 * r * np.sin(a)])
        for r, a in ((36, np.linspace(-np.pi, np.pi, 13)[:12]), (24, np.linspace(-np.pi, np.pi, 9)[:8]))
    ]
    forehead = np.column_stack([200 - 80 * np.cos(np.linspace(0, np.pi, 13)), np.full(13, 130)])
    return np.concatenate([jaw, brows, nose, *eyes, *lips, forehead]).astype(np.float32)


def rate(work: object, count: int, repeats: int) -> float:
    """Return calls a second of processor time, which other work on the machine stretches less; best round."""
    best = 0.0
    for _ in range(repeats):
        start = time.process_time()
        for i in range(count):
            work(i)  # type: ignore[operator]
        best = max(best, count / (time.process_time() - start))
    return best


def main() -> None:
    """Print the rates."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--crops", type=int, default=400)
    parser.add_argument("--repeats", type=int, default=3)
    known = parser.parse_args()
    cv2.setNumThreads(1)
    portrait = cv2.imread(str(Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"))
    square = cv2.cvtColor(portrait[:512, :512], cv2.COLOR_BGR2RGB)
    square = cv2.GaussianBlur(
        square, (0, 0), 1.5
    )  # without its film grain the file is as large as usual ones
    crop = np.asarray(cv2.resize(square, (SIDE, SIDE), interpolation=cv2.INTER_AREA), np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "crop.jpg"
        size = path.write_bytes(encode_crop(crop))
        record = FaceRecord(str(path), label=Label.REAL, landmarks=landmarks())
        align, flip, blend = AlignFace(256), Flip(), SelfBlend()
        faces = FaceDataset([record], [align, flip])
        made = FaceDataset([record], [align, flip], synthesise=blend)

        def with_pillow(i: int) -> FaceSample:
            rng = np.random.default_rng([0, 0, i])
            image = np.asarray(Image.open(path).convert("RGB"))
            sample = FaceSample(image, Label.REAL, record, landmarks=record.landmarks)
            return flip(align(sample, rng), rng)

        ours = rate(lambda i: faces[Draw(0, 0, i)], known.crops, known.repeats)
        pillow = rate(with_pillow, known.crops, known.repeats)
        pairs = rate(lambda i: made[Draw(0, 0, i, synthesise=True)], known.crops // 8, known.repeats)
    print(f"crops of {SIDE} x {SIDE}, {size / 1000:.0f} kB, as `prepare` stores them; one core")
    print(f"decode + AlignFace(256) + Flip    {ours:7.0f} crops/s")
    print(f"the same, decoded by Pillow       {pillow:7.0f} crops/s   ratio {ours / pillow:.2f}")
    print(f"with a self-blended fake of each  {pairs:7.0f} pairs/s   {1000 / pairs:.1f} ms a pair")


if __name__ == "__main__":
    main()
