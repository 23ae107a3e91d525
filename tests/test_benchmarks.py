"""The benchmarks run, with networks of 100,000 weights: a number that nobody can repeat is no measurement."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest
import torch

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def test_every_method_beside_torch_alone() -> None:
    steps = importlib.import_module("steps")
    cpu = torch.device("cpu")
    rows = steps.roofline({"test_resnet": 64, "test_vit": 64}, 4, 1, cpu, half=False)
    names = [row["what"].split(",")[0] for row in rows]
    assert names == ["torch alone", "bare", "realid", "caddm", "did", "to the device"] * 2
    assert all(row["value"] > 0 and row["ratio"] > 0 for row in rows)
    rows = steps.measure("test_resnet", 64, 4, 1, cpu)
    assert rows[0]["ratio"] == 1 and "added_share" in rows[-1]
    two, rffr = steps.measure_rffr("test_vit", "tiny", 64, 16, 2, 1, cpu)
    assert two["ratio"] == 1 and rffr["value"] > 0


def test_one_command_writes_json_and_a_table(tmp_path: Path) -> None:
    everything = importlib.import_module("all")
    out, table = tmp_path / "bench.json", tmp_path / "bench.md"
    words = [
        "--only",
        "storage,transforms,augment,options",
        "--small",
        "--out",
        str(out),
        "--markdown",
        str(table),
    ]
    everything.main(words)
    found = json.loads(out.read_text())
    assert {row["what"] for row in found["transforms"]} >= {"AlignFace(256)", "MultiScaleSwap"}
    moved = [row for row in found["augment"] if row["what"].endswith(", moved")]
    assert len(moved) == 3 and all(row["value"] > 0 for row in found["augment"])
    assert any(row["what"].startswith("read random, cold: tar") for row in found["storage"])
    assert "| MultiScaleSwap |" in table.read_text()
    assert len(found["options"]) == 6 and found["options"][0]["ratio"] == 1
    assert not torch.cuda.is_available() or found["machine"]["gpu"]


def test_processor_time_of_a_whole_run_is_counted(tmp_path: Path) -> None:
    engines = importlib.import_module("engines")
    engines.photographs(tmp_path / "photographs", 3)
    files = sorted((tmp_path / "photographs").iterdir())
    assert len({file.read_bytes() for file in files}) == 3
    clock, processor = engines.spend("prepare", "local", tmp_path / "photographs", 1, 2)
    # Importing numpy and the models alone takes that long, in the child and in its worker.
    assert clock > 0.2 and 0.2 < processor < 20


@pytest.mark.slow
def test_the_loader_is_measured_with_workers(tmp_path: Path) -> None:
    everything = importlib.import_module("all")
    out = tmp_path / "bench.json"
    words = [
        "--only",
        "loader",
        "--small",
        "--out",
        str(out),
        "--markdown",
        str(tmp_path / "bench.md"),
    ]
    everything.main(words)
    found = json.loads(out.read_text())
    whats = [row["what"] for row in found["loader"]]
    assert "the same, 2 workers, a second of processor" in whats
    assert any(what.startswith("loader's rate over the step's") for what in whats)
