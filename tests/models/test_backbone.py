from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from safetensors.torch import save_file

from unseen.export import export_graph
from unseen.models.backbone import TimmBackbone
from unseen.models.detector import Detector
from unseen.models.heads import BinaryHead
from unseen.types import InputError

TINY = ["test_resnet", "test_convnext", "test_mambaout", "test_vit", "test_efficientnet"]


@pytest.mark.parametrize("name", TINY)
def test_features_have_the_stated_shapes_and_every_weight_a_gradient(name: str) -> None:
    backbone = TimmBackbone(name)
    features = backbone(torch.rand(2, 3, backbone.image_size, backbone.image_size))
    assert features.map.shape[:2] == (2, backbone.channels)
    assert features.map.ndim == 4 and min(features.map.shape[2:]) > 1
    assert features.vector.shape == (2, backbone.dim)
    (features.vector**2).sum().backward()
    assert [n for n, p in backbone.named_parameters() if p.grad is None] == []


def test_vector_of_a_convolutional_network_is_the_mean_of_its_map() -> None:
    features = TimmBackbone("test_resnet", image_size=64).eval()(torch.rand(1, 3, 64, 64))
    assert torch.equal(features.vector, features.map.mean((2, 3)))


def test_map_of_a_transformer_is_its_patches_in_rows() -> None:
    backbone = TimmBackbone("test_vit").eval()
    image = torch.rand(1, 3, 160, 160)
    with torch.no_grad():
        tokens = backbone.net(backbone.normalize(image))  # (1, 1 + 100, C)
        features = backbone(image)
    assert torch.equal(features.vector, tokens[:, 0])  # test_vit is read from its class token
    assert torch.equal(features.map[0, :, 3, 7], tokens[0, 1 + 3 * 10 + 7])


def test_transformer_takes_another_size() -> None:
    features = TimmBackbone("test_vit", image_size=64).eval()(torch.rand(1, 3, 64, 64))
    assert features.map.shape == (1, 64, 4, 4)


def test_vgg_gives_a_map_not_a_flattened_vector() -> None:
    backbone = TimmBackbone("vgg11", image_size=64)
    assert backbone.channels == 512
    assert backbone(torch.rand(1, 3, 64, 64)).map.shape == (1, 512, 2, 2)


def test_bytes_and_floats_are_normalised_alike() -> None:
    backbone = TimmBackbone("test_resnet", image_size=64, mean=[0.5, 0.4, 0.3], std=[0.1, 0.2, 0.3])
    image = torch.full((1, 3, 64, 64), 51, dtype=torch.uint8)
    wanted = torch.tensor([(0.2 - 0.5) / 0.1, (0.2 - 0.4) / 0.2, (0.2 - 0.3) / 0.3])
    assert torch.allclose(backbone.normalize(image)[0, :, 5, 5], wanted)
    assert torch.allclose(backbone.normalize(image), backbone.normalize(image.float() / 255))


def test_mean_and_std_travel_with_the_weights() -> None:
    source = TimmBackbone("test_resnet", image_size=64, mean=[0.5, 0.4, 0.3], std=[0.1, 0.2, 0.3])
    other = TimmBackbone("test_resnet", image_size=64)
    other.load_state_dict(source.state_dict())
    assert torch.equal(other.mean, source.mean)


def test_timm_states_mean_and_std_when_nobody_else_does() -> None:
    backbone = TimmBackbone("test_mambaout", image_size=64)
    assert backbone.mean.flatten().tolist() == pytest.approx([0.485, 0.456, 0.406])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"name": "test_resnt"}, "no network 'test_resnt'"),
        ({"name": "test_vit", "image_size": 100}, "cannot take pictures of 100 x 100"),
        ({"name": "test_resnet", "image_size": 64, "std": [0.0, 1.0, 1.0]}, "std above 0"),
        ({"name": "test_resnet", "image_size": 64, "mean": [0.5]}, "three numbers"),
    ],
)
def test_bad_arguments_are_named(arguments: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        TimmBackbone(**arguments)


def test_a_near_name_is_offered() -> None:
    with pytest.raises(InputError, match=r"did you mean.*tf_efficientnet_lite"):
        TimmBackbone("tf_efficientnet_lit")


def test_building_draws_the_same_weights_from_the_same_seed() -> None:
    torch.manual_seed(3)
    first = TimmBackbone("test_resnet", image_size=64).state_dict()
    torch.manual_seed(3)
    second = TimmBackbone("test_resnet", image_size=64).state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_a_name_that_timm_gave_up_is_understood(caplog: pytest.LogCaptureFixture) -> None:
    backbone = TimmBackbone("tf_efficientnet_b0_ap", image_size=64)
    assert backbone.name == "tf_efficientnet_b0.ap_in1k"
    assert "has renamed the network tf_efficientnet_b0_ap" in caplog.text


@pytest.mark.parametrize("name", ["test_resnet", "test_vit"])
def test_a_mirrored_backbone_scores_a_face_and_its_mirror_image_alike(name: str) -> None:
    torch.manual_seed(0)
    detector = Detector(TimmBackbone(name, image_size=64, mirror=True), BinaryHead).eval()
    plain = Detector(TimmBackbone(name, image_size=64), BinaryHead).eval()
    plain.load_state_dict(detector.state_dict())  # no weights of its own
    image = torch.rand(3, 3, 64, 64)
    with torch.no_grad():
        one, other = plain(image), plain(image.flip(3))
        both = detector(image)
        assert (one.score - other.score).abs().max() > 1e-5
        torch.testing.assert_close(both.score, (one.score + other.score) / 2)
        torch.testing.assert_close(both.features.map, (one.features.map + other.features.map.flip(3)) / 2)
        torch.testing.assert_close(detector(image.flip(3)).score, both.score)
    detector.train()
    assert len(detector.backbone(image).map) == 3


def test_a_mirrored_run_scores_alike_as_a_graph(tmp_path: Path) -> None:
    torch.manual_seed(0)
    detector = Detector(TimmBackbone("test_resnet", image_size=64, mirror=True), BinaryHead).eval()
    save_file(detector.state_dict(), tmp_path / "weights.safetensors")
    session = onnxruntime.InferenceSession(export_graph(detector, tmp_path))
    image = torch.rand(3, 3, 64, 64)
    (scores, *_) = session.run(["score"], {"image": image.numpy()})
    with torch.no_grad():
        np.testing.assert_allclose(scores, detector(image).score.numpy(), atol=1e-5)
