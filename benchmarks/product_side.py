"""Sections of `all.py` about what is used: inference, evaluation, start, growth, server."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))
import steps
from data_side import Rows, row

import detect


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
