from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from unseen.checkpoint import load_run
from unseen.data.manifest import Manifest
from unseen.recipe import read_recipe
from unseen.train.course import LAST, Course
from unseen.train.fit import train
from unseen.train.learner import Learner
from unseen.types import FaceBatch, InputError, Label

Tiny = Callable[..., dict]

# Everything that could be forgotten on the way: dropout, moving average, momentum, SAM, warm-up, two workers.
HARD = {
    "schedule": {"decay": "cosine", "warmup": 0.3},
    "trainer": {
        "max_steps": 7,
        "accelerator": "cpu",
        "ema": 0.9,
        "sam": 0.05,
        "clip": 1.0,
        "val_every": 3,
        "save_every": 1,
        "keep": "last",
    },
}


@pytest.fixture(scope="module")
def whole(faces_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was never stopped."""
    recipe = {
        "detector": {
            "backbone": {
                "class_path": "TimmBackbone",
                "init_args": {"name": "test_efficientnet", "image_size": 64, "drop_rate": 0.2},
            },
            "head": {"class_path": "BinaryHead", "init_args": {"dropout": 0.2}},
        },
        "data": {
            "manifest": str(faces_file),
            "transforms": [{"class_path": "AlignFace", "init_args": {"size": 64, "shift": 0.05}}, "Flip"],
            "sampler": {
                "class_path": "Balanced",
                "init_args": {"batch_size": 4, "synthesise": {"class_path": "SelfBlend"}},
            },
            "workers": 0,
        },
        **HARD,
    }
    return train(read_recipe(recipe), tmp_path_factory.mktemp("whole") / "run")


def same_bits(first: Path, second: Path) -> bool:
    a, b = load_file(first / "weights.safetensors"), load_file(second / "weights.safetensors")
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_a_run_leaves_all_its_files_and_loads(whole: Path) -> None:
    names = {path.name for path in whole.iterdir()}
    assert {"weights.safetensors", "recipe.yaml", "calibration.json", "metrics.json", "card.md"} <= names
    run = load_run(whole)
    metrics = json.loads((whole / "metrics.json").read_text())
    assert metrics["steps"] == 7 and [entry["step"] for entry in metrics["history"]] == [3, 6, 7]
    assert 0 <= metrics["val_auc"] <= 1 and "fakes made of it" in metrics["protocol"]
    assert run.calibration.n_real_people == 2 and run.calibration.n_fake == 4
    assert not run.detector.training


def test_the_card_says_what_was_learned_from_and_what_it_cannot_do(whole: Path) -> None:
    card = (whole / "card.md").read_text()
    assert "| train | made | 8 | 8 | 0 | 4 | 8 | real |" in card
    assert "| val | made | 4 | 4 | 0 | 2 | 4 | real |" in card
    assert "AlignFace(size=64" in card and "SelfBlend(" in card and "First weights: random" in card
    assert "## What it cannot do" in card and "frame AUC" in card


def test_logs_have_every_term_and_rate(whole: Path, tiny: Tiny, tmp_path: Path) -> None:
    out = train(read_recipe(tiny(schedule={"decay": "linear"})), tmp_path / "run")
    with (out / "logs" / "from_step_0" / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    steps = [row for row in rows if row["loss"]]
    assert [float(row["lr"]) for row in steps] == pytest.approx([1e-3, 2e-3 / 3, 1e-3 / 3, 0])
    assert all(row["loss"] == row["cross_entropy"] for row in steps)
    assert [int(row["step"]) for row in rows if row["val_auc"]] == [2, 4]
    assert list((out / "logs" / "tensorboard").glob("events*"))


def test_saved_weights_are_the_moving_average(whole: Path) -> None:
    state = torch.load(whole / LAST, weights_only=True)
    saved = load_file(whole / "weights.safetensors")
    assert all(torch.equal(saved[key], state["average"][key]) for key in saved)
    assert not all(torch.equal(saved[key], state["model"][key]) for key in saved)


@pytest.mark.slow
@pytest.mark.timeout(600)  # a new interpreter imports torch; on a busy machine that takes a minute
def test_training_twice_gives_the_same_bits_with_any_number_of_workers(whole: Path, tmp_path: Path) -> None:
    recipe = read_recipe(whole / "recipe.yaml", ["data.workers=2"])
    assert same_bits(train(recipe, tmp_path / "again"), whole)


@pytest.mark.parametrize("last", [2, 4])  # in the middle of an epoch of four steps, and at its end
def test_resume_after_an_exception_ends_with_the_same_bits(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last: int
) -> None:
    class Stop(Exception):
        pass

    def interrupted(self: Course, learner: Learner, numbers: dict[str, float]) -> None:
        after(self, learner, numbers)
        if learner.step == last:
            raise Stop

    after = Course.__call__
    recipe, out = read_recipe(whole / "recipe.yaml"), tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(Course, "__call__", interrupted)
        with pytest.raises(Stop):
            train(recipe, out)
    assert not (out / "run.json").exists()
    with pytest.raises(InputError, match="not finished"):
        load_run(out)
    torch.manual_seed(99)  # the generator's state is not what continuity hangs on
    assert same_bits(train(recipe, out, resume=True), whole)
    assert json.loads((out / "metrics.json").read_text()) == json.loads((whole / "metrics.json").read_text())


KILLED = """
import os, signal, sys, torch
from unseen.recipe import read_recipe
from unseen.train.course import Course
from unseen.train.fit import train
torch.set_num_threads(int(sys.argv[3]))
after = Course.__call__
def kill(self, learner, numbers):
    if learner.step == 4:  # before this step is written
        os.kill(os.getpid(), signal.SIGKILL)
    after(self, learner, numbers)
Course.__call__ = kill
train(read_recipe(sys.argv[1]), sys.argv[2])
"""


@pytest.mark.slow
@pytest.mark.timeout(600)  # a new interpreter imports torch; on a busy machine that takes a minute
def test_resume_after_sigkill_ends_with_the_same_bits(whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = [
        sys.executable,
        "-c",
        KILLED,
        str(whole / "recipe.yaml"),
        str(out),
        str(torch.get_num_threads()),
    ]
    killed = subprocess.run(command, capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()[-2000:]
    assert torch.load(out / LAST, weights_only=True)["step"] == 3
    assert same_bits(train(read_recipe(whole / "recipe.yaml"), out, resume=True), whole)


def test_resume_of_a_finished_run_changes_nothing(whole: Path, tiny: Tiny, tmp_path: Path) -> None:
    out = train(read_recipe(tiny()), tmp_path / "run")
    before = (out / "weights.safetensors").read_bytes()
    train(read_recipe(tiny()), out, resume=True)
    assert (out / "weights.safetensors").read_bytes() == before


def test_resume_wants_the_same_recipe_and_rows(tiny: Tiny, faces_file: Path, tmp_path: Path) -> None:
    out = train(read_recipe(tiny()), tmp_path / "run")
    with pytest.raises(InputError, match=r"differs .* in optimizer.init_args.lr"):
        train(read_recipe(tiny(), ["optimizer.init_args.lr=0.5"]), out, resume=True)
    train(read_recipe(tiny(), ["trainer.log_every=3"]), out, resume=True)
    with pytest.raises(InputError, match="already holds a run"):
        train(read_recipe(tiny()), out)
    with pytest.raises(InputError, match="no checkpoint to go on from"):
        train(read_recipe(tiny()), tmp_path / "new", resume=True)
    records = Manifest.read(faces_file).records()
    moved = tmp_path / "moved.parquet"
    Manifest.from_records(records, tmp_path).write(moved)
    recipe = read_recipe(tiny(), [f"data.manifest={moved}"])
    other = train(recipe, tmp_path / "other")
    Manifest.from_records(records[1:], tmp_path).write(moved)
    with pytest.raises(InputError, match="other rows"):
        train(recipe, other, resume=True)


def test_a_damaged_checkpoint_is_told(tiny: Tiny, tmp_path: Path) -> None:
    out = train(read_recipe(tiny()), tmp_path / "run")
    data = (out / LAST).read_bytes()
    (out / LAST).write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match=r"last\.ckpt: cannot be resumed from"):
        train(read_recipe(tiny()), out, resume=True)


def test_it_learns(tiny: Tiny, tmp_path: Path) -> None:
    """Fakes that are darker are told from reals within a few steps."""
    recipe = tiny(trainer={"max_steps": 12, "accelerator": "cpu", "val_every": 4}, optimizer={
        "class_path": "torch.optim.AdamW", "init_args": {"lr": 5e-3}})  # fmt: skip
    file = _with_dark_fakes(Path(recipe["data"]["manifest"]), tmp_path)
    recipe["data"] = {**recipe["data"], "manifest": str(file), "sampler": "Balanced"}
    recipe["detector"]["backbone"]["init_args"]["drop_rate"] = 0.0
    out = train(read_recipe(recipe), tmp_path / "run")
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["val_auc"] == 1.0
    assert "fakes made of it" not in metrics["protocol"]
    assert load_run(out).calibration.n_fake == 4


def _with_dark_fakes(file: Path, folder: Path) -> Path:
    from dataclasses import replace

    import cv2

    from unseen.types import Label

    records = Manifest.read(file).records()
    fakes = []
    for record in records:
        path = folder / f"dark_{Path(record.path).name}"
        cv2.imwrite(str(path), cv2.imread(record.path) // 3)
        fakes.append(
            replace(record, path=str(path), label=Label.FAKE, method="dark", video=f"f{record.video}")
        )
    Manifest.from_records(records + fakes, folder).write(folder / "both.parquet")
    return folder / "both.parquet"


def test_early_stop_keeps_the_best(tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    aucs = iter([0.6, 0.9, 0.8, 0.7, 0.95])
    monkeypatch.setattr(
        "unseen.train.fit.Judge.metrics", lambda self, model: {"val_auc": next(aucs), "val_log_loss": 0.5}
    )
    states: dict[int, dict[str, torch.Tensor]] = {}

    def remember(self: Course, learner: Learner, numbers: dict[str, float]) -> None:
        states[learner.step] = {k: v.clone() for k, v in learner.final.state_dict().items()}
        after(self, learner, numbers)

    after = Course.__call__
    monkeypatch.setattr(Course, "__call__", remember)
    recipe = tiny(trainer={"max_steps": 50, "accelerator": "cpu", "val_every": 1, "patience": 2})
    out = train(read_recipe(recipe), tmp_path / "run")
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["steps"] == 4 and metrics["step"] == 2 and metrics["stopped_early"]
    saved = load_file(out / "weights.safetensors")
    assert all(torch.equal(saved[key], states[2][key]) for key in saved)
    assert not all(torch.equal(saved[key], states[4][key]) for key in saved)


def test_epochs_count_the_sampler(tiny: Tiny, tmp_path: Path) -> None:
    recipe = tiny(trainer={"max_epochs": 2, "accelerator": "cpu", "accumulate": 2})
    metrics = json.loads((train(read_recipe(recipe), tmp_path / "run") / "metrics.json").read_text())
    # 8 reals, 2 a batch: 4 batches, 2 optimizer steps an epoch, and a validation after each epoch
    assert metrics["steps"] == 4 and [entry["step"] for entry in metrics["history"]] == [2, 4]


def test_epochs_of_a_stated_length_and_what_was_done_otherwise(
    tiny: Tiny, faces_file: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Fakes that are their own sources cannot be swapped, and one has lost its source: both are told."""
    folder, records = tmp_path / "faces", list(Manifest.read(faces_file))
    for i, record in enumerate(records):
        if i % 2:
            source = "gone.png" if i == 1 else record.path
            records[i] = replace(record, label=Label.FAKE, method="made", source=str(source))
    folder.mkdir()
    Manifest.from_records(records, folder).write(folder / "faces.parquet")
    recipe = tiny()
    recipe["trainer"] = {"max_epochs": 2, "epoch_steps": 3, "accelerator": "cpu", "graph": False}
    recipe["data"] |= {
        "manifest": str(folder / "faces.parquet"),
        "transforms": ["MultiScaleSwap", {"class_path": "AlignFace", "init_args": {"size": 64}}],
        "sampler": {"class_path": "Balanced", "init_args": {"batch_size": 4}},
    }
    with caplog.at_level("WARNING", "unseen.train"):
        metrics = json.loads((train(read_recipe(recipe), tmp_path / "run") / "metrics.json").read_text())
    assert [entry["step"] for entry in metrics["history"]] == [3, 6]
    told = [r.getMessage() for r in caplog.records if "done otherwise" in r.getMessage()]
    assert len(told) == 2 and told[0].startswith("up to step 3") and "not_swapped" in told[0]
    assert sum("replaced 1" in line for line in told) == 1
    with next((tmp_path / "run" / "logs").glob("from_step_0/metrics.csv")).open() as file:
        assert any(row.get("note_not_swapped") for row in csv.DictReader(file))


def test_without_validation_there_is_no_calibration(tiny: Tiny, tmp_path: Path) -> None:
    out = train(read_recipe(tiny(), ["data.val_split=null", "trainer.max_steps=1"]), tmp_path / "run")
    assert load_run(out).calibration.n_real == 0
    assert "There was no validation split" in (out / "card.md").read_text()


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["data.val_split=test"], "data.val_split is 'test'; test people judge"),
        (["data.train_split=Testing"], "data.train_split is 'Testing'"),
        (
            ["data.val_split=valid"],
            r"no rows of split 'valid' \(there are: test, train, val\); make one with Manifest.split",
        ),
        (["data.train_split=all"], "no rows of split 'all'"),
        (["data.val_split=train"], "in training and validation alike"),
        (["data.manifest=null"], "data.manifest. is missing"),
        (["trainer.max_steps=null"], "give max_epochs or max_steps"),
        (["data.manifest=/no/such.parquet"], "such.parquet"),
        (["detector.backbone.init_args.image_size=96"], "pictures of 64 pixels, the network takes 96"),
        (["init=nothing_here"], "init: nothing_here: there is no such file"),
        (["data.sampler.init_args.synthesise=null"], "none of 8 records is fake"),
    ],
)
def test_what_cannot_be_trained_is_told_before_anything_is_written(
    tiny: Tiny, tmp_path: Path, overrides: list[str], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        train(read_recipe(tiny(), overrides), tmp_path / "run")
    assert not (tmp_path / "run" / "run.json").exists()


def test_people_in_both_splits_are_warned_of(
    tiny: Tiny, faces_file: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from dataclasses import replace

    records = [replace(record, identity="one person") for record in Manifest.read(faces_file).records()]
    Manifest.from_records(records, tmp_path).write(tmp_path / "one.parquet")
    train(
        read_recipe(tiny(), [f"data.manifest={tmp_path / 'one.parquet'}", "trainer.max_steps=1"]),
        tmp_path / "run",
    )
    assert "1 people are in training and validation alike" in caplog.text


def test_an_error_in_a_worker_is_told_in_one_line(tiny: Tiny, tmp_path: Path, faces_file: Path) -> None:
    from dataclasses import replace

    records = [
        replace(record, path=str(tmp_path / "gone.png")) if record.split == "train" else record
        for record in Manifest.read(faces_file).records()
    ]
    Manifest.from_records(records, tmp_path).write(tmp_path / "gone.parquet")
    recipe = read_recipe(tiny(), [f"data.manifest={tmp_path / 'gone.parquet'}", "data.workers=1"])
    with pytest.raises(InputError, match=r"gone\.png") as error:
        train(recipe, tmp_path / "run")
    assert "Traceback" not in str(error.value)


def test_lightning_keeps_quiet(tiny: Tiny, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    train(read_recipe(tiny(), ["trainer.max_steps=1"]), tmp_path / "run")
    out, err = capfd.readouterr()
    assert out == "" and err == ""


@pytest.mark.slow
@pytest.mark.timeout(600)  # a new interpreter imports torch; on a busy machine that takes a minute
@pytest.mark.ddp
def test_two_processes_learn_what_one_does_with_twice_the_batches(tiny: Tiny, tmp_path: Path) -> None:
    recipe = tiny()
    recipe["detector"]["backbone"]["init_args"] |= {"name": "test_vit", "drop_rate": 0.0}  # no batch norm
    recipe["detector"]["head"] = "BinaryHead"
    recipe["optimizer"] = {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.1, "momentum": 0.9}}
    recipe["trainer"] = {"max_steps": 3, "accelerator": "cpu", "graph": False}
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(recipe))
    script = tmp_path / "two.py"
    script.write_text(
        "import sys\nfrom unseen.recipe import read_recipe\nfrom unseen.train.fit import train\n"
        "if __name__ == '__main__':\n"
        "    train(read_recipe(sys.argv[1], ['trainer.devices=2']), sys.argv[2])\n"
    )
    done = subprocess.run(
        [sys.executable, str(script), str(file), str(tmp_path / "two")],
        capture_output=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    one = train(read_recipe(file, ["trainer.accumulate=2"]), tmp_path / "one")
    a, b = load_file(one / "weights.safetensors"), load_file(tmp_path / "two" / "weights.safetensors")
    for key in a:
        torch.testing.assert_close(a[key], b[key], rtol=1e-4, atol=1e-5)


PHOTOMETRIC = [
    {"class_path": "AlignFace", "init_args": {"size": 64}},
    "Flip",
    {"class_path": "ColorJitter", "init_args": {"p": 0.5, "channels": 20.0, "saturation": 0.0}},
    {"class_path": "Noise", "init_args": {"p": 0.5}},
    "JpegCompress",
]


def test_photometric_transforms_on_the_device_teach_the_same_and_resume(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Stop(Exception):
        pass

    def stop(self: Learner, batch: FaceBatch, number: int) -> None:
        if self.step == 3:
            raise Stop
        step(self, batch, number)

    recipe = tiny()
    recipe["data"]["transforms"] = PHOTOMETRIC
    near = train(read_recipe(recipe), tmp_path / "near")
    moved = read_recipe(recipe, ["data.photometric=device"])
    step = Learner.training_step
    with monkeypatch.context() as patch, caplog.at_level("INFO"):
        patch.setattr(Learner, "training_step", stop)
        with pytest.raises(Stop):
            train(moved, tmp_path / "far")
    assert "on the device: ColorJitter, Noise, JpegCompress" in caplog.text
    assert same_bits(train(moved, tmp_path / "far", resume=True), near)
    with pytest.raises(InputError, match=r"differs .* in data.photometric"):
        train(read_recipe(recipe), tmp_path / "far", resume=True)


def test_a_compiled_backbone_and_a_fused_optimizer_learn_the_same(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import functools

    from torch import nn

    compiled: list[str] = []
    real = nn.Module.compile

    def compile_without_kernels(
        module: nn.Module,
    ) -> None:  # graphs are captured; making kernels takes minutes
        compiled.append(type(module).__name__)
        real(module, backend="eager")

    monkeypatch.setattr(nn.Module, "compile", functools.wraps(real)(compile_without_kernels))
    # Adam would turn a rounding of a gradient of zero into a whole step.
    recipe = tiny(optimizer={"class_path": "torch.optim.SGD", "init_args": {"lr": 0.01, "momentum": 0.9}})
    words = ["trainer.max_steps=2", "trainer.val_every=2"]
    plain = train(read_recipe(recipe, words), tmp_path / "plain")
    words += ["trainer.compile=true", "optimizer.fused=true"]
    fast = train(read_recipe(recipe, words), tmp_path / "fast")
    assert compiled == ["TimmBackbone"]
    a, b = load_file(plain / "weights.safetensors"), load_file(fast / "weights.safetensors")
    assert a.keys() == b.keys()
    for key in a:
        torch.testing.assert_close(a[key], b[key], rtol=1e-3, atol=1e-4)
