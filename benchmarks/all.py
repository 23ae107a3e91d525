"""Everything that costs time, in one run: `python benchmarks/all.py --out bench.json --markdown bench.md`.

Sections: loader, transforms, augment, storage, prepare and engines (`data_side.py`), steps, options,
inference, evaluation, start, server and growth (`product_side.py`). Ratios are of numbers taken in turn in
this run; absolute ones belong to this machine and to what else it did. `--only steps,inference` runs some;
`--small` takes tiny networks, to see that all of it works; `--roofline` adds the GPU's bound (`steps.py`).
Without a GPU its column says so.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import torch

sys.path.insert(0, str(Path(__file__).parent))
import options
import steps
from data_side import NO_GPU, Rows, of_augment, of_engines, of_loader, of_prepare, of_storage, of_transforms
from product_side import of_evaluation, of_growth, of_inference, of_server, of_start


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


def of_options(small: bool) -> Rows:
    """What precision, layout, compiling and a fused optimizer make of a step."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if small:
        names = [name for name in options.OPTIONS if name != "compile"]
        return options.measure("test_resnet", 64, 4, 2, device, names)
    count = 64 if device.type == "cuda" else 8
    return options.measure("tf_efficientnet_b4", 224, count, 5, device, list(options.OPTIONS))


ON_GPU = ("steps", "options", "inference", "roofline")
SECTIONS: dict[str, Callable[[bool], Rows]] = {
    "loader": of_loader,
    "transforms": of_transforms,
    "augment": of_augment,
    "storage": of_storage,
    "prepare": of_prepare,
    "engines": of_engines,
    "steps": of_steps,
    "options": of_options,
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
        on_gpu = gpu is not None and name in ON_GPU
        for r in rows:
            value = r.get("note") or f"{r['value']:,.3g} {r['unit']}"
            ratio = "" if r.get("ratio") is None else f"{r['ratio']:.2f}"
            if "added_share" in r:
                ratio += f" (by itself {1 + r['added_share']:.3f}, arithmetic {r['arithmetic']:.3f})"
            other = value if on_gpu else NO_GPU if name in ON_GPU else "-"
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
