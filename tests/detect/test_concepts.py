"""Real concepts from a training to a report: what a run with a memory leaves, and what is made of it."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.train.faces import faces_file, tiny
from unseen.checkpoint import load_run
from unseen.data.manifest import Manifest
from unseen.detect.concepts import Concepts, Example, read_concepts
from unseen.detect.engine import OnnxEngine, TorchEngine, load_engine
from unseen.detect.inspector import Inspector
from unseen.recipe import read_recipe
from unseen.run_files import CONCEPTS
from unseen.train import concepts as finding
from unseen.train.fit import train
from unseen.types import InputError

__all__ = ["faces_file", "tiny"]

Tiny = Callable[..., dict]


def realid(tiny: Tiny, *overrides: str) -> object:
    recipe = tiny()
    recipe["detector"] |= {
        "parts": [{"class_path": "RealMemory", "init_args": {"slots": 3}}],
        "head": {"class_path": "DualDecisionHead"},
    }
    return read_recipe(recipe, ["trainer.max_steps=2", *overrides])


@pytest.fixture(scope="module")
def run(faces_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    recipe = {
        "detector": {
            "backbone": {
                "class_path": "TimmBackbone",
                "init_args": {"name": "test_efficientnet", "image_size": 64},
            },
            "parts": [{"class_path": "RealMemory", "init_args": {"slots": 3}}],
            "head": {"class_path": "DualDecisionHead"},
        },
        "data": {
            "manifest": str(faces_file),
            "transforms": [{"class_path": "AlignFace", "init_args": {"size": 64}}, "Flip"],
            "sampler": {"class_path": "Balanced", "init_args": {"batch_size": 4, "synthesise": "SelfBlend"}},
            "workers": 0,
        },
        "trainer": {"max_steps": 2, "accelerator": "cpu", "graph": True},
    }
    return train(read_recipe(recipe), tmp_path_factory.mktemp("runs") / "realid")


@pytest.fixture(scope="module")
def told(run: Path) -> dict:
    return json.loads((run / CONCEPTS).read_text())


def test_a_run_keeps_the_nearest_training_faces_of_each_concept(
    run: Path, told: dict, faces_file: Path
) -> None:
    assert [concept["number"] for concept in told["concepts"]] == [1, 2, 3]
    assert told["faces"] == 8 and sum(c["share"] for c in told["concepts"]) == pytest.approx(1, abs=1e-3)
    assert told["usual"][0] <= told["usual"][1]
    training = {r.path: r for r in Manifest.read(faces_file) if r.split == "train"}
    for concept in told["concepts"]:
        near = concept["nearest"]
        values = [entry["similarity"] for entry in near]
        assert len(near) == 4 and values == sorted(values, reverse=True)
        records = [training[str(faces_file.parent / entry["path"])] for entry in near]
        assert len({record.identity for record in records}) == 4  # two crops of each of the four people
        data = np.frombuffer(base64.b64decode(near[0]["picture"]), np.uint8)
        assert cv2.imdecode(data, cv2.IMREAD_COLOR).shape == (64, 64, 3)
    assert CONCEPTS in json.loads((run / "run.json").read_text())["files"]


def test_both_engines_agree_on_similarity_and_heat(run: Path) -> None:
    graph, network = load_engine(run), TorchEngine(load_run(run))
    assert isinstance(graph, OnnxEngine) and graph.outputs == ["score", "heat", "concepts"]
    images = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), np.uint8)
    ours, theirs = graph.similarity(images), network.similarity(images)
    assert ours is not None and theirs is not None and ours.shape == (3, 3)
    np.testing.assert_allclose(ours, theirs, atol=1e-4)
    np.testing.assert_allclose(graph.score(images), network.score(images), atol=1e-4)
    np.testing.assert_allclose(graph.heat(images), network.heat(images), atol=1e-3)
    assert np.abs(ours).max() <= 1 + 1e-5


@pytest.mark.parametrize("engine", ["onnx", "torch"])
def test_a_verdict_names_the_concept_with_faces_of_it(
    run: Path, told: dict, portrait_file: Path, engine: str
) -> None:
    verdict = Inspector(run, engine=engine).inspect(portrait_file)  # type: ignore[arg-type]
    (piece,) = verdict.to_dict()["evidence"]
    concept = piece["concept"]
    similar = concept["similarities"]
    assert len(similar) == 3 and concept["number"] == 1 + int(np.argmax(similar))
    assert concept["similarity"] == max(similar) and concept["usual"] == told["usual"][0]
    near = told["concepts"][concept["number"] - 1]["nearest"]
    assert [entry["path"] for entry in concept["nearest"]] == [entry["path"] for entry in near]
    assert "picture" not in concept["nearest"][0]
    page = verdict.to_html()
    assert f"Looks most like real concept {concept['number']} of 3: similarity {max(similar):.2f}." in page
    assert near[0]["picture"] in page and "decides nothing" in page
    pictures = verdict.to_dict(pictures=True)["evidence"][0]["concept"]["nearest"]
    assert pictures[0]["picture"].endswith(near[0]["picture"])


def test_a_changed_file_is_refused(run: Path, tmp_path: Path) -> None:
    import shutil

    copy = shutil.copytree(run, tmp_path / "copy")
    (copy / CONCEPTS).write_text((copy / CONCEPTS).read_text().replace('"number": 1', '"number": 2'))
    for load in (load_run, load_engine):
        with pytest.raises(InputError, match=r"concepts\.json: is not the file") as error:
            load(copy)
        assert error.value.reason == "tampered"


@pytest.mark.parametrize("kept", ["paths", "none"])
def test_pictures_can_be_left_out(tiny: Tiny, tmp_path: Path, portrait_file: Path, kept: str) -> None:
    out = train(realid(tiny, f"trainer.concepts={kept}"), tmp_path / "run")  # type: ignore[arg-type]
    assert (out / CONCEPTS).exists() == (kept == "paths")
    if kept == "paths":
        assert "picture" not in (out / CONCEPTS).read_text()
    page = Inspector(out).inspect(portrait_file).to_html()
    assert "Looks most like real concept" in page and "Training faces nearest" not in page


def test_runs_without_a_memory_stay_as_they_are(real_run: Path, portrait_file: Path) -> None:
    assert not (real_run / CONCEPTS).exists()
    engine = load_engine(real_run)
    assert engine.similarity(np.zeros((1, 96, 96, 3), np.uint8)) is None
    verdict = Inspector(real_run).inspect(portrait_file)
    assert (
        "concept" not in verdict.to_dict()["evidence"][0]
        and "concept" not in verdict.to_html().split("</style>")[1]
    )
    default = load_engine("default")
    assert isinstance(default, OnnxEngine) and default.outputs == ["score", "heat"]


def test_many_faces_are_drawn_evenly(run: Path, faces_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(finding, "FACES", 4)
    loaded = load_run(run)
    data = replace(loaded.recipe.data(), manifest=str(faces_file))
    records = [r for r in Manifest.read(faces_file).records() if r.split == "train"]
    found = finding.describe_concepts(
        loaded.detector, data, records, device=torch.device("cpu"), pictures=False
    )
    assert found is not None and found["faces"] == 4
    paths = {entry["path"] for concept in found["concepts"] for entry in concept["nearest"]}
    assert paths == {"00.png", "02.png", "04.png", "06.png"}


def test_a_list_of_another_kind_is_told(tmp_path: Path) -> None:
    files = {"files": {CONCEPTS: "checked elsewhere"}}
    (tmp_path / CONCEPTS).write_text('{"format": 2}')
    with pytest.raises(InputError, match="format 2; this version of unseen reads 1"):
        read_concepts(tmp_path, files)
    (tmp_path / CONCEPTS).write_text('{"format": 1, "concepts": 3}')
    with pytest.raises(InputError, match=r"concepts\.json: damaged"):
        read_concepts(tmp_path, files)
    assert read_concepts(tmp_path, {"files": {}}).nearest == ()


def test_the_most_similar_concept_is_named_from_one() -> None:
    found = Concepts(0.5).most_like(np.float32([0.1, 0.7, 0.3]))
    assert found.number == 2 and found.similarity == 0.7 and found.all == (0.1, 0.7, 0.3)
    assert found.usual == 0.5 and found.nearest == ()
    assert Example("a", 0.5).to_dict() == {"path": "a", "similarity": 0.5}
