from __future__ import annotations

import pytest
import torch

from unseen.models.device import device_of
from unseen.types import InputError


def test_auto_is_a_gpu_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device_of("auto") == device_of("cpu") == torch.device("cpu")


@pytest.mark.parametrize("word", ["foo", "cuda:99", ""])
def test_what_cannot_be_used_is_one_short_line(word: str) -> None:
    with pytest.raises(
        InputError, match=f"^device {word!r} cannot be used .*; expected auto, cpu or cuda$"
    ) as caught:
        device_of(word)
    assert len(str(caught.value)) < 150 and caught.value.reason == "device"
