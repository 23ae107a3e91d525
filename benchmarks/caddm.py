"""What CADDM's samples, windows and targets cost on one core: `python benchmarks/caddm.py`.

A crop of 640 x 640 pixels with a face of 250, made from matplotlib's sample portrait; its fake is the same
with the face blurred, tinted and brightened. Beside each number stands a literal alternative in the same
process, so that the ratio holds on any machine: OpenCV's own gradient blending, structure in double
precision, a window summed at every place, and targets a picture at a time with the anchors built anew.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import matplotlib
import numpy as np
import torch

from unseen.data.blend import poisson_blend
from unseen.data.distort import Distort
from unseen.data.transforms import AlignFace, Flip
from unseen.methods.caddm import MultiScaleSwap, anchors, densest_window, dssim
from unseen.models.anchors import SIDES, assign
from unseen.types import FaceRecord, FaceSample, Label

SIDE, FACE = 640, 250


def landmarks() -> np.ndarray:
    """Return 81 points laid out like a face of `FACE` pixels in the middle of the crop."""
    angle = np.linspace(0, np.pi, 17)
    jaw = np.column_stack([-np.cos(angle), 0.1 + np.sin(angle)])
    brows = np.column_stack([np.r_[np.linspace(-0.8, -0.2, 5), np.linspace(0.2, 0.8, 5)], np.full(10, -0.4)])
    bridge = np.column_stack([np.zeros(4), np.linspace(-0.2, 0.2, 4)])
    nostrils = np.column_stack([np.linspace(-0.2, 0.2, 5), np.full(5, 0.3)])
    circle = np.exp(-2j * np.pi * (np.arange(6) / 6) + 1j * np.pi)
    eyes = [np.column_stack([x + 0.17 * circle.real, -0.2 + 0.07 * circle.imag]) for x in (-0.42, 0.42)]
    lips = [
        np.column_stack([r * np.cos(a), 0.6 + 0.4 * r * np.sin(a)])
        for r, a in ((0.36, np.linspace(-np.pi, np.pi, 13)[:12]), (0.24, np.linspace(-np.pi, np.pi, 9)[:8]))
    ]
    angle = np.linspace(0, np.pi, 13)
    forehead = np.column_stack([-np.cos(angle), -0.3 - 0.7 * np.sin(angle)])
    points = np.concatenate([jaw, brows, bridge, nostrils, *eyes, *lips, forehead])
    return (SIDE / 2 + points * FACE / 2).astype(np.float32)


def faces() -> FaceSample:
    """Return the fake with its source."""
    portrait = cv2.imread(str(Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"))
    real = cv2.cvtColor(cv2.resize(portrait[:512, :512], (SIDE, SIDE)), cv2.COLOR_BGR2RGB)
    mask = np.zeros((SIDE, SIDE), np.float32)
    cv2.ellipse(mask, (SIDE // 2, SIDE // 2), (FACE // 2 - 20, FACE // 2), 0, 0, 360, 1.0, -1)
    mask = cv2.GaussianBlur(mask, (0, 0), 4)[..., None]
    other = np.clip(cv2.GaussianBlur(real, (0, 0), 2) + np.array([25.0, 5.0, -15.0]), 0, 255)
    fake = (mask * other + (1 - mask) * real).astype(np.uint8)
    record = FaceRecord("fake.png", Label.FAKE)
    return FaceSample(fake, Label.FAKE, record, source=np.asarray(real, np.uint8), landmarks=landmarks())


def cost(work: Callable[[int], object], count: int, repeats: int) -> float:
    """Return milliseconds of processor time a call: the mean of a round, of the best round."""
    work(0)
    best = np.inf
    for _ in range(repeats):
        start = time.process_time()
        for i in range(count):
            work(i)
        best = min(best, (time.process_time() - start) / count)
    return 1e3 * float(best)


def literal_dssim(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The formula as printed: five blurs by a full 11 x 11 kernel, in double precision."""
    one = cv2.getGaussianKernel(11, 1.5)
    window = one @ one.T
    x, y = a.astype(np.float64), b.astype(np.float64)
    mu, nu = (cv2.filter2D(p, -1, window) for p in (x, y))
    var_x = cv2.filter2D(x * x, -1, window) - mu**2
    var_y = cv2.filter2D(y * y, -1, window) - nu**2
    both = cv2.filter2D(x * y, -1, window) - mu * nu
    c1, c2 = 2.55**2, 7.65**2
    return (1 - (2 * mu * nu + c1) * (2 * both + c2) / ((mu**2 + nu**2 + c1) * (var_x + var_y + c2))) / 2


def literal_window(weights: np.ndarray, height: int, width: int) -> tuple[int, int]:
    """Every place, each summed by itself."""
    best, where = -1.0, (0, 0)
    for y in range(weights.shape[0] - height + 1):
        for x in range(weights.shape[1] - width + 1):
            total = float(weights[y : y + height, x : x + width].sum())
            if total > best:
                best, where = total, (x, y)
    return where


def literal_targets(boxes: np.ndarray) -> np.ndarray:
    """Positive anchors of one picture, anchors built anew as in the public loader."""
    table = []
    for side, step, (low, high) in zip(
        SIDES, (32, 45, 75, 224), ((40, 80), (80, 120), (120, 160), (224, 224)), strict=True
    ):
        for row in range(side):
            for column in range(side):
                x, y = (column + 0.5) * step / 224, (row + 0.5) * step / 224
                table += [(x, y, low / 224, high / 224), (x, y, high / 224, low / 224)]
    centre = np.array(table)
    corner = np.concatenate([centre[:, :2] - centre[:, 2:] / 2, centre[:, :2] + centre[:, 2:] / 2], 1)
    low = np.maximum(boxes[:, None, :2], corner[:, :2])
    size = np.clip(np.minimum(boxes[:, None, 2:], corner[:, 2:]) - low, 0, None)
    both = size.prod(2)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(1)[:, None] + (corner[:, 2:] - corner[:, :2]).prod(1)
    overlap = both / (area - both)
    overlap[np.arange(len(boxes)), overlap.argmax(1)] = 2
    chosen = boxes[overlap.argmax(0)]
    shift = ((chosen[:, :2] + chosen[:, 2:]) / 2 - centre[:, :2]) / (0.1 * centre[:, 2:])
    scale = np.log((chosen[:, 2:] - chosen[:, :2]) / centre[:, 2:]) / 0.2
    return np.concatenate([shift, scale, overlap.max(0)[:, None] >= 0.5], 1)


def main() -> None:
    """Print the costs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=400)
    parser.add_argument("--repeats", type=int, default=3)
    known = parser.parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    sample, repeats = faces(), known.repeats
    assert sample.source is not None
    swap, flip, distort = MultiScaleSwap(), Flip(), Distort()
    align = AlignFace(224, template="caddm", shift=0.11, zoom=0.11, rotation=30)

    def whole(i: int) -> FaceSample:
        rng = np.random.default_rng([0, 0, i])
        done = sample
        for step in (swap, align, flip, distort):
            done = step(done, rng)
        return done

    def only_swap(i: int) -> FaceSample:
        return swap(sample, np.random.default_rng([0, 0, i]))

    total, swapping = cost(whole, known.samples, repeats), cost(only_swap, known.samples, repeats)
    low = SIDE // 2 - FACE // 2
    part = np.s_[low - 10 : low + FACE + 10, low : low + FACE]
    over, under = np.ascontiguousarray(sample.image[part]), np.ascontiguousarray(sample.source[part])
    mask = np.zeros(over.shape[:2], np.float32)
    cv2.ellipse(mask, (FACE // 2, FACE // 2 + 10), (FACE // 2 - 6, FACE // 2), 0, 0, 360, 1.0, -1)
    bright = (mask * 255).astype(np.uint8)
    x, y, width, height = cv2.boundingRect(bright)
    middle = (x + width // 2, y + height // 2)
    few = max(3, known.samples // 40)
    rows = [
        ("a fake sample: swap, align, flip, distort", total, None),
        ("  of that the swap", swapping, None),
        (
            "gradient blending, face of 250 px",
            cost(lambda i: poisson_blend(over, under, mask), few, repeats),
            cost(lambda i: cv2.seamlessClone(over, under, bright, middle, cv2.NORMAL_CLONE), few, repeats),
        ),
        (
            "structural dissimilarity, 224 x 224 x 3",
            cost(lambda i: dssim(over[:224, :224], under[:224, :224]), few, repeats),
            cost(lambda i: literal_dssim(over[:224, :224], under[:224, :224]), few, repeats),
        ),
    ]
    weights = np.random.default_rng(0).random((224, 224)).astype(np.float32)
    assert densest_window(weights, 80, 120) == literal_window(weights, 80, 120)
    rows.append(
        (
            "densest window, 80 x 120 of 224 x 224",
            cost(lambda i: densest_window(weights, 80, 120), 10 * few, repeats),
            cost(lambda i: literal_window(weights, 80, 120), 1, 1),
        )
    )
    draw = torch.Generator().manual_seed(0)
    corner = torch.rand(128, 1, 2, generator=draw) * 0.6
    windows = torch.cat([corner, corner + 0.2 + 0.2 * torch.rand(128, 1, 2, generator=draw)], 2)
    boxes = torch.cat([torch.tensor([0.0, 0.0, 1.0, 1.0]).expand(128, 1, 4), windows], 1)
    table, plain = anchors(), boxes.double().numpy()
    found = assign(boxes, table)[1].numpy()
    assert all((literal_targets(plain[i])[:, 4] == found[i]).all() for i in range(128))
    rows.append(
        (
            "targets of a batch of 128",
            cost(lambda i: assign(boxes, table), 10 * few, repeats),
            cost(lambda i: [literal_targets(one) for one in plain], 2, repeats),
        )
    )
    print(f"one core; a crop of {SIDE} x {SIDE} with a face of {FACE}; milliseconds, decoding not counted")
    for name, ours, other in rows:
        beside = "" if other is None else f"   literally {other:8.2f}   ratio {other / ours:6.1f}"
        print(f"{name:44s} {ours:7.2f}{beside}")


if __name__ == "__main__":
    main()
