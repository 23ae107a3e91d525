"""Sections of `all.py` about data: loader, transforms, storage, `prepare`, and its two engines."""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))
import augment
import caddm
import engines
import loader
import pack
import steps

from unseen.data.dataset import FaceDataset
from unseen.data.samplers import Draw, Shuffled
from unseen.media.crop import encode_crop
from unseen.types import FaceRecord, FaceSample, Label

NO_GPU = "not run: no GPU was lent"
Rows = list[dict[str, Any]]


def row(what: str, value: float, unit: str, ratio: float | None = None, **more: Any) -> dict[str, Any]:
    """One line of the table."""
    return {"what": what, "value": value, "unit": unit, **({} if ratio is None else {"ratio": ratio}), **more}


def crops(folder: Path, count: int) -> list[FaceRecord]:
    """Crops as `prepare` stores them, each with noise of its own."""
    sample = caddm.faces()
    image = cv2.resize(sample.image, (loader.SIDE, loader.SIDE))
    image = cv2.GaussianBlur(image, (0, 0), 1.5)
    records = []
    for i in range(count):
        path = folder / f"{i:05d}.jpg"
        shifted = np.roll(image, 3 * i, 1)
        path.write_bytes(encode_crop(np.ascontiguousarray(shifted)))
        label = Label(i % 2)
        method = "swap" if i % 2 else "real"
        records.append(
            FaceRecord(str(path), label, "made", f"v{i}", method=method, landmarks=loader.landmarks())
        )
    return records


def of_loader(small: bool) -> Rows:
    """Crops a second of one core, of workers, and of the cores beside one GPU."""
    from unseen.data.transforms import AlignFace, Flip
    from unseen.methods.sbi import SelfBlend
    from unseen.train.loaders import BatchStream, FaceBatches, make_loader

    rows: Rows = []
    with tempfile.TemporaryDirectory() as name:
        records = crops(Path(name), 32 if small else 400)
        faces = FaceDataset(records, [AlignFace(256), Flip()])
        one = loader.rate(lambda i: faces[Draw(i % len(records), 0, i)], len(records), 2)
        rows.append(row("decode, AlignFace(256), Flip: one core", one, "crops/s", 1.0))
        first, busy = 0.0, 0.0
        for workers in (1, 2) if (os.cpu_count() or 1) < 8 else (1, 2, 4, 8, 16):
            batches = iter(
                make_loader(FaceBatches(faces), BatchStream(Shuffled(16), records, seed=0), workers=workers)
            )
            for _ in range(4 * workers):
                next(batches)
            rate = busy = 0.0
            for _ in range(1 if small else 4):  # the best round of each, as for one core
                start, before, count = time.perf_counter(), processor(), 24 if small else 40 * workers
                for _ in range(count):
                    next(batches)
                rate = max(rate, 16 * count / (time.perf_counter() - start))
                busy = max(busy, 16 * count / (processor() - before))
            first = first or rate
            rows.append(row(f"the same, {workers} workers, wall clock", rate, "crops/s", rate / first))
            rows.append(
                row(f"the same, {workers} workers, a second of processor", busy, "crops/s", busy / one)
            )
            del batches
        reals = [replace(record, label=Label.REAL) for record in records]
        pairs = FaceDataset(reals, [AlignFace(256), Flip()], synthesise=SelfBlend())
        blend = loader.rate(
            lambda i: pairs[Draw(i % len(reals), 0, i, synthesise=True)], 8 if small else 48, 2
        )
        rows.append(row("with a self-blended fake of each, one core", 2 * blend, "faces/s", 2 * blend / one))
    for what, rate in (("", busy), (", with self-blended fakes", 2 * blend)):
        rows.append(row(f"16 cores, reckoned as 16 times one{what}", 16 * rate, "faces/s"))
        rows += over_step(16 * rate, small)
    return rows


def processor() -> float:
    """Seconds of processor so far, of this process and its workers."""
    spent = time.process_time()
    for worker in multiprocessing.active_children():
        facts = Path(f"/proc/{worker.pid}/stat").read_text().rpartition(")")[2].split()
        spent += (int(facts[11]) + int(facts[12])) / os.sysconf("SC_CLK_TCK")
    return spent


def over_step(rate: float, small: bool) -> Rows:
    """What 16 cores deliver over what one GPU learns of, EfficientNet-B4 at 256 pixels; target 1.2."""
    what = "loader's rate over the step's, 16 cores, B4 at 256"
    if not torch.cuda.is_available():
        return [
            row("a step that this feeds 1.2 times over takes at most", rate / 1.2, "faces/s"),
            {"what": what, "note": NO_GPU},
        ]
    network, side, batch = ("test_resnet", 64, 8) if small else ("tf_efficientnet_b4", 256, 64)
    device = torch.device("cuda")
    model = steps.detectors(network, side)["bare"]
    step = steps.stepper(model, steps.faces(batch, side, device), device, half=True, fused=True)
    learned = batch / steps.medians({"bare": step}, 10, device)["bare"]
    return [row(what, rate / learned, "times", rate / learned)]


def of_transforms(small: bool) -> Rows:
    """Milliseconds of one core a sample, of each transform by itself."""
    from unseen.data.distort import Distort
    from unseen.data.erasing import LandmarkMask, RandomMask
    from unseen.data.photometric import Blur, ColorJitter, Downscale, Grayscale, JpegCompress, Noise
    from unseen.data.transforms import AlignFace, Flip
    from unseen.methods.caddm import MultiScaleSwap
    from unseen.methods.sbi import SelfBlend

    sample = caddm.faces()
    rng = np.random.default_rng(0)
    aligned = AlignFace(256)(sample, rng)
    works: dict[str, Callable[[int], object]] = {"AlignFace(256)": lambda i: AlignFace(256)(sample, rng)}
    always = (Blur(p=1), ColorJitter(p=1), Downscale(p=1), JpegCompress(p=1), Noise(p=1))
    for transform in (Flip(p=1), Grayscale(), Distort(), *always):
        works[type(transform).__name__] = lambda i, t=transform: t(aligned, np.random.default_rng(i))
    for transform in (LandmarkMask(p=1), RandomMask(p=1), MultiScaleSwap()):
        works[type(transform).__name__] = lambda i, t=transform: t(sample, np.random.default_rng(i))
    blend = SelfBlend()
    real = FaceSample(sample.source, Label.REAL, FaceRecord("a.png", Label.REAL), landmarks=sample.landmarks)
    works["SelfBlend, a pair"] = lambda i: blend.pair(real, np.random.default_rng(i))
    found = {name: caddm.cost(work, 3 if small else 30, 2) for name, work in works.items()}
    return [row(name, ms, "ms", ms / found["AlignFace(256)"]) for name, ms in found.items()]


def of_augment(small: bool) -> Rows:
    """Photometric transforms one by one on the processor, and a batch at once on the device."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return augment.measure(64, 16, 1, device) if small else augment.measure(256, 32, 5, device)


def of_storage(small: bool) -> Rows:
    """Loose files, tar shards, Parquet."""
    return pack.measure(200 if small else 2000)


def of_prepare(small: bool) -> Rows:
    """Files a second of `unseen prepare` with one and two workers, and what a million clips cost."""
    with tempfile.TemporaryDirectory() as name:
        counts = (8, 5, 1) if small else (240, 16, 10)
        rows: Rows = []
        for files in engines.both_kinds(Path(name), *counts):
            rows += engines.compare("prepare", files, [("local", 1), ("local", 2)], 1, pinned=True)
    (one,) = [r["value"] for r in rows if "clips, files a second of processor: local, 1 " in r["what"]]
    return [*rows, row("a million such clips", 1e6 / one / 3600, "core-hours")]


def of_engines(small: bool) -> Rows:
    """The local engine beside Ray's."""
    rows: Rows = []
    with tempfile.TemporaryDirectory() as name:
        pictures, videos = engines.both_kinds(Path(name), *((8, 5, 1) if small else (600, 32, 10)))
        for verb, files in (("prepare", pictures), ("detect", pictures), ("prepare", videos)):
            rows += engines.compare(verb, files, [("local", 2), ("ray", 2)], 1)
    return rows
