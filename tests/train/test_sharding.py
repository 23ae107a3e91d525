"""A network shared out between two processes learns what it learns whole in each of them."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.testing._internal.distributed.fake_pg import FakeStore

from tests.regions.conftest import zoo
from tests.train.test_processes import bench, recipes, run_pair
from unseen.checkpoint import load_run
from unseen.data.manifest import Manifest
from unseen.models.backbone import Backbone, TimmBackbone
from unseen.models.detector import Detector
from unseen.models.heads import BinaryHead
from unseen.recipe import read_recipe
from unseen.regions.store import primary_regions
from unseen.train.fit import train
from unseen.train.sharding import (
    blocks,
    check_optimizer,
    gradient_norm,
    held,
    load_optimizer,
    piece,
    roots,
    share_out,
    split_groups,
    whole,
    whole_optimizer,
)
from unseen.types import InputError

__all__ = ["zoo"]

Tiny = Callable[..., dict]
OTHERS = "trainer.strategy: fsdp does not know how to share out Backbone"


# --- what is shared out -----------------------------------------------------------------------------------


def test_blocks_of_large_networks_are_fetched_by_themselves() -> None:
    with torch.device("meta"):
        vit = timm.create_model("vit_large_patch16_224", num_classes=0)
        conv = timm.create_model("tf_efficientnetv2_l", num_classes=0)
    assert list(blocks(vit)) == list(vit.blocks)
    # Stages of more than 16 M weights by their blocks; what is less than 1 % of the network goes with it.
    found = list(blocks(conv))
    largest = max(sum(p.numel() for p in b.parameters()) for b in found)
    assert {type(b) for b in found} >= {type(conv.blocks[5][0])} and largest < 20e6
    together = {p for b in found for p in b.parameters()}
    assert len(together) == sum(len(list(b.parameters())) for b in found), "a weight is in two blocks"
    assert sum(p.numel() for p in together) > 0.8 * sum(p.numel() for p in conv.parameters())


def test_an_unknown_backbone_is_refused() -> None:
    backbone = Backbone(3, 3, 64, mean=(0, 0, 0), std=(1, 1, 1))
    with pytest.raises(InputError, match=OTHERS) as error:
        roots(Detector(backbone, BinaryHead))
    assert error.value.reason == "processes"


def test_what_is_whole_stays_as_it_is() -> None:
    layer = nn.Linear(2, 1)
    with whole(layer):
        assert held(layer.parameters()) == 3 * 4 and piece(layer.weight) is layer.weight
    assert gradient_norm([torch.tensor([3.0]), torch.tensor([[4.0]])]) == 5


def test_one_process_has_nobody_to_share_with(
    tiny: Tiny, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    words = ["trainer.max_steps=1", "trainer.val_every=1", "trainer.channels_last=false"]
    plain = train(read_recipe(tiny(), words), tmp_path / "plain")
    with caplog.at_level(logging.WARNING, "unseen.train"):
        alone = train(read_recipe(tiny(), [*words, "trainer.strategy=fsdp"]), tmp_path / "alone")
    torch.distributed.destroy_process_group()
    assert "nobody to share with" in caplog.text
    a, b = load_file(plain / "weights.safetensors"), load_file(alone / "weights.safetensors")
    assert all(torch.equal(a[key], b[key]) for key in a)


@pytest.fixture
def eight() -> Iterator[None]:
    """This process is the first of eight of which the others are not there, and nothing travels."""
    torch.distributed.init_process_group("fake", store=FakeStore(), rank=0, world_size=8)
    yield
    torch.distributed.destroy_process_group()


def test_of_eight_processes_each_holds_an_eighth(eight: None) -> None:
    detector = Detector(TimmBackbone("test_vit", image_size=64), BinaryHead)
    backbone = detector.backbone
    count, place = (sum(p.numel() for p in ps) for ps in (backbone.parameters(), [backbone.net.pos_embed]))
    share_out(detector)
    assert held([backbone.net.pos_embed]) == 4 * place / 8  # one row of 64 numbers for each of 17 patches
    assert held(backbone.parameters()) == pytest.approx(4 * count / 8, rel=0.01)


@pytest.mark.parametrize("kind", ["Adam", "AdamW", "SGD", "RMSprop", "NAdam", "RAdam", "Adamax", "Adafactor"])
def test_the_memory_of_an_optimizer_is_stored_as_one_process_has_it(eight: None, kind: str) -> None:
    make = partial(getattr(torch.optim, kind), lr=0.1)
    layer = fully_shard(nn.Linear(3, 16))
    if kind == "Adafactor":
        with pytest.raises(
            InputError, match=r"Adafactor with trainer\.strategy: fsdp; expected one of .* AdamW"
        ):
            check_optimizer(make(layer.parameters()))
        return
    groups = [{"params": list(layer.parameters())}]
    optimizers = [make(split_groups(groups)) for _ in range(2)]
    check_optimizer(optimizers[0])
    plain = nn.Linear(3, 16)
    one = make(plain.parameters())
    for parameter in (*layer.parameters(), *plain.parameters()):
        parameter.grad = torch.ones_like(parameter)
    one.step()
    optimizers[0].step()
    load_optimizer(optimizers[1], groups, one.state_dict())
    for first, second in zip(*(optimizer.state.values() for optimizer in optimizers), strict=True):
        assert first.keys() == second.keys()
        for name, value in first.items():  # gradients of one: the same number for each weight
            if isinstance(value, torch.Tensor):
                assert type(value) is type(second[name]) and value.shape == second[name].shape
                torch.testing.assert_close(piece(value), piece(second[name]))
    again = whole_optimizer(optimizers[1], groups)
    assert again["param_groups"] == one.state_dict()["param_groups"]


# --- two processes ----------------------------------------------------------------------------------------


def like(recipe: dict, **trainer: object) -> dict:
    made = copy.deepcopy(recipe)
    made["trainer"] |= trainer
    return made


def pairs(manifest: Path, regions: Path, inpainter: Path) -> dict[str, dict]:
    """Recipes that share out every kind of backbone, and use all that touches weights or gradients."""
    made = recipes(manifest, regions, inpainter)
    for recipe in made.values():
        recipe["trainer"] |= {"val_every": 2}
        recipe["data"]["val_batch"] = 5  # three batches: one process has one more than the other
    # The eps: or rounding, where a gradient is zero but for rounding, would be made a whole step of.
    adam = {
        "class_path": "torch.optim.AdamW",
        "init_args": {"lr": 0.001, "weight_decay": 0.1, "eps": 1e-4, "fused": True},
    }
    parts = [*made["caddm"]["detector"]["parts"], *made["realid"]["detector"]["parts"]]
    everything = made["caddm"] | {"optimizer": adam}
    everything["detector"] = {**made["baseline"]["detector"], "parts": parts, "head": "DualDecisionHead"}
    net = {"name": "test_resnet", "image_size": 64, "drop_rate": 0.2}
    convolutions = copy.deepcopy(made["sbi"])
    convolutions["detector"]["backbone"] = {"class_path": "TimmBackbone", "init_args": net}
    convolutions["data"]["transforms"].append("Flip")
    frequencies = copy.deepcopy(made["baseline"])
    frequencies["data"]["transforms"] = [{"class_path": "AlignFace", "init_args": {"size": 96}}]
    frequencies["detector"]["backbone"] = {
        "class_path": "F3Net",
        "init_args": {"name": "test_resnet", "image_size": 96, "mix_after": ["layer2", "layer4"]},
    }
    made["rffr"]["detector"]["backbone"]["init_args"]["compat_first_patch"] = (
        True  # a frozen weight among others
    )
    every_rule = {
        "decay_all": False,
        "accumulate": 2,
        "sam": 0.05,
        "ema": 0.9,
        "clip": 0.5,
        "clip_value": 0.01,
    }
    return {
        "everything": like(everything, max_steps=3, **every_rule),
        "convolutions": like(convolutions, keep="best"),
        "did_whole": made["did_whole"],
        "inpainter": made["inpainter"],
        "rffr": made["rffr"],
        "frequencies": frequencies,
        "half": like(made["prle"], precision="bf16-mixed"),
    }


@pytest.mark.slow
@pytest.mark.ddp
@pytest.mark.timeout(600)
def test_shared_out_every_network_learns_the_same(faces_file: Path, tmp_path: Path, zoo: list) -> None:
    torch.set_num_threads(1)
    manifest = bench(faces_file, tmp_path)
    primary_regions(Manifest.read(manifest), zoo[:1], tmp_path / "regions", size=64)
    made = pairs(manifest, tmp_path / "regions", tmp_path / "inpainter")
    order = {}
    for name, recipe in made.items():
        order[name] = like(recipe, channels_last=False)
        order[f"{name}_fsdp"] = like(order[name], strategy="fsdp", compile=name == "half")
    whole_run, shared = order["everything"], order["everything_fsdp"]
    order |= {"stopped": shared, "stopped+resume": shared, "joined": whole_run, "joined+resume": shared}
    order |= {"parted": shared, "parted+resume": whole_run}
    order["nan"], order["broken"] = shared, shared
    run_pair(tmp_path, order)

    def ended(name: str, rank: int = 0) -> dict:
        return torch.load(tmp_path / f"{name}.{rank}.pt", weights_only=True)

    for name in made:
        plain, first, second = ended(name), ended(f"{name}_fsdp"), ended(f"{name}_fsdp", 1)
        same(plain["state"], first["state"], name)
        assert first["paths"] == plain["paths"] and second["state"] == {}
        assert first["history"] == second["history"], f"{name}: processes validated otherwise"
        for known, number in zip(plain["history"][-1].values(), first["history"][-1].values(), strict=True):
            assert number == pytest.approx(known, abs=1e-6), name
        for key in ("model", "average", "optimizer"):  # another process cannot tell how a run was trained
            there, here = (checkpoint(tmp_path / run)[key] for run in (name, f"{name}_fsdp"))
            assert shapes(there) == shapes(here), f"{name}: {key}"
        same(*(load_file(tmp_path / run / "weights.safetensors") for run in (name, f"{name}_fsdp")), name)
        # Half of the backbone's weights are elsewhere, and half of all that goes with each of them.
        model = read_recipe(tmp_path / f"{name}.yaml").model(pretrained=False)
        half = sum(held(root.parameters()) for root in roots(model)) / 2
        copies = plain["memory"] // (4 * sum(p.numel() for p in model.parameters() if p.requires_grad))
        for one in (first, second):
            assert plain["weights"] - one["weights"] == pytest.approx(half, rel=0.01), name
            assert plain["memory"] - one["memory"] == pytest.approx(copies * half, rel=0.01), name
            assert one["averages"] == (one["weights"] if plain["averages"] else 0), name
    assert ended("half_fsdp")["compiled"] == 6  # each block
    assert isinstance(load_run(tmp_path / "everything_fsdp").model, Detector)

    # A run that was broken off: by the same bits in the same way, to rounding where ways are changed.
    uninterrupted = ended("everything_fsdp")
    again = ended("stopped+resume")
    assert again["history"] == uninterrupted["history"]
    assert all(torch.equal(value, again["state"][key]) for key, value in uninterrupted["state"].items())
    same(uninterrupted["state"], ended("joined+resume")["state"], "whole, then shared out")
    same(uninterrupted["state"], ended("parted+resume")["state"], "shared out, then whole")

    # Nobody waits for a process that has failed.
    assert all("the loss term 'cross_entropy' is nan" in ended("nan", rank)["error"] for rank in (0, 1))
    assert ended("broken", 1)["error"] == "InputError: a face of this process only"
    assert ended("broken")["seconds"] < 60 and "error" in ended("broken")


def same(expected: dict[str, torch.Tensor], found: dict[str, torch.Tensor], what: str) -> None:
    assert expected.keys() == found.keys(), what
    apart = {
        key: (found[key].double() - value.double()).abs().max().item() for key, value in expected.items()
    }
    worst = max(apart, key=lambda key: apart[key])
    assert apart[worst] < 2e-6, f"{what}: {worst} differs by {apart[worst]}"


def checkpoint(run: Path) -> dict:
    return torch.load(run / "last.ckpt", weights_only=True)


def shapes(thing: object) -> object:
    """What a checkpoint is made of, without its numbers."""
    if isinstance(thing, torch.Tensor):
        return (type(thing), thing.shape, thing.dtype, thing.device)
    if isinstance(thing, dict):
        return {key: shapes(value) for key, value in thing.items()}
    return [shapes(value) for value in thing] if isinstance(thing, list | tuple) else type(thing)
