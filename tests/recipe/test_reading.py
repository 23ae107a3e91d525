from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

from unseen.data.samplers import Balanced
from unseen.data.transforms import AlignFace, Flip
from unseen.methods.sbi import SelfBlend
from unseen.models.heads import BinaryHead
from unseen.recipe import read_recipe
from unseen.types import InputError

Tiny = Callable[..., dict]


def test_short_names_build_the_classes_they_name(tiny: Tiny) -> None:
    recipe = read_recipe(tiny())
    data = recipe.data()
    assert [type(t) for t in data.transforms] == [AlignFace, Flip]
    assert isinstance(data.sampler, Balanced) and isinstance(data.sampler.synthesise, SelfBlend)
    detector = recipe.detector()
    assert isinstance(detector.head, BinaryHead) and detector.head.dropout.p == 0.2
    assert detector.backbone.image_size == 64
    optimizer = recipe.optimizer(detector.parameters())
    assert isinstance(optimizer, torch.optim.Adam) and optimizer.param_groups[0]["lr"] == 1e-3


def test_expanded_recipe_builds_the_same_and_expands_to_itself(tiny: Tiny, tmp_path: Path) -> None:
    recipe = read_recipe(
        tiny(schedule={"decay": "cosine"}), ["data.sampler.init_args.synthesise.ratios=[0.5]"]
    )
    path = tmp_path / "recipe.yaml"
    path.write_text(recipe.to_yaml())
    again = read_recipe(path)
    assert again.expanded() == recipe.expanded()
    assert again.trainer() == recipe.trainer() and again.schedule() == recipe.schedule()
    torch.manual_seed(0)
    first = recipe.detector().state_dict()
    torch.manual_seed(0)
    second = again.detector().state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)
    for a, b in zip(recipe.data().transforms, again.data().transforms, strict=True):
        assert repr(vars(a)) == repr(vars(b))
    assert again.data().sampler.synthesise.ratios == (0.5,)


def test_expanded_recipe_states_every_default(tiny: Tiny) -> None:
    expanded = read_recipe(tiny()).expanded()
    assert expanded["detector"]["backbone"]["init_args"]["pretrained"] is False
    assert expanded["trainer"]["clip"] is None and expanded["seed"] == 0 and expanded["init"] is None
    assert expanded["data"]["sampler"]["init_args"]["share"] == 1.0
    assert yaml.safe_load(read_recipe(tiny()).to_yaml()) == expanded


@pytest.mark.parametrize(
    "words",
    [
        ["detector.backbone.init_args.name=test_vit", "trainer.max_steps=7", "seed=5"],
        ["--detector.backbone.init_args.name=test_vit", "--trainer.max_steps", "7", "--seed", "5"],
        ["--detector.backbone.name", "test_vit", "--trainer.max_steps=7", "--seed=5"],
    ],
)
def test_overrides_win(tiny: Tiny, words: list[str]) -> None:
    recipe = read_recipe(tiny(), words)
    assert recipe.settings["detector"]["backbone"]["init_args"]["name"] == "test_vit"
    assert recipe.settings["detector"]["backbone"]["init_args"]["image_size"] == 64
    assert recipe.trainer().max_steps == 7 and recipe.trainer().val_every == 2 and recipe.seed == 5


def test_overrides_append_to_lists_and_change_classes(tiny: Tiny) -> None:
    recipe = read_recipe(
        tiny(),
        [
            "data.transforms+={class_path: JpegCompress, init_args: {p: 0.25}}",
            "data.sampler={class_path: Shuffled, init_args: {batch_size: 3}}",
            "optimizer={class_path: torch.optim.SGD, init_args: {lr: 0.5}}",
        ],
    )
    assert [type(t).__name__ for t in recipe.data().transforms] == ["AlignFace", "Flip", "JpegCompress"]
    assert recipe.data().transforms[2].p == 0.25
    assert type(recipe.data().sampler).__name__ == "Shuffled"
    assert isinstance(recipe.optimizer([torch.zeros(1)]), torch.optim.SGD)


def backbone(**arguments: object) -> dict:
    return {"class_path": "TimmBackbone", "init_args": {"name": "test_resnet", **arguments}}


@pytest.mark.parametrize(
    ("section", "value", "words"),
    [
        ("trainr", {"max_steps": 3}, "no key 'trainr'.*did you mean trainer"),
        ("trainer", {"max_epoch": 3}, "no key 'max_epoch'.*did you mean max_epochs"),
        ("data", {"transfroms": []}, "no key 'transfroms'.*did you mean transforms"),
        (
            "detector",
            {"backbone": backbone(image_siz=3), "head": "BinaryHead"},
            "TimmBackbone takes no 'image_siz'.*image_size",
        ),
        (
            "detector",
            {"backbone": backbone(), "head": "BinaryHed"},
            "no class 'BinaryHed'.*did you mean BinaryHead",
        ),
        (
            "detector",
            {"backbone": backbone(), "head": {"class_path": "BinaryHead", "init_args": {"drop_out": 1}}},
            "BinaryHead takes no 'drop_out'.*dropout",
        ),
        ("data", {"transforms": ["Flap"]}, "data.transforms: there is no class 'Flap'.*Flip"),
        (
            "detector",
            {"backbone": backbone(), "head": "BinaryHead", "parts": ["Foo"]},
            "parts: there is no class 'Foo'; expected one of ArtifactDetector, Decomposition, RealMemory$",
        ),
        ("optimizer", "Adamx", "no class 'Adamx'; expected one of torch.optim.*torch.optim.Adam,"),
        (
            "optimizer",
            {"class_path": "torch.optim.Adam", "init_args": {"lr": "fast"}},
            "optimizer.lr: 'fast'; expected float",
        ),
        (
            "data",
            {"sampler": {"class_path": "Balanced", "init_args": {"batchsize": 3}}},
            "Balanced takes no 'batchsize'.*batch_size",
        ),
        ("trainer", {"max_steps": "many"}, "trainer.max_steps.*many"),
        ("trainer", {"precision": "bf16"}, "trainer.precision.*bf16"),
        ("schedule", {"decay": "cosin"}, "schedule.decay.*cosin"),
        ("seed", "one", "seed.*one"),
        ("seed", -1, "seed: -1; expected 0 or more"),
    ],
)
def test_a_wrong_key_is_named_with_file_and_near_miss(
    tiny: Tiny, tmp_path: Path, section: str, value: object, words: str
) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(yaml.safe_dump({**tiny(), section: value}))
    with pytest.raises(InputError, match=words) as error:
        read_recipe(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_a_wrong_override_is_named(tiny: Tiny) -> None:
    with pytest.raises(InputError, match="did you mean max_steps"):
        read_recipe(tiny(), ["trainer.max_step=3"])
    with pytest.raises(InputError, match="expected key=value"):
        read_recipe(tiny(), ["trainer.max_steps"])


def test_a_value_that_the_class_refuses_is_told_with_the_file(tiny: Tiny) -> None:
    with pytest.raises(InputError, match=r"recipe: .*no network 'no_such_net'"):
        read_recipe(tiny(), ["detector.backbone.init_args.name=no_such_net"]).detector()
    with pytest.raises(InputError, match=r"trainer.ema: 1.5; expected"):
        read_recipe(tiny(), ["trainer.ema=1.5"]).trainer()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "the file has none"),
        ("detector: [", "not YAML"),
        ("detector: {head: BinaryHead}", "backbone.*missing"),
        ("data: {}", "missing"),
    ],
)
def test_a_broken_file_is_told(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=words):
        read_recipe(path)


def test_missing_and_binary_files_are_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such recipe"):
        read_recipe(tmp_path / "none.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="cannot be read as text"):
        read_recipe(tmp_path / "binary.yaml")
    with pytest.raises(InputError, match="cannot be read as text"):
        read_recipe(tmp_path)


@pytest.mark.parametrize("name", ["recipes/tiny.yaml", "tiny.yaml", "tiny"])
def test_ready_made_recipes_are_found_from_anywhere(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ours = read_recipe(Path(__file__).parents[2] / "recipes" / "tiny.yaml")
    monkeypatch.chdir(tmp_path)
    found = read_recipe(name)
    assert found.settings == ours.settings and found.origin == name
    assert "ready-made" in caplog.text
    (tmp_path / "tiny.yaml").write_text("detector: {backbone: 3}")
    if name == "tiny.yaml":  # one's own goes first
        with pytest.raises(InputError):
            read_recipe(name)
    with pytest.raises(InputError, match="did you mean tiny"):
        read_recipe("tinny")
    with pytest.raises(InputError, match="no such recipe"):
        read_recipe("elsewhere/tiny.yaml")
