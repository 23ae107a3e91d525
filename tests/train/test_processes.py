"""Several processes: each method learns in two of them what it learns in one with twice the batches."""

from __future__ import annotations

import copy
import csv
import json
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch import nn

from tests.regions.conftest import zoo
from unseen.data.manifest import Manifest
from unseen.recipe import TrainerSettings, read_recipe
from unseen.regions.store import primary_regions
from unseen.train.fit import train
from unseen.train.processes import average, average_gradients, gather, layout
from unseen.types import InputError, Label

__all__ = ["zoo"]

ROOT = Path(__file__).parents[2]


# --- how many processes -----------------------------------------------------------------------------------


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in ("TORCHELASTIC_RUN_ID", "SLURM_NTASKS", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def test_one_process_without_a_launcher(alone: pytest.MonkeyPatch) -> None:
    assert layout(TrainerSettings(max_steps=1, accelerator="cpu")) == (1, 1, False)
    assert layout(TrainerSettings(max_steps=1, accelerator="cpu", devices=2)) == (2, 1, True)
    assert layout(TrainerSettings(max_steps=1, accelerator="cpu", devices=1, num_nodes=2)) == (1, 2, True)
    assert layout(TrainerSettings(max_steps=1, accelerator="cpu", strategy="ddp"))[2]


def test_torchrun_and_slurm_say_how_many(alone: pytest.MonkeyPatch) -> None:
    settings = TrainerSettings(max_steps=1, accelerator="cpu")
    for name, value in {"SLURM_NTASKS": "8", "SLURM_PROCID": "3", "SLURM_NNODES": "2"}.items():
        alone.setenv(name, value)
    assert layout(settings) == (4, 2, True)
    alone.setenv("SLURM_JOB_NAME", "interactive")  # a shell on a node: nobody started eight
    assert layout(settings) == (1, 1, False)
    for name, value in {"TORCHELASTIC_RUN_ID": "x", "LOCAL_WORLD_SIZE": "2", "WORLD_SIZE": "6"}.items():
        alone.setenv(name, value)
    assert layout(settings) == (2, 3, True)
    with pytest.raises(InputError, match="devices 4 on 1 nodes, but 2 processes on each of 3") as error:
        layout(TrainerSettings(max_steps=1, devices=4))
    assert error.value.reason == "processes"


def test_alone_nothing_is_shared() -> None:
    layer = nn.Linear(2, 1)
    average_gradients(layer.parameters())
    assert layer.weight.grad is None
    value = torch.tensor([1.0, float("nan")])
    assert average(value) is value and gather("mine") == ["mine"]


# --- every method in two processes ------------------------------------------------------------------------

# What is drawn at random differs by process, so that these learn otherwise than one process would.
RANDOM = ("did_whole", "inpainter")


def recipes(manifest: Path, regions: Path, inpainter: Path) -> dict[str, dict]:
    """A recipe of each method: no dropout and no batch norm where one process is to learn the same."""
    vit = {"class_path": "TimmBackbone", "init_args": {"name": "test_vit", "image_size": 64}}
    align = {"class_path": "AlignFace", "init_args": {"size": 64}}
    balanced = {"class_path": "Balanced", "init_args": {"batch_size": 4}}
    plain = {
        "detector": {"backbone": vit, "head": "BinaryHead"},
        "data": {
            "manifest": str(manifest),
            "transforms": [align],
            "sampler": balanced,
            "workers": 0,
            "val_batch": 3,
        },
        "optimizer": {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.05, "momentum": 0.9}},
        "trainer": {"max_steps": 2, "val_every": 1, "accelerator": "cpu", "graph": False, "keep": "last"},
    }

    def like(detector: dict | None = None, data: dict | None = None, **more: object) -> dict:
        made = copy.deepcopy(plain) | more
        made["detector"] |= detector or {}
        made["data"] |= data or {}
        return made

    small = {"hidden": 8, "dropout": 0.0}
    domains = {"class_path": "BalancedDomains", "init_args": {"batch_size": 6}}

    def did(**decomposition: object) -> dict:
        part = {"class_path": "Decomposition", "init_args": {**small, "domains": 3, **decomposition}}
        head = {"class_path": "AucHead", "init_args": small}
        return like({"parts": [part], "head": head}, {"transforms": [align, "Grayscale"], "sampler": domains})

    painter = {
        "class_path": "FaceInpainter",
        "init_args": {"size": "tiny", "image_size": 64, "patch": 8, "blocks": 3},
    }
    residual = {
        "class_path": "ResidualBackbone",
        "init_args": {"inpainter": painter, "name": "test_vit", "draw": "all", "blocks": 3},
    }
    blended = {
        "class_path": "Balanced",
        "init_args": {"batch_size": 4, "synthesise": {"class_path": "SelfBlend"}},
    }
    made = {
        "baseline": like(),
        "sbi": like(data={"sampler": blended}, trainer={**plain["trainer"], "sam": 0.05, "ema": 0.9}),
        "realid": like(
            {"parts": [{"class_path": "RealMemory", "init_args": {"slots": 3}}], "head": "DualDecisionHead"}
        ),
        "caddm": like(
            {
                "parts": [
                    {
                        "class_path": "ArtifactDetector",
                        "init_args": {"channels": 8, "grid": "adapt", "weight": 0.01},
                    }
                ]
            },
            {"transforms": ["MultiScaleSwap", align, "Distort"], "photometric": "device"},
        ),
        "did": did(decorrelation_weight=0.0),
        "did_whole": did(),
        "prle": like(
            data={
                "transforms": [
                    {"class_path": "PrimaryRegionMask", "init_args": {"regions": str(regions)}},
                    align,
                ]
            }
        ),
        "inpainter": {k: v for k, v in like().items() if k != "detector"}
        | {"inpainter": {"size": "tiny", "image_size": 64, "patch": 8, "blocks": 3}},
        "rffr": like({"backbone": residual}, init={"backbone.inpainter": str(inpainter)}),
    }
    made["inpainter"]["data"]["methods"] = []  # real faces only
    made["inpainter"]["data"]["sampler"] = {"class_path": "Shuffled", "init_args": {"batch_size": 4}}
    return made


def bench(faces_file: Path, folder: Path) -> Path:
    """The real faces, and of each two fakes whose middle is another colour, with their sources."""
    records = Manifest.read(faces_file).records()
    fakes = []
    for i, record in enumerate(records):
        for method, shade in (("swap", (30, 90, 160)), ("paint", (160, 40, 60))):
            image = cv2.imread(record.path)
            image[110:220, 90:200] = image[110:220, 90:200] // 2 + cv2.Mat(
                cv2.merge([(image[110:220, 90:200, 0] * 0 + c // 2) for c in shade])
            )
            path = folder / f"{method}_{i:02d}.png"
            cv2.imwrite(str(path), image)
            fakes.append(
                replace(
                    record,
                    path=str(path),
                    label=Label.FAKE,
                    method=method,
                    video=f"{method}/{record.video}",
                    source=record.path,
                )
            )
    Manifest.from_records([*records, *fakes], folder).write(folder / "bench.parquet")
    return folder / "bench.parquet"


def run_pair(folder: Path, made: dict[str, dict]) -> None:
    """Train all of these, in their order, in two processes."""
    for name, recipe in made.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(recipe))
    (folder / "order.json").write_text(json.dumps(list(made)))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    world = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    path = os.pathsep.join([str(ROOT), str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
    pair = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.train.pair", str(folder)],
            cwd=ROOT,
            env={
                **os.environ,
                **world,
                "TORCHELASTIC_RUN_ID": "pair",
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
                "OMP_NUM_THREADS": "1",
                "PYTHONPATH": path,
            },
            stderr=subprocess.PIPE,
        )
        for rank in range(2)
    ]
    for one in pair:
        try:
            _, errors = one.communicate(timeout=500)
        finally:
            if one.poll() is None:
                for other in pair:
                    other.kill()
        assert one.returncode == 0, errors.decode()[-3000:]


@pytest.mark.slow
@pytest.mark.ddp
@pytest.mark.timeout(600)  # two new interpreters import torch; on a busy machine that takes a minute
def test_every_method_learns_in_two_processes_what_it_learns_in_one(
    faces_file: Path, tmp_path: Path, zoo: list
) -> None:
    torch.set_num_threads(1)
    manifest = bench(faces_file, tmp_path)
    primary_regions(Manifest.read(manifest), zoo[:1], tmp_path / "regions", size=64)
    two, one = tmp_path / "two", tmp_path / "one"
    two.mkdir()
    made = recipes(manifest, tmp_path / "regions", two / "inpainter")
    run_pair(two, made)
    for name in made:
        first, second = (torch.load(two / f"{name}.{rank}.pt", weights_only=True) for rank in (0, 1))
        for key, value in first["state"].items():
            assert torch.equal(value, second["state"][key]), f"{name}: {key} differs between processes"
        assert first["history"] == second["history"], f"{name}: processes validated otherwise"
        assert len(first["history"]) == 2, name
        written = json.loads((two / name / "metrics.json").read_text())
        # The last validation, of both processes together, and the first process's own, in the end.
        for key in set(first["history"][-1]) - {"step"}:
            assert written[key] == pytest.approx(first["history"][-1][key], abs=1e-9), f"{name}: {key}"
        alone = train(read_recipe(two / f"{name}.yaml", ["trainer.accumulate=2"]), one / name)
        a, b = load_file(alone / "weights.safetensors"), load_file(two / name / "weights.safetensors")
        if name == "inpainter":
            assert int(a["seen"]) == int(b["seen"]) == 2 * 4 * 2
        if name in RANDOM:
            continue
        # Running statistics are averaged here, and updated twice there.
        learned = [key for key in a if "running" not in key and "num_batches" not in key]
        apart = {key: (a[key].double() - b[key].double()).abs().max().item() for key in learned}
        worst = max(apart, key=lambda key: apart[key])
        assert apart[worst] < 1e-5, f"{name}: {worst} differs by {apart[worst]} from one process's"
        # A step's rows are those of one process's two batches: shared out, none twice.
        assert len(first["paths"]) == len(second["paths"]) == 2
    # Logged is the loss of both processes, not of the first alone.
    assert first_loss(two / "baseline") == pytest.approx(first_loss(one / "baseline"), rel=1e-4)


def first_loss(run: Path) -> float:
    with next((run / "logs").rglob("metrics.csv")).open() as file:
        return next(float(row["loss"]) for row in csv.DictReader(file) if row["loss"])
