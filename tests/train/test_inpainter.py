"""RFFR from end to end: an inpainter of real faces, residuals kept on disk, and the detector beside it."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from safetensors.torch import load_file

from unseen.checkpoint import load_run
from unseen.cli import main
from unseen.data.manifest import Manifest
from unseen.data.residuals import ResidualStore
from unseen.detect.engine import load_engine
from unseen.evaluate.scores import ScoreTable
from unseen.recipe import Recipe, read_recipe
from unseen.train.course import Course
from unseen.train.fit import train
from unseen.train.learner import Learner
from unseen.types import InputError, Label

ALIGN = {"class_path": "AlignFace", "init_args": {"size": 24}}


@pytest.fixture(scope="module")
def labelled_file(faces_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The made-up faces, every other one called a fake."""
    rows = [
        replace(r, label=Label.FAKE, method="made", source=r.path) if i % 2 else r
        for i, r in enumerate(Manifest.read(faces_file))
    ]
    path = tmp_path_factory.mktemp("labelled") / "faces.parquet"
    Manifest.from_records(rows, path.parent).write(path)
    return path


def painting(manifest: Path, *overrides: str) -> Recipe:
    settings = {
        "inpainter": {"size": "tiny", "image_size": 24, "patch": 4},
        "data": {
            "manifest": str(manifest),
            "transforms": [ALIGN, "Flip"],
            "sampler": {"class_path": "Shuffled", "init_args": {"batch_size": 4}},
            "workers": 0,
        },
        "optimizer": {
            "class_path": "torch.optim.AdamW",
            "init_args": {"lr": 1e-3, "betas": [0.9, 0.95], "weight_decay": 0.05},
        },
        "schedule": {"decay": "cosine", "warmup": 0.3, "batch": 8},
        "trainer": {
            "max_steps": 6,
            "accelerator": "cpu",
            "val_every": 3,
            "save_every": 1,
            "log_every": 1,
            "decay_all": False,
            "channels_last": False,
        },
    }
    return read_recipe(settings, overrides)


def looking(manifest: Path, inpainter: Path, *overrides: str) -> Recipe:
    net = {"class_path": "FaceInpainter", "init_args": {"size": "tiny", "image_size": 24, "patch": 4}}
    settings = {
        "detector": {
            "backbone": {
                "class_path": "ResidualBackbone",
                "init_args": {"inpainter": net, "name": "test_vit"},
            },
            "head": "BinaryHead",
        },
        "data": {
            "manifest": str(manifest),
            "transforms": [ALIGN],
            "sampler": {"class_path": "Balanced", "init_args": {"batch_size": 4}},
            "workers": 0,
        },
        "trainer": {"max_steps": 3, "accelerator": "cpu", "graph": False, "channels_last": False},
        "init": {"backbone.inpainter": str(inpainter)},
    }
    return read_recipe(settings, overrides)


@pytest.fixture(scope="module")
def inpainter(faces_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(painting(faces_file), tmp_path_factory.mktemp("inpainter") / "run")


@pytest.fixture(scope="module")
def store(inpainter: Path, labelled_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("store") / "residuals"
    words = ["prepare", "residuals", str(labelled_file), "--inpainter", str(inpainter), "--out", str(folder)]
    assert main([*words, "--workers", "0", "--device", "cpu"]) == 0
    return folder


def same_bits(first: Path, second: Path) -> bool:
    a, b = load_file(first / "weights.safetensors"), load_file(second / "weights.safetensors")
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_an_inpainter_leaves_a_run_folder_that_says_what_it_is(inpainter: Path) -> None:
    run, metrics = load_run(inpainter), json.loads((inpainter / "metrics.json").read_text())
    assert json.loads((inpainter / "run.json").read_text())["kind"] == "FaceInpainter"
    assert run.inpainter is run.model and int(run.inpainter.seen) == 4 * metrics["step"]
    assert metrics["digest"] == run.inpainter.digest()
    errors = [entry["val_error"] for entry in metrics["history"]]
    assert metrics["val_error"] == pytest.approx(min(errors)) and errors[-1] < errors[0]
    assert metrics["val_psnr"] == pytest.approx(-10 * np.log10(metrics["val_error"]))
    assert "It gives no verdicts" in (inpainter / "card.md").read_text()
    with pytest.raises(InputError, match="gives no verdicts") as error:
        _ = run.detector
    assert error.value.reason == "kind"


def test_the_rate_is_scaled_by_the_faces_of_a_step_and_vectors_are_spared_the_decay(inpainter: Path) -> None:
    state = torch.load(inpainter / "last.ckpt", weights_only=True)["optimizer"]
    assert [group["weight_decay"] for group in state["param_groups"]] == [0.05, 0.0]
    rows = (inpainter / "logs" / "from_step_0" / "metrics.csv").read_text().splitlines()
    place = rows[0].split(",").index("lr")
    rates = [float(row.split(",")[place]) for row in rows[1:] if row.split(",")[place]]
    # 1e-3 for 8 faces, so 5e-4 for 4; warm-up over round(0.3 * 5) = 2 steps: a third, two thirds, whole
    assert rates[:3] == pytest.approx([5e-4 / 3, 1e-3 / 3, 5e-4]) and rates[-1] == pytest.approx(0, abs=1e-9)


def test_resume_ends_with_the_same_bits(
    inpainter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stop(Exception):
        pass

    def interrupted(self: Course, learner: Learner, numbers: dict[str, float]) -> None:
        after(self, learner, numbers)
        if learner.step == 4:
            raise Stop

    after, recipe = Course.__call__, read_recipe(inpainter / "recipe.yaml")
    with monkeypatch.context() as patch:
        patch.setattr(Course, "__call__", interrupted)
        with pytest.raises(Stop):
            train(recipe, tmp_path / "run")
    assert same_bits(train(recipe, tmp_path / "run", resume=True), inpainter)
    assert (tmp_path / "run" / "metrics.json").read_text() == (inpainter / "metrics.json").read_text()


def test_bfloat16_is_learned_in(faces_file: Path, tmp_path: Path) -> None:
    recipe = painting(faces_file, "trainer.precision=bf16-mixed", "trainer.max_steps=1")
    state = load_file(train(recipe, tmp_path / "run") / "weights.safetensors")
    assert all(torch.isfinite(value).all() for value in state.values())


def test_fakes_among_the_rows_are_refused(labelled_file: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="must see real faces only"):
        train(painting(labelled_file), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    out = train(painting(labelled_file, "data.methods=[]", "trainer.max_steps=1"), tmp_path / "run")
    assert int(load_run(out).inpainter.seen) == 4
    sampler = "data.sampler={class_path: Balanced, init_args: {batch_size: 4, synthesise: SelfBlend}}"
    with pytest.raises(InputError, match=r"makes fakes \(sbi\)"):
        train(painting(labelled_file, "data.methods=[]", sampler), tmp_path / "other")


def test_realness_without_a_classifier_is_scored_like_anything(
    inpainter: Path, labelled_file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "scores.parquet"
    words = ["evaluate", str(inpainter), "--manifest", str(labelled_file), "--split", "all"]
    assert main([*words, "--out", str(out), "--workers", "0", "--device", "cpu"]) == 0
    scores = ScoreTable.read(out).at("frame")["score"].to_numpy()
    assert len(scores) == 13 and (scores > 0).all() and len(set(scores)) == 13


def test_a_run_of_the_detector_is_whole_without_the_inpainters(
    inpainter: Path, labelled_file: Path, tmp_path: Path
) -> None:
    source = tmp_path / "inpainter"
    shutil.copytree(inpainter, source)
    out = train(looking(labelled_file, source), tmp_path / "run")
    shutil.rmtree(source)
    run = load_run(out)
    assert run.inpainter is run.detector.backbone.inpainter
    assert run.inpainter.digest() == load_run(inpainter).inpainter.digest()
    # and is itself a place that an inpainter can be taken from
    again = looking(labelled_file, out, "trainer.max_steps=1")
    assert load_run(train(again, tmp_path / "again")).inpainter.digest() == run.inpainter.digest()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"init": None}, "random weights"),
        ({"init": {"backbone.inpainted": "x"}}, "no module 'backbone.inpainted'"),
        ({"init": {"backbone.inpainter": "/none"}}, "no such file"),
        (
            {"FaceInpainter.patch": 2, "FaceInpainter.blocks": 5, "ResidualBackbone.blocks": 5},
            "an inpainter of patch 4; this recipe's has 2",
        ),
        ({"FaceInpainter.mask": "none", "ResidualBackbone.residual": "autoencoder"}, "of mask block"),
        ({"data.transforms.0.init_args.scale": 1.1}, r"aligned with scale 1\.3; .* has 1\.1"),
        ({"FaceInpainter.size": "base"}, "size mismatch|Missing key"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_an_inpainter_that_does_not_fit_is_told(
    inpainter: Path, labelled_file: Path, tmp_path: Path, values: dict[str, Any], message: str
) -> None:
    recipe = looking(labelled_file, inpainter).with_values(values)
    with pytest.raises(InputError, match=message):
        train(recipe, tmp_path / "run")


@pytest.mark.slow
def test_the_graph_says_the_same(inpainter: Path, labelled_file: Path, tmp_path: Path) -> None:
    run = load_run(train(looking(labelled_file, inpainter, "trainer.graph=true"), tmp_path / "run"))
    session = onnxruntime.InferenceSession(str(tmp_path / "run" / "graph.onnx"))
    image = torch.rand(3, 3, 24, 24)
    (score,) = session.run(["score"], {"image": image.numpy()})
    with torch.no_grad():
        assert score == pytest.approx(run.detector(image).score.numpy(), abs=1e-4)


def test_the_report_has_the_repainted_face_and_the_residual(
    inpainter: Path, labelled_file: Path, tmp_path: Path
) -> None:
    out = train(looking(labelled_file, inpainter, "trainer.max_steps=1"), tmp_path / "run")
    engine = load_engine(out, device="cpu")
    image = np.random.default_rng(0).integers(0, 256, (2, 24, 24, 3), dtype=np.uint8)
    for number, found in enumerate(engine.explain(image)):
        assert [piece.kind for piece in found] == ["reconstruction", "residual"]
        painted = found[0].image
        assert painted is not None and (painted[:4] == image[number, :4]).all()  # the frame is as it was
        assert (painted[4:-4, 4:-4] != image[number, 4:-4, 4:-4]).mean() > 0.9


# --- residuals on disk ------------------------------------------------------------------------------------


def test_a_second_call_computes_nothing(
    store: Path, inpainter: Path, labelled_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from unseen.models.inpainter import FaceInpainter

    monkeypatch.setattr(FaceInpainter, "residual", None)
    words = ["prepare", "residuals", str(labelled_file), "--inpainter", str(inpainter), "--out", str(store)]
    assert main([*words, "--workers", "0", "--device", "cpu"]) == 0
    assert len(ResidualStore(store)) == 13


def test_training_reads_the_store_and_learns_nearly_the_same(
    store: Path, inpainter: Path, labelled_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from unseen.models.inpainter import FaceInpainter

    fresh = train(looking(labelled_file, inpainter), tmp_path / "fresh")
    monkeypatch.setattr(FaceInpainter, "residual", None)  # whoever called it would fail
    recipe = looking(labelled_file, inpainter, f"data.residuals={store}")
    kept = train(recipe, tmp_path / "kept")
    a, b = (json.loads((run / "metrics.json").read_text()) for run in (fresh, kept))
    assert a["val_log_loss"] == pytest.approx(b["val_log_loss"], abs=0.02)
    assert not same_bits(fresh, kept)  # int8 is not float32


def test_what_is_altered_in_training_is_computed_there_and_read_in_validation(
    store: Path, inpainter: Path, labelled_file: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recipe = looking(labelled_file, inpainter, f"data.residuals={store}", "data.transforms+=Flip")
    with caplog.at_level("INFO", "unseen.train"):
        train(recipe.with_values({"trainer.max_steps": 1}), tmp_path / "run")
    assert "in validation only" in caplog.text


def test_stored_residuals_are_of_finished_pictures(
    store: Path, inpainter: Path, labelled_file: Path, tmp_path: Path
) -> None:
    words = (f"data.residuals={store}", "data.photometric=device", "data.transforms+=Grayscale")
    with pytest.raises(InputError, match="would finish them after the look-up"):
        train(looking(labelled_file, inpainter, *words), tmp_path / "run")


def test_a_store_that_does_not_fit_is_told(
    store: Path, inpainter: Path, labelled_file: Path, faces_file: Path, tmp_path: Path
) -> None:
    other = train(painting(faces_file, "seed=5", "trainer.max_steps=1"), tmp_path / "other")
    recipe = looking(labelled_file, other, f"data.residuals={store}")
    with pytest.raises(InputError, match="made by another inpainter") as error:
        train(recipe, tmp_path / "a")
    assert error.value.reason == "other_inpainter"
    recipe = looking(labelled_file, inpainter, f"data.residuals={store}")
    with pytest.raises(InputError, match=r"another blocks \(4; expected 2\)"):
        train(recipe.with_values({"ResidualBackbone.blocks": 2}), tmp_path / "b")
    with pytest.raises(InputError, match="looks at no residual"):
        train(recipe.with_values({"ResidualBackbone.branches": "image"}), tmp_path / "c")
    half = tmp_path / "half"
    shutil.copytree(store, half)
    keys = next(half.glob("*.keys"))
    keys.write_bytes(b"x" * len(keys.read_bytes()))
    with pytest.raises(InputError, match=r"holds no residual of .*png"):
        train(looking(labelled_file, inpainter, f"data.residuals={half}"), tmp_path / "d")
    with pytest.raises(InputError, match="no folder of residuals"):
        train(looking(labelled_file, inpainter, f"data.residuals={tmp_path}"), tmp_path / "e")


@pytest.mark.slow
def test_scoring_reads_the_store_too(
    store: Path, inpainter: Path, labelled_file: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    from unseen.evaluate.run import score_records
    from unseen.models.inpainter import FaceInpainter

    run = train(looking(labelled_file, inpainter, "trainer.max_steps=1"), tmp_path / "run")
    words = ["evaluate", str(run), "--manifest", str(labelled_file), "--split", "all", "--resamples", "0"]
    words += ["--workers", "0", "--device", "cpu", "--batch-size", "5"]
    kept = ["--residuals", str(store)]
    assert main([*words, "--out", str(tmp_path / "fresh.parquet")]) == 0
    finer = tmp_path / "float16"
    more = ["--out", str(finer), "--dtype", "float16", "--workers", "0", "--device", "cpu"]
    assert main(["prepare", "residuals", str(labelled_file), "--inpainter", str(inpainter), *more]) == 0
    with monkeypatch.context() as patch:
        patch.setattr(FaceInpainter, "residual", None)  # whoever called it would fail
        assert main([*words, *kept, "--out", str(tmp_path / "kept.parquet")]) == 0
        loaded = load_run(run)
        rows = Manifest.read(labelled_file).records()
        scored = score_records(loaded.model, rows, loaded.transforms, residuals=ResidualStore(finer))
    fresh, eight = (ScoreTable.read(tmp_path / f"{name}.parquet") for name in ("fresh", "kept"))
    scores = [table.frames()["score"].to_numpy() for table in (fresh, eight, scored)]
    assert scores[1] == pytest.approx(scores[0], abs=0.02) and len(scores[0]) == 13
    assert np.abs(scores[2] - scores[0]).max() < np.abs(scores[1] - scores[0]).max()
    assert (eight.card["residuals"], "residuals" in fresh.card) == ("stored as int8", False)

    def told(*more: str) -> str:
        capsys.readouterr()
        assert main([*words, *more]) == 2
        return capsys.readouterr().err

    assert "leave out --robustness" in told(*kept, "--robustness")
    header = json.loads((finer / "header.json").read_text())
    header["made_by"]["inpainter"] = "0" * 64
    (finer / "header.json").write_text(json.dumps(header))
    assert "made by another inpainter" in told("--residuals", str(finer))
    words[1] = str(inpainter)
    assert "looks at no residual" in told(*kept)
