"""Everything that costs time, in one run: `python benchmarks/all.py --out bench.json --markdown bench.md`.

Sections: loader, transforms, augment, storage, prepare, engines, steps, inference, evaluation, start, server,
growth. Ratios are of numbers taken in turn in this run; absolute ones belong to this machine and to what else
it did. `--only steps,inference` runs some; `--small` takes tiny networks, to see that all of it works;
`--roofline` adds the GPU's bound (`steps.py`). Without a GPU its column says so.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))
import augment
import caddm
import engines
import loader
import pack
import steps

import detect
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


def of_steps(small: bool) -> Rows:
    """Each method's training step over the bare backbone's."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    half = device.type == "cuda"
    if small:
        rows = steps.measure("test_resnet", 64, 6, 2, device)
        return rows + steps.measure_rffr("test_vit", "tiny", 64, 16, 3, 2, device)
    network = ("tf_efficientnet_b4", 256, 32) if half else ("tf_efficientnet_b4", 224, 9)
    rows = steps.measure(*network, 6, device, half=half)
    vit = ("vit_base_patch16_224", "base") if half else ("vit_tiny_patch16_224", "tiny")
    return rows + steps.measure_rffr(*vit, 224, 16, 16 if half else 6, 6, device)


def of_inference(small: bool) -> Rows:
    """Pictures a second of one network in fp32, bf16, ONNX and int8 ONNX."""
    import onnxruntime
    from safetensors.torch import save_file

    from unseen.export import export_graph
    from unseen.models.backbone import TimmBackbone
    from unseen.models.detector import Detector
    from unseen.models.heads import BinaryHead

    name, side, count = ("test_resnet", 64, 4) if small else ("tf_efficientnet_lite0", 224, 16)
    torch.manual_seed(0)
    detector = Detector(TimmBackbone(name, image_size=side), BinaryHead).eval()
    image = torch.rand(count, 3, side, side)
    picture = image.numpy()

    def in_torch(half: bool) -> None:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=half):
            detector(image)

    works: dict[str, Callable[[], object]] = {"torch fp32": lambda: in_torch(False)}
    works["torch bf16"] = lambda: in_torch(True)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    with tempfile.TemporaryDirectory() as folder:
        state = {key: value.contiguous() for key, value in detector.state_dict().items()}
        save_file(state, Path(folder) / "weights.safetensors")
        graph = export_graph(detector, folder)
        for kind, path in (("onnx", graph), ("onnx int8", quantized(graph))):
            session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
            works[kind] = lambda session=session: session.run(["score"], {"image": picture})
        if torch.cuda.is_available():
            far, there = detector.to("cuda"), image.cuda()

            def on_gpu(half: bool) -> None:
                with torch.inference_mode(), torch.autocast("cuda", torch.bfloat16, enabled=half):
                    far(there).score.cpu()

            works = {"cuda fp32": lambda: on_gpu(False), "cuda bf16": lambda: on_gpu(True)}
        found = {key: min(timed(work) for _ in range(3 if small else 10)) for key, work in works.items()}
    base = next(iter(found.values()))
    return [
        row(f"{k}, {name}, {count} x {side} px", count / s, "pictures/s", base / s) for k, s in found.items()
    ]


def quantized(graph: Path) -> Path:
    """Return the graph in eight bits, as `unseen export` makes it."""
    import onnx

    from unseen.detect.one_file import quantised

    out = graph.with_name("int8.onnx")
    onnx.save(quantised(onnx.load(str(graph))), str(out))
    return out


def apart(module: str, function: str, *words: str) -> Any:
    """Call a benchmark in a small process: the peak of a child counts the memory of whoever started it."""
    code = (
        "import json, sys; sys.path.insert(0, sys.argv[1]); "
        f"import {module}; print(json.dumps({module}.{function}(*sys.argv[2:])))"
    )
    folder = str(Path(__file__).parent)
    run = [sys.executable, "-c", code, folder, *words]
    return json.loads(subprocess.run(run, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def timed(work: Callable[[], object]) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def of_evaluation(small: bool) -> Rows:
    """Seconds and peak memory of writing and measuring score tables of two sizes."""
    rows: Rows = []
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "scores.parquet"
        peaks: list[float] = []
        for count in (2_000, 20_000) if small else (10_000, 130_000):
            seconds, (_, peak), _ = apart("evaluate", "timed", f"write:{count}", str(path))
            peaks.append(peak)
            rows.append(row(f"write {count:,} rows", seconds, "s"))
            rows.append(row(f"write {count:,} rows: peak memory", peak, "MB", peak / peaks[0]))
            seconds, (_, peak), _ = apart("evaluate", "timed", "ours", str(path))
            rows.append(row(f"measure {count:,} rows", seconds, "s"))
            rows.append(row(f"measure {count:,} rows: peak memory", peak, "MB"))
    return rows


def of_start(small: bool) -> Rows:
    """From nothing to an answer, each in a new process; the best of three."""
    words = {
        "import unseen": ["-c", "import unseen"],
        "unseen --help": ["-m", "unseen", "--help"],
    }
    rows: Rows = []
    for what, arguments in words.items():
        run = [sys.executable, *arguments]
        best = min(
            timed(lambda run=run: subprocess.run(run, stdout=subprocess.DEVNULL, check=True))
            for _ in range(3)
        )
        rows.append(row(what, best, "s"))
    best = min(apart("detect", "measure", str(detect.PORTRAIT)) for _ in range(1 if small else 3))
    rows.append(row("unseen detect, a photograph", best[0], "s"))
    rows.append(row("unseen detect, a photograph: peak memory", 1000 * best[2], "MB"))
    return rows


def of_growth(small: bool) -> Rows:
    """How `detect` grows with length, frames and faces, and a training step with its batch."""
    rows: Rows = []
    with tempfile.TemporaryDirectory() as name:
        first: tuple[float, float, float] | None = None
        for seconds in (1, 2) if small else (5, 10, 20, 40):
            clip = Path(name) / f"{seconds}.mp4"
            detect.make_clip(clip, seconds=seconds)
            found = apart("detect", "measure", str(clip), "--frames", "4" if small else "32")
            first = first or found
            rows.append(row(f"detect, clip of {seconds} s, 32 frames", found[0], "s", found[0] / first[0]))
            rows.append(
                row(f"detect, clip of {seconds} s: peak memory", 1000 * found[2], "MB", found[2] / first[2])
            )
        base = 0.0
        for frames in (2, 4) if small else (8, 16, 32, 64):
            cost = apart("detect", "measure", str(clip), "--frames", str(frames))[0]
            base = base or cost
            rows.append(row(f"detect, {frames} frames", cost, "s", cost / base))
        base = 0.0
        for faces in (1, 2) if small else (1, 2, 4, 8):
            path = Path(name) / f"{faces}.png"
            cv2.imwrite(str(path), np.hstack([cv2.imread(str(detect.PORTRAIT))] * faces))
            cost = apart("detect", "measure", str(path))[0]
            base = base or cost
            rows.append(row(f"detect, photograph of {faces} faces", cost, "s", cost / base))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    base = 0.0
    for batch in (2, 4) if small else (4, 8, 16, 32):
        network, side = ("test_resnet", 64) if small else ("resnet18", 224)
        model = steps.detectors(network, side)["bare"]
        step = steps.stepper(model, steps.faces(batch, side, device), device, half=False, fused=False)
        cost = steps.medians({"bare": step}, 3, device)["bare"] / batch
        base = base or cost
        rows.append(row(f"step, batch of {batch}: a picture", 1e3 * cost, "ms", cost / base))
    return rows


def of_server(small: bool) -> Rows:
    """Latency of the API on this machine, from the upload to the verdict; the first one loads the model."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [sys.executable, "-m", "unseen", "serve", "--port", str(port)]
    server = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    root = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            try:
                httpx.get(f"{root}/health", timeout=5)
                break
            except httpx.HTTPError:
                if server.poll() is not None:
                    return [{"what": "inspection through the API", "note": "not run: `unseen serve` ended"}]
                time.sleep(0.1)
        times = [timed(lambda: inspected(root)) for _ in range(2 if small else 5)]
    finally:
        server.terminate()
        server.wait()
    return [
        row("inspection of a photograph, the first", times[0], "s"),
        row("inspection of a photograph, later", min(times[1:]), "s", min(times[1:]) / times[0]),
    ]


def inspected(root: str) -> None:
    """Send a photograph and ask until its verdict is there."""
    content = detect.PORTRAIT.read_bytes()
    answer = httpx.post(f"{root}/v1/inspections", files={"file": ("portrait.jpg", content)}, timeout=60)
    answer.raise_for_status()
    while answer.json().get("status") not in ("done", "failed"):
        time.sleep(0.02)
        answer = httpx.get(f"{root}/v1/inspections/{answer.json()['id']}", timeout=60)


SECTIONS: dict[str, Callable[[bool], Rows]] = {
    "loader": of_loader,
    "transforms": of_transforms,
    "augment": of_augment,
    "storage": of_storage,
    "prepare": of_prepare,
    "engines": of_engines,
    "steps": of_steps,
    "inference": of_inference,
    "evaluation": of_evaluation,
    "start": of_start,
    "server": of_server,
    "growth": of_growth,
}


def markdown(found: dict[str, Rows], machine: dict[str, Any]) -> str:
    """One table a section; what ran on a processor and what on a GPU in columns of their own."""
    gpu = machine["gpu"]
    lines = [
        f"{machine['processor']}, {machine['cores']} cores, load {machine['load']:.1f}; GPU: {gpu or NO_GPU}"
    ]
    for name, rows in found.items():
        lines += ["", f"## {name}", "", "| what | CPU | GPU | ratio |", "|---|---|---|---|"]
        on_gpu = gpu is not None and name in ("steps", "inference", "roofline")
        for r in rows:
            value = r.get("note") or f"{r['value']:,.3g} {r['unit']}"
            ratio = "" if r.get("ratio") is None else f"{r['ratio']:.2f}"
            if "added_share" in r:
                ratio += f" (by itself {1 + r['added_share']:.3f}, arithmetic {r['arithmetic']:.3f})"
            gpu_names = ("steps", "inference", "roofline")
            other = value if on_gpu else NO_GPU if name in gpu_names else "-"
            lines.append(f"| {r['what']} | {'-' if on_gpu else value} | {other} | {ratio} |")
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> None:
    """Run sections and write both files."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default=",".join(SECTIONS))
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--roofline", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("bench.json"))
    parser.add_argument("--markdown", type=Path, default=Path("bench.md"))
    known = parser.parse_args(arguments)
    cv2.setNumThreads(1)
    names = known.only.split(",")
    if unknown := set(names) - set(SECTIONS):
        parser.error(f"no section {', '.join(sorted(unknown))}; there are {', '.join(SECTIONS)}")
    machine = {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }
    found: dict[str, Rows] = {}
    for name in names:
        print(name, flush=True)
        found[name] = SECTIONS[name](known.small)
    if known.roofline:
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        networks = {"tf_efficientnet_b4": 256, "vit_base_patch16_224": 224}
        if known.small:
            networks = {"test_resnet": 64, "test_vit": 64}
        count, rounds = (6, 2) if known.small else (64, 20)
        found["roofline"] = steps.roofline(networks, count, rounds, device, half=device.type == "cuda")
    known.out.write_text(json.dumps({"machine": machine, **found}, indent=2), encoding="utf-8")
    known.markdown.write_text(markdown(found, machine), encoding="utf-8")
    print(f"{known.out}, {known.markdown}")


if __name__ == "__main__":
    main()
