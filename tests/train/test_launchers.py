"""Two machines that are one here: what torchrun and SLURM start learns the same, to the bit."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from tests.train.test_processes import ROOT, bench, recipes

WAIT = 300  # seconds; four interpreters import torch on two cores


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def by_torchrun(node: int, port: str) -> tuple[list[str], dict[str, str]]:
    """A node of two, with a process each, as `torchrun --nnodes 2` would be called there."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1"]
    command += ["--node-rank", str(node), "--rdzv-backend", "static"]
    return [*command, "--master-addr", "127.0.0.1", "--master-port", port, "-m", "unseen"], {}


def by_slurm(node: int, port: str) -> tuple[list[str], dict[str, str]]:
    """A node of two, as `srun` starts a task there."""
    told = {
        "SLURM_JOB_ID": "77",
        "SLURM_JOB_NAME": "train",
        "SLURM_NTASKS": "2",
        "SLURM_NNODES": "2",
        "SLURM_NTASKS_PER_NODE": "1",
        "SLURM_PROCID": str(node),
        "SLURM_LOCALID": "0",
        "SLURM_NODEID": str(node),
        "SLURM_NODELIST": "127.0.0.1",
        "SLURM_STEP_NODELIST": "127.0.0.1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
    }
    return [sys.executable, "-m", "unseen"], told


@pytest.mark.slow
@pytest.mark.ddp
@pytest.mark.timeout(2 * WAIT)
def test_two_nodes_of_torchrun_and_of_slurm_write_one_run_each(faces_file: Path, tmp_path: Path) -> None:
    recipe = recipes(bench(faces_file, tmp_path), tmp_path, tmp_path)["realid"]
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    here = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM_", "TORCHELASTIC_"))}
    here |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])}
    started = []
    for launcher in (by_torchrun, by_slurm):
        port = free_port()
        for node in range(2):
            command, told = launcher(node, port)
            command += ["train", str(tmp_path / "recipe.yaml"), "--out", str(tmp_path / launcher.__name__)]
            started.append(subprocess.Popen(command, env=here | told, stderr=subprocess.PIPE, text=True))
    try:
        for process in started:
            _, said = process.communicate(timeout=WAIT)
            assert process.returncode == 0, said[-3000:]
    finally:
        for process in started:
            process.kill()
    first, second = (
        load_file(tmp_path / name / "weights.safetensors") for name in ("by_torchrun", "by_slurm")
    )
    assert first.keys() == second.keys()
    for key, value in first.items():
        assert torch.equal(value, second[key]), key
