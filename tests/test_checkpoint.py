from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from tests.train.faces import faces_file, tiny
from unseen.checkpoint import load_run, same_recipe, save_run
from unseen.data.transforms import AlignFace
from unseen.evaluate.calibration import Calibration
from unseen.recipe import read_recipe
from unseen.types import InputError

__all__ = ["faces_file", "tiny"]

Tiny = Callable[..., dict]


@pytest.fixture
def run(tiny: Tiny, tmp_path: Path) -> Path:
    recipe = read_recipe(tiny(), ["detector.backbone.init_args.pretrained=true"])
    torch.manual_seed(1)
    detector = recipe.detector(pretrained=False)
    calibration = Calibration.fit([-2.0, -1.0, 1.5, 2.0, -1.5], [0, 0, 1, 1, 0])
    return save_run(
        tmp_path / "run",
        detector,
        recipe,
        calibration=calibration,
        metrics={"val_auc": 0.9},
        card="# a card",
        data={"train": {"rows": 3}},
    )


def test_what_was_saved_is_what_is_loaded(run: Path, tiny: Tiny) -> None:
    loaded = load_run(run)
    torch.manual_seed(1)
    detector = read_recipe(tiny()).detector().eval()
    image = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(loaded.detector(image).score, detector(image).score)
    assert loaded.name == "run" and loaded.card == "# a card" and loaded.metrics == {"val_auc": 0.9}
    assert loaded.facts["data"] == {"train": {"rows": 3}} and len(loaded.digest) == 64
    assert loaded.calibration.n_real == 3


def test_a_loaded_run_is_at_rest(run: Path) -> None:
    """No augmentation, no dropout, no gradient, and no weights fetched though the recipe says pretrained."""
    loaded = load_run(run)
    assert [type(t) for t in loaded.transforms] == [AlignFace]
    assert not loaded.detector.training
    assert not any(p.requires_grad for p in loaded.detector.parameters())


def test_loading_draws_no_random_number_that_matters(run: Path) -> None:
    first, second = load_run(run), load_run(run)
    image = torch.rand(1, 3, 64, 64)
    assert torch.equal(first.detector(image).score, second.detector(image).score)


FILES = ["weights.safetensors", "recipe.yaml", "calibration.json", "metrics.json", "card.md"]


@pytest.mark.parametrize("name", [*FILES, "run.json"])
def test_a_missing_file_is_named(run: Path, name: str) -> None:
    (run / name).unlink()
    with pytest.raises(InputError, match=name) as error:
        load_run(run)
    assert error.value.reason == "missing"


@pytest.mark.parametrize("name", FILES)
def test_a_changed_file_is_named(run: Path, name: str) -> None:
    data = bytearray((run / name).read_bytes())
    data[len(data) // 2] ^= 1
    (run / name).write_bytes(bytes(data))
    with pytest.raises(InputError, match=name) as error:
        load_run(run)
    assert error.value.reason == "tampered"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"files": 3}', "{}"])
def test_a_damaged_list_is_named(run: Path, text: str) -> None:
    (run / "run.json").write_text(text)
    with pytest.raises(InputError, match=r"run\.json: damaged"):
        load_run(run)


def test_weights_of_another_network_are_told(run: Path) -> None:
    from unseen.run_files import digest

    state = load_file(run / "weights.safetensors")
    state.pop("head.linear.bias")
    save_file(state, run / "weights.safetensors")
    facts = json.loads((run / "run.json").read_text())
    facts["files"]["weights.safetensors"] = digest(run / "weights.safetensors")
    (run / "run.json").write_text(json.dumps(facts))
    with pytest.raises(InputError, match="does not fit the network"):
        load_run(run)


def test_what_is_no_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        load_run(tmp_path / "none")
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="is a file"):
        load_run(tmp_path / "file")


def test_a_run_may_be_moved_and_renamed(run: Path, tmp_path: Path) -> None:
    shutil.move(run, tmp_path / "elsewhere")
    assert load_run(tmp_path / "elsewhere").name == "elsewhere"


def test_without_calibration_there_is_a_stand_in(tiny: Tiny, tmp_path: Path) -> None:
    recipe = read_recipe(tiny())
    folder = save_run(tmp_path / "bare", recipe.detector(), recipe)
    assert load_run(folder).calibration.n_real == 0


def test_differing_keys_are_found(run: Path, tiny: Tiny) -> None:
    other = read_recipe(tiny(), ["seed=3", "data.transforms+=Grayscale"])
    assert same_recipe(run, other) == [
        "data.transforms.2.class_path",
        "data.transforms.2.init_args.p",
        "detector.backbone.init_args.pretrained",
        "seed",
    ]


def test_a_key_that_an_older_recipe_did_not_know_has_its_default_there(run: Path, tiny: Tiny) -> None:
    whole = yaml.safe_load((run / "recipe.yaml").read_text())
    del whole["trainer"]["compile"]
    (run / "recipe.yaml").write_text(yaml.safe_dump(whole))
    assert same_recipe(run, read_recipe(whole)) == []
    assert same_recipe(run, read_recipe(whole, ["trainer.compile=true"])) == ["trainer.compile"]
