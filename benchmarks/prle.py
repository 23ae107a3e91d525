"""What PRLE costs: fusion, masks, storage, a zoo's maps, a training step: `python benchmarks/prle.py`.

Beside ours run, in the same process and on one thread, the literal loop of eq. 6 to 8 and Grad-CAM in the
manner of pytorch-grad-cam (hooks on the last layer, a backward pass through the whole network, maps enlarged
one by one on the CPU), so that the ratios hold on any machine. Times are of the processor, which other work
on the machine stretches less. Maps are made by untrained networks, and for fusion and storage by smooth noise
of the zoo's resolutions (10 x 10, 10 x 10, 9 x 9).
"""

from __future__ import annotations

import argparse
import copy
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from unseen.data.regions import RULE, SHARDS, FaceRegions, RegionStore, pack_shard
from unseen.data.transforms import AlignFace, Flip
from unseen.explain.gradcam import class_activation_map
from unseen.methods.prle import Fusion, PrimaryRegionMask, fuse_neighbors
from unseen.models.backbone import TimmBackbone
from unseen.models.detector import Detector
from unseen.models.folding import fold_norms
from unseen.models.heads import BinaryHead
from unseen.types import FaceBatch, FaceRecord, FaceSample, Label


def seconds(work: Callable[[], object], repeats: int) -> float:
    """Median processor seconds of a call, after one that is not counted."""
    work()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return float(np.median(times))


def by_loop(maps: np.ndarray, threshold: float = 0.3, difference: float = 0.15) -> np.ndarray:
    """Eq. 6 to 8 pixel by pixel and pair by pair, as a script would."""
    count, height, width = maps.shape
    result = np.zeros((height, width), maps.dtype)
    for y in range(height):
        for x in range(width):
            average = maps[:, y, x].mean()
            if average > threshold:
                result[y, x] = average
                continue
            near = maps[:, max(0, y - 1) : y + 2, max(0, x - 1) : x + 2]
            fires = False
            for j in range(count):
                for k in range(count):
                    fires = fires or np.abs(near[j] - maps[k, y, x]).mean() > difference
            result[y, x] = near.max() if fires else 0
    return result


class Hooked:
    """Grad-CAM with hooks, as the common package does it: one forward and one whole backward pass a batch."""

    def __init__(self, detector: nn.Module, layer: nn.Module) -> None:
        self.detector = detector
        self.activations: list[Tensor] = []
        self.gradients: list[Tensor] = []
        layer.register_forward_hook(self._keep)

    def _keep(self, module: nn.Module, given: object, output: Tensor) -> None:
        self.activations.append(output.cpu().detach())
        output.register_hook(lambda slope: self.gradients.append(slope.cpu().detach()))

    def __call__(self, image: Tensor, size: tuple[int, int]) -> np.ndarray:
        """Return maps of the input's size, each between 0 and 1."""
        self.activations, self.gradients = [], []
        logits = self.detector(image).logits
        self.detector.zero_grad()
        logits[:, 1].sum().backward(retain_graph=True)
        weights = self.gradients[-1].numpy().mean((2, 3), keepdims=True)
        found = []
        for heat in np.maximum((weights * self.activations[-1].numpy()).sum(1), 0):
            heat = (heat - heat.min()) / (1e-7 + heat.max())
            found.append(cv2.resize(np.float32(heat), size))
        return np.stack(found)


def smooth(count: int, side: int, seed: int) -> np.ndarray:
    """Maps like a zoo's: a few warm cells, enlarged."""
    rng = np.random.default_rng(seed)
    maps = []
    for t in range(count):
        cells = np.maximum(rng.normal(-0.3, 0.5, (10 - t // 2, 10 - t // 2)), 0)
        wide = cv2.resize(np.float32(cells / cells.max()), (side, side), interpolation=cv2.INTER_LINEAR)
        maps.append(np.clip(wide, 0, 1))
    return np.stack(maps)


def store_of(folder: Path, faces: int, side: int, crop: int) -> RegionStore:
    """Write a store of smooth maps."""
    rows = []
    for i in range(faces):
        maps = smooth(3, side, i)
        rank = Fusion().rank(torch.from_numpy(maps)).numpy()
        native = tuple(np.float16(cv2.resize(m, (10, 10))) for m in maps)
        window = (30, 20, crop - 30, crop - 40)
        rows.append(
            FaceRegions(f"{i}.jpg", "", (crop, crop), window, rank, native, np.zeros((3, 2, 3), np.float32))
        )
    (folder / SHARDS).mkdir(parents=True)
    (folder / RULE).write_text("{}")
    (folder / SHARDS / "00000.regions").write_bytes(pack_shard({}, rows))
    return RegionStore(folder)


def landmarks(crop: int) -> np.ndarray:
    """Points like a face's in the middle of a crop."""
    from loader import landmarks as points

    return points() * np.float32(crop / 400)


def main() -> None:
    """Print the numbers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--networks", nargs="+", default=["legacy_xception", "tf_efficientnet_b4", "vgg19"])
    known = parser.parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)

    maps = torch.from_numpy(smooth(3, 256, 0))
    ours = seconds(lambda: fuse_neighbors(maps), known.repeats)
    loop = seconds(lambda: by_loop(maps.numpy()), 1)
    same = np.abs(by_loop(maps.numpy()) - fuse_neighbors(maps).numpy()).max()
    print(f"fusion of three 256 x 256 maps    {1 / ours:7.1f} faces/s")
    print(
        f"the literal loop                  {1 / loop:7.2f} faces/s   ratio {loop / ours:.0f}, gap {same:.1g}"
    )
    whole = seconds(lambda: Fusion().rank(maps), known.repeats)
    print(f"fusion and ranks                  {1 / whole:7.1f} faces/s")

    with tempfile.TemporaryDirectory() as name:
        masks(Path(name), known.repeats)

    totals = np.zeros(3)
    for network in known.networks:
        times = zoo_times(network, known.batch_size)
        totals += times
        report(f"maps of {network}", known.batch_size, times)
    report("maps of the zoo", known.batch_size, totals)


def report(what: str, count: int, times: np.ndarray) -> None:
    """Print faces a second, beside the hooks' and with half precision."""
    hooks, mine, half = times
    print(f"{what:33} {count / mine:7.2f} faces/s   hooks {count / hooks:.2f}, ratio {hooks / mine:.1f}")
    print(f"{'  with --bfloat16':33} {count / half:7.2f} faces/s   ratio {hooks / half:.1f}")


def zoo_times(network: str, count: int, size: int = 299) -> np.ndarray:
    """Return the seconds of a batch: by hooks, ours, ours in bfloat16."""
    torch.manual_seed(0)
    detector = Detector(TimmBackbone(network, image_size=size), BinaryHead).eval()
    image = torch.rand(count, 3, size, size)
    packed = image.contiguous(memory_format=torch.channels_last)
    fresh = Detector(fold_norms(detector.backbone), copy.deepcopy(detector.head))
    fresh.to(memory_format=torch.channels_last)
    last = [m for m in detector.backbone.modules() if isinstance(m, nn.Conv2d)][-1]
    hooked = Hooked(detector, last)

    def half() -> None:
        with torch.autocast("cpu", torch.bfloat16):
            class_activation_map(fresh, packed)

    theirs = seconds(lambda: hooked(image, (size, size)), 2)
    return np.array([theirs, seconds(lambda: class_activation_map(fresh, packed), 3), seconds(half, 3)])


def masks(folder: Path, repeats: int) -> None:
    """Mask, storage, and what a training step pays."""
    store = store_of(folder / "regions", 64, 256, 400)
    size = sum(p.stat().st_size for p in folder.rglob("*.regions")) / len(store)
    mask = PrimaryRegionMask(str(folder / "regions"), p=1.0)
    image = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    record = FaceRecord("0.jpg", Label.FAKE)
    with_map = FaceSample(image, Label.FAKE, record, attention=store.read("0.jpg").rank)
    crop = np.random.default_rng(0).integers(0, 256, (400, 400, 3), dtype=np.uint8)
    face = FaceSample(crop, Label.FAKE, record, landmarks=landmarks(400))
    rng = np.random.default_rng(0)

    def many(work: Callable[[], object]) -> float:
        return seconds(lambda: [work() for _ in range(200)], repeats) / 200

    print(f"storage, native maps included     {size / 1000:7.1f} kB a face")
    print(f"mask of a 256 x 256 face          {1000 * many(lambda: mask(with_map, rng)):7.3f} ms")
    read = many(lambda: mask(face, rng))
    print(f"read, enlarge and mask, 400 x 400 {1000 * read:7.3f} ms")
    align, flip = AlignFace(256), Flip()
    half = PrimaryRegionMask(str(folder / "regions"))

    def load(masked: bool) -> FaceSample:
        sample = half(face, rng) if masked else face
        return flip(align(sample, rng), rng)

    plain, more = many(lambda: load(False)), many(lambda: load(True))
    print(f"align and flip, with PRLE (p .5)  {1000 * more:7.3f} ms   without {1000 * plain:.3f} ms")

    torch.manual_seed(0)
    detector = Detector(TimmBackbone("resnet50", image_size=256), BinaryHead).train()
    detector.to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(detector.parameters(), lr=1e-4)
    batch = FaceBatch(torch.rand(4, 3, 256, 256), torch.tensor([0, 1, 0, 1]))

    def step(batch: FaceBatch) -> None:
        optimizer.zero_grad()
        torch.stack(list(detector.losses(batch).values())).sum().backward()
        optimizer.step()

    each = seconds(lambda: step(batch), 5) / 4
    weighted = replace(batch, weight=torch.ones(4))
    weights = seconds(lambda: step(weighted), 5) / 4
    print(f"training step, ResNet-50 at 256   {1000 * each:7.1f} ms a face, weighted {1000 * weights:.1f} ms")
    share = (more - plain) / (each + plain)
    print(f"overhead of PRLE on one thread    {100 * share:7.2f} % of a step with its loading")


if __name__ == "__main__":
    main()
