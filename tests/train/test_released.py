"""Released CADDM weights: a checkpoint of exactly that layout, its own arithmetic, and the run made of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional

from unseen.checkpoint import load_run
from unseen.cli import main
from unseen.data.transforms import AlignFace
from unseen.methods.caddm import ArtifactDetector
from unseen.models.anchors import anchors
from unseen.models.backbone import TimmBackbone
from unseen.models.caddm_names import released_backbone, released_to_ours
from unseen.models.detector import Detector
from unseen.models.heads import BinaryHead
from unseen.train.released import import_caddm
from unseen.types import InputError


def released(width: int = 512) -> dict[str, tuple[int, ...]]:
    """Names and shapes of everything behind the backbone, as the public code makes them."""
    shapes: dict[str, tuple[int, ...]] = {}
    for i, kernel in enumerate((1, 3, 3)):
        here = f"adm.adm_extra_layers.{i}.0."
        shapes[here + "conv1.weight"], shapes[here + "conv1.bias"] = (width, width, kernel, kernel), (width,)
        shapes[here + "conv2.weight"] = (width, width, 3, 3)
        shapes[here + "downsample.0.weight"] = (width, width, kernel, kernel)
        for norm in ("bn1", "bn2", "downsample.1"):
            for name in ("weight", "bias", "running_mean", "running_var"):
                shapes[f"{here}{norm}.{name}"] = (width,)
            shapes[f"{here}{norm}.num_batches_tracked"] = ()
    for name, kernel in (("conv1", 3), ("conv2", 1), ("downsample", 3)):
        shapes[f"adm.adm_extra_layers.3.{name}.weight"] = (width, width, kernel, kernel)
        shapes[f"adm.adm_extra_layers.3.{name}.bias"] = (width,)
    for i, kernel in enumerate((3, 3, 3, 1)):
        for name, out in (("ms_dets", 8), ("ms_cls", 4)):
            here = f"adm.multi_scale_detection_module.{name}.{i}."
            shapes[here + "weight"], shapes[here + "bias"] = (out, width, kernel, kernel), (out,)
    return {**shapes, "fc.weight": (2, width), "fc.bias": (2,)}


def draw(name: str, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    if name.endswith("num_batches_tracked"):
        return torch.tensor(7)
    if name.endswith(("running_var", "bn1.weight", "bn2.weight", "downsample.1.weight")):
        return 0.5 + torch.rand(shape, generator=generator)
    fan = int(np.prod(shape[1:])) if len(shape) > 1 else 100
    gain = 0.01 if "ms_dets" in name else 1.4  # boxes of finite size
    return torch.randn(shape, generator=generator) * (gain / fan**0.5)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Tensor], nn.Module]:
    """A file as released, its tensors, and the backbone that made them."""
    torch.manual_seed(0)
    net = torchvision.models.resnet34()  # with its unused classifier of 1000 things
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2)  # type: ignore[union-attr, operator]
            module.running_var.uniform_(0.5, 1.5)  # type: ignore[union-attr, operator]
    net.conv1.weight.data /= 60  # as weights are that take 0 to 255
    generator = torch.Generator().manual_seed(1)
    state = {f"base_model.{key}": value for key, value in net.state_dict().items()}
    state |= {name: draw(name, shape, generator) for name, shape in released().items()}
    path = tmp_path_factory.mktemp("released") / "resnet34.pkl"
    torch.save({"network": state, "epoch": 3}, path)
    return path, state, net.eval()


def public(state: dict[str, Tensor], net: nn.Module, bgr: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The public network's forward pass, written down from its layout; bgr is (B, 3, 224, 224), 0 to 255."""
    stem = functional.relu(net.bn1(net.conv1(bgr)))  # type: ignore[operator]
    map = net.maxpool(stem)  # type: ignore[operator]
    for layer in (net.layer1, net.layer2, net.layer3, net.layer4):
        map = layer(map)  # type: ignore[operator]
    pooled = map.mean((2, 3))

    def norm(x: Tensor, name: str) -> Tensor:
        parts = [state[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")]
        return functional.batch_norm(x, *parts)

    def conv(x: Tensor, name: str, padding: int = 0) -> Tensor:
        return functional.conv2d(x, state[f"{name}.weight"], state.get(f"{name}.bias"), padding=padding)

    seen, location, confidence = map, [], []
    for i in range(4):
        here = f"adm.adm_extra_layers.{i}."
        if i < 3:
            here += "0."
            inner = functional.relu(norm(conv(seen, here + "conv1"), here + "bn1"))
            inner = norm(conv(inner, here + "conv2", 1), here + "bn2")
            seen = functional.relu(inner + norm(conv(seen, here + "downsample.0"), here + "downsample.1"))
        else:
            inner = conv(functional.relu(conv(seen, here + "conv1")), here + "conv2")
            seen = functional.relu(inner + conv(seen, here + "downsample"))
        heads = "adm.multi_scale_detection_module."
        for found, name in ((location, "ms_dets"), (confidence, "ms_cls")):
            found.append(
                conv(seen, f"{heads}{name}.{i}", int(i < 3)).permute(0, 2, 3, 1).reshape(len(bgr), -1)
            )
    logits = functional.linear(pooled + seen[:, :, 0, 0], state["fc.weight"], state["fc.bias"])
    return torch.cat(location, 1).view(-1, 168, 4), torch.cat(confidence, 1).view(-1, 168, 2), logits


@pytest.fixture(scope="module")
def run(
    checkpoint: tuple[Path, dict[str, Tensor], nn.Module], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    out = tmp_path_factory.mktemp("runs") / "caddm"
    assert main(["import", "caddm", str(checkpoint[0]), "--out", str(out)]) == 0
    return out


def test_the_run_says_what_the_public_network_says(
    checkpoint: tuple[Path, dict[str, Tensor], nn.Module], run: Path
) -> None:
    _, state, net = checkpoint
    rgb = torch.randint(
        0, 256, (2, 3, 224, 224), generator=torch.Generator().manual_seed(2), dtype=torch.uint8
    )
    loaded = load_run(run)
    with torch.no_grad():
        location, confidence, logits = public(state, net, rgb.flip(1).float())
        output = loaded.detector(rgb)
    torch.testing.assert_close(output.logits, logits, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(output.aux[0].offsets, location, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(output.aux[0].logits, confidence, rtol=1e-3, atol=1e-3)
    # Its boxes have rows first: the anchors' x is down. What we show has x across.
    boxes, scores = loaded.detector.parts[0].decoded(output.aux[0])  # type: ignore[operator]
    table = anchors()
    down = table[:, 0] + 0.1 * location[..., 0] * table[:, 2]
    torch.testing.assert_close((boxes[..., 1] + boxes[..., 3]) / 2, down, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(scores, confidence.softmax(-1)[..., 1], rtol=1e-3, atol=1e-3)


def test_the_run_is_whole(run: Path) -> None:
    loaded = load_run(run)
    assert [type(t) for t in loaded.transforms] == [AlignFace]
    align = loaded.transforms[0]
    assert isinstance(align, AlignFace) and (align.size, align.template, align.scale) == (224, "caddm", 0.9)
    assert "CADDM with resnet34" in loaded.card and loaded.facts["data"]["imported"] == "CADDM"
    assert loaded.detector.backbone.normalize(torch.full((1, 3, 1, 1), 255, dtype=torch.uint8)).allclose(
        torch.tensor(255.0)
    )


def test_files_that_are_something_else(
    checkpoint: tuple[Path, dict[str, Tensor], nn.Module], run: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="already holds a run"):
        import_caddm(checkpoint[0], run)
    with pytest.raises(InputError, match="no such file"):
        import_caddm(tmp_path / "no.pkl", tmp_path / "a")
    (tmp_path / "text.pkl").write_text("weights")
    with pytest.raises(InputError, match="cannot be read as plain weights"):
        import_caddm(tmp_path / "text.pkl", tmp_path / "a")
    torch.save({"network": {"x": Path("/")}}, tmp_path / "object.pkl")  # an object of Python: never unpickled
    with pytest.raises(InputError, match="cannot be read as plain weights"):
        import_caddm(tmp_path / "object.pkl", tmp_path / "a")
    torch.save({"network": [torch.zeros(1)]}, tmp_path / "list.pkl")
    with pytest.raises(InputError, match="mapping of names to tensors"):
        import_caddm(tmp_path / "list.pkl", tmp_path / "a")
    torch.save({"conv1.weight": torch.zeros(1)}, tmp_path / "other.pkl")
    with pytest.raises(InputError, match=r"other\.pkl: not a network of CADDM"):
        import_caddm(tmp_path / "other.pkl", tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_a_part_of_the_weights_is_not_enough(checkpoint: tuple[Path, dict[str, Tensor], nn.Module]) -> None:
    _, state, _ = checkpoint
    with torch.device("meta"):
        ours = Detector(TimmBackbone("resnet34", image_size=224), BinaryHead, [ArtifactDetector]).state_dict()
    assert set(released_to_ours(state, ours)) == set(ours)
    lacking = {k: v for k, v in state.items() if k != "adm.adm_extra_layers.1.0.bn2.bias"}
    with pytest.raises(InputError, match=r"1 missing \['parts\.0\.layers\.1\.bn2\.bias'\]"):
        released_to_ours(lacking, ours)
    with pytest.raises(InputError, match=r"1 unknown \['more'\]"):
        released_to_ours({**state, "more": torch.zeros(1)}, ours)
    with pytest.raises(InputError, match="1 of another shape"):
        released_to_ours({**state, "fc.weight": torch.zeros(1000, 512)}, ours)


@pytest.mark.parametrize(("name", "width"), [("tf_efficientnet_b3", 1536), ("tf_efficientnet_b4", 1792)])
def test_efficientnets_by_their_names(name: str, width: int) -> None:
    """Every tensor of timm's network has one of the public naming, counted through all stages."""
    with torch.device("meta"):
        ours = Detector(TimmBackbone(name, image_size=224), BinaryHead, [ArtifactDetector]).state_dict()
        state = {key: torch.zeros(shape) for key, shape in released(width).items()}
    inner = {k.removeprefix("backbone.net."): v for k, v in ours.items() if k.startswith("backbone.net.")}
    places = sorted({tuple(map(int, k.split(".")[1:3])) for k in inner if k.startswith("blocks.")})
    ends = {"conv_stem": "_conv_stem", "bn1": "_bn0", "conv_head": "_conv_head", "bn2": "_bn1"}
    first = {"conv_dw": "_depthwise_conv", "bn1": "_bn1", "conv_pw": "_project_conv", "bn2": "_bn2"}
    later = {
        **{"conv_pw": "_expand_conv", "bn1": "_bn0", "conv_dw": "_depthwise_conv", "bn2": "_bn1"},
        **{"conv_pwl": "_project_conv", "bn3": "_bn2"},
    }
    squeeze = {"se.conv_reduce": "_se_reduce", "se.conv_expand": "_se_expand"}
    for key, value in inner.items():
        module, leaf = key.rsplit(".", 1)
        if module in ends:
            state[f"base_model.{ends[module]}.{leaf}"] = value
            continue
        _, stage, place, what = module.split(".", 3)
        number = places.index((int(stage), int(place)))
        names = (first if stage == "0" else later) | squeeze
        state[f"base_model._blocks.{number}.{names[what]}.{leaf}"] = value
    state["base_model._fc.weight"] = torch.zeros(1000, 1, device="meta")
    assert released_backbone(state) == name
    assert {k: v.shape for k, v in released_to_ours(state, ours).items()} == {
        k: v.shape for k, v in ours.items()
    }
