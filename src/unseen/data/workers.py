"""What a worker process does besides reading: how it starts, and how its batches reach the trainer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from multiprocessing.reduction import ForkingPickler
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.multiprocessing.reductions import reduce_tensor

from unseen.data.places import after_fork

__all__ = ["planes", "start_worker"]

_SMALL = 1 << 16  # bytes


def start_worker(number: int) -> None:
    """Prepare a worker process: one thread, and small tensors within its messages.

    OpenCV's own threads would only fight with the other workers'; torch's are limited by its loader.
    """
    del number
    after_fork()
    cv2.setNumThreads(0)
    ForkingPickler.register(Tensor, _sent)


def planes(pictures: Sequence[NDArray[np.uint8]]) -> Tensor:
    """Bring pictures together, channels first; in a worker at once in the memory that the trainer will read.

    Shape:
        B times (H, W, 3) -> (B, 3, H, W).
    """
    height, width, _ = pictures[0].shape
    shape = (len(pictures), 3, height, width)
    if torch.utils.data.get_worker_info() is None:
        image = torch.empty(shape, dtype=torch.uint8)
    else:
        # Otherwise the batch would be copied there when it is sent.
        shared = torch.UntypedStorage._new_shared(math.prod(shape))  # type: ignore[no-untyped-call]
        image = torch.empty(0, dtype=torch.uint8).set_(shared).view(shape)
    for place, picture in zip(image.numpy(), pictures, strict=True):
        cv2.split(picture, list(place))  # ten times as fast as a permuted copy
    return image


def _sent(tensor: Tensor) -> tuple[Any, ...]:
    """Say how a worker sends a tensor: a small one within the message.

    By itself torch opens shared memory for each, and the trainer fetches its number over a socket of its own;
    the regions of a batch are as many tensors as faces.
    """
    if tensor.nbytes < _SMALL and tensor.dtype is not torch.bfloat16:
        return torch.from_numpy, (tensor.numpy(),)
    return reduce_tensor(tensor)  # type: ignore[no-any-return,no-untyped-call]
