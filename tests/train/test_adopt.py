"""DeepfakeBench's weights give here what they give there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch import nn

from unseen.checkpoint import load_run
from unseen.cli import main
from unseen.models.backbone import TimmBackbone
from unseen.models.deepfakebench import FixedPaddingB4, architecture, to_ours
from unseen.models.detector import Detector
from unseen.models.heads import BinaryHead
from unseen.train.adopt import adopt_deepfakebench
from unseen.types import InputError


@pytest.fixture(scope="module")
def xception() -> Detector:
    backbone = TimmBackbone("legacy_xception", image_size=256, mean=(0.5,) * 3, std=(0.5,) * 3)
    torch.manual_seed(0)
    detector = Detector(backbone, BinaryHead).eval()
    for module in detector.modules():
        if isinstance(module, nn.BatchNorm2d):  # untrained statistics would hide a swapped layer
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    return detector


def theirs(detector: Detector) -> dict[str, torch.Tensor]:
    """The same weights under DeepfakeBench's names: `backbone.` and Xception's own, `last_linear`."""
    state = {f"backbone.{k}": v for k, v in detector.backbone.net.state_dict().items()}
    state["backbone.last_linear.weight"] = detector.head.linear.weight.detach()
    state["backbone.last_linear.bias"] = detector.head.linear.bias.detach()
    # Built in every one of its Xceptions and used by none of them.
    state["backbone.adjust_channel.0.weight"] = torch.zeros(512, 2048, 1, 1)
    return state


@pytest.mark.parametrize("prefix", ["", "module."])
def test_xception_becomes_a_run_with_the_same_scores(xception: Detector, tmp_path: Path, prefix: str) -> None:
    file = tmp_path / "xception_best.pth"
    torch.save({prefix + key: value for key, value in theirs(xception).items()}, file)
    if prefix:
        folder = adopt_deepfakebench(file, tmp_path / "run")
    else:
        folder = tmp_path / "run"
        assert main(["import", "deepfakebench", str(file), "--out", str(folder)]) == 0
    run = load_run(folder)
    image = torch.rand(2, 3, 256, 256)
    with torch.no_grad():
        torch.testing.assert_close(run.detector(image).score, xception(image).score)
        # By hand, as its classifier does it: normalise by 0.5, ReLU, mean, last_linear, softmax's log-odds.
        seen = run.detector.backbone.net((image - 0.5) / 0.5)
        logits = nn.functional.linear(
            seen.relu().mean((2, 3)), xception.head.linear.weight, xception.head.linear.bias
        )
    torch.testing.assert_close(run.detector(image).score, logits[:, 1] - logits[:, 0])
    assert [type(t).__name__ for t in run.transforms] == ["AlignFace"]
    assert "imported from `xception_best.pth`" in run.card


def test_with_dropout_the_classifier_is_the_second_of_two(xception: Detector) -> None:
    state = {k.replace("last_linear", "last_linear.1"): v for k, v in theirs(xception).items()}
    ours = to_ours(state, xception.state_dict())
    torch.testing.assert_close(ours["head.linear.bias"], xception.head.linear.bias.detach())


def test_b4_names(tmp_path: Path) -> None:
    detector = Detector(FixedPaddingB4(image_size=64), BinaryHead)
    keys = detector.state_dict().keys()
    # efficientnet_pytorch counts blocks through; the first two have no expansion.
    by_hand = {
        "efficientnet._conv_stem.weight": "backbone.net.conv_stem.weight",
        "efficientnet._bn0.running_var": "backbone.net.bn1.running_var",
        "efficientnet._blocks.0._depthwise_conv.weight": "backbone.net.blocks.0.0.conv_dw.weight",
        "efficientnet._blocks.1._project_conv.weight": "backbone.net.blocks.0.1.conv_pw.weight",
        "efficientnet._blocks.1._bn2.bias": "backbone.net.blocks.0.1.bn2.bias",
        "efficientnet._blocks.2._expand_conv.weight": "backbone.net.blocks.1.0.conv_pw.weight",
        "efficientnet._blocks.6._se_reduce.bias": "backbone.net.blocks.2.0.se.conv_reduce.bias",
        "efficientnet._blocks.31._project_conv.weight": "backbone.net.blocks.6.1.conv_pwl.weight",
        "efficientnet._conv_head.weight": "backbone.net.conv_head.weight",
        "efficientnet._bn1.weight": "backbone.net.bn2.weight",
        "last_layer.weight": "head.linear.weight",
    }
    back = {ours: f"backbone.{name}" for name, ours in by_hand.items()}
    state = {}
    for number, key in enumerate(k for k in keys if k not in ("backbone.mean", "backbone.std")):
        name = back.get(key) or f"backbone.{_their_name(key)}"
        state[name] = torch.full((1,), float(number))
    assert set(back.values()) <= state.keys()
    assert architecture(state) == "efficientnetb4"
    ours = to_ours(state, keys)
    wanted = [k for k in keys if k not in ("backbone.mean", "backbone.std")]
    assert [int(ours[key]) for key in wanted] == list(range(len(wanted)))


def _their_name(key: str) -> str:
    if key.startswith("head.linear."):
        return key.replace("head.linear", "last_layer")
    depths = (2, 4, 4, 6, 6, 8, 2)
    key = key.removeprefix("backbone.net.")
    for ours, name in (
        ("conv_stem", "_conv_stem"),
        ("conv_head", "_conv_head"),
        ("bn1", "_bn0"),
        ("bn2", "_bn1"),
    ):
        if key.startswith(ours + "."):
            return f"efficientnet.{name}.{key.split('.')[-1]}"
    found = re.fullmatch(r"blocks\.(\d)\.(\d)\.(.+)\.(\w+)", key)
    assert found, key
    stage, place, module, leaf = int(found[1]), int(found[2]), found[3], found[4]
    first = {"conv_dw": "_depthwise_conv", "bn1": "_bn1", "conv_pw": "_project_conv", "bn2": "_bn2"}
    others = {"conv_pw": "_expand_conv", "bn1": "_bn0", "conv_dw": "_depthwise_conv", "bn2": "_bn1",
              "conv_pwl": "_project_conv", "bn3": "_bn2"}  # fmt: skip
    names = (first if stage == 0 else others) | {
        "se.conv_reduce": "_se_reduce",
        "se.conv_expand": "_se_expand",
    }
    return f"efficientnet._blocks.{sum(depths[:stage]) + place}.{names[module]}.{leaf}"


def test_b4_pads_as_for_380_pixels_and_its_stem_not_at_all() -> None:
    """380 -> 190 (stem) -> 95 -> 48 -> 24 -> 12: pad = (out - 1) * 2 + kernel - in, half of it before.

    95 of 190, kernel 3: 188 + 3 - 190 = 1; 48 of 95, kernel 5: 94 + 5 - 95 = 4; 24 of 48, kernel 3: 46 + 3 -
    48 = 1; 12 of 24, kernel 5: 22 + 5 - 24 = 3.
    """
    net = FixedPaddingB4(image_size=256).net
    assert tuple(net.conv_stem(torch.zeros(1, 3, 256, 256)).shape[-2:]) == (
        127,
        127,
    )  # floor((256 - 3) / 2) + 1
    extra = {n: m.extra for n, m in net.named_modules() if hasattr(m, "extra")}
    assert extra == {
        "conv_stem": (0, 0, 0, 0), "blocks.1.0.conv_dw": (0, 1, 0, 1), "blocks.2.0.conv_dw": (2, 2, 2, 2),
        "blocks.3.0.conv_dw": (0, 1, 0, 1), "blocks.5.0.conv_dw": (1, 2, 1, 2),
    }  # fmt: skip


def test_what_is_no_such_network_is_refused_and_leaves_nothing(xception: Detector, tmp_path: Path) -> None:
    file = tmp_path / "w.pth"
    for state, said in (
        ({"a.weight": torch.zeros(1)}, "unknown network"),
        ({k: v for k, v in theirs(xception).items() if "conv3" not in k}, "tensors missing"),
        (theirs(xception) | {"backbone.fusion.weight": torch.zeros(1)}, "1 too many"),
        (theirs(xception) | {"backbone.bn1.weight": torch.zeros(7)}, "size mismatch"),
    ):
        torch.save(state, file)
        with pytest.raises(InputError, match=said):
            adopt_deepfakebench(file, tmp_path / "run")
        assert not (tmp_path / "run/run.json").exists()


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (exec, ("raise SystemExit('executed')",))


def test_nothing_in_a_file_is_executed(tmp_path: Path) -> None:
    torch.save({"backbone": Evil()}, tmp_path / "w.pth")
    with pytest.raises(InputError, match="cannot be read as plain weights"):
        adopt_deepfakebench(tmp_path / "w.pth", tmp_path / "run")
    (tmp_path / "w.pth").write_bytes(b"cut")
    with pytest.raises(InputError, match="cannot be read"):
        adopt_deepfakebench(tmp_path / "w.pth", tmp_path / "run")
    with pytest.raises(InputError, match="no such file"):
        adopt_deepfakebench(tmp_path / "gone.pth", tmp_path / "run")
