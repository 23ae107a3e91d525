"""Grad-CAM without hooks: which places of a face raised its score.

Hooks break on networks with in-place activations and leak graphs; here the backbone runs once in inference
mode, its last map becomes a leaf, and only pooling, parts and head are differentiated. A forward pass is all
that a picture costs.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

import torch

from unseen.types import Features

if TYPE_CHECKING:
    from torch import Tensor, nn

    from unseen.models.detector import Detector

__all__ = ["class_activation_map"]

NOTHING = 1e-12  # a map whose maximum is below this is noise; it is never amplified


def class_activation_map(
    detector: Detector, image: Tensor, *, target: Tensor | Literal["fake", "predicted"] = "fake"
) -> Tensor:
    """Grad-CAM of the score, the log-odds of fake, at the last map of the backbone.

    The log-odds is differentiated, never the probability: with a confident network the softmax's factor
    P(1 - P) is about 1e-9 and would wipe the map out. With no parts and a head that is linear on the map's
    mean this is the closed form ``ReLU(sum_c w_c map_c)``, w = the head's weights, up to scale.

    The mode of every module and the gradients of every parameter are left as they were.

    Args:
        detector: A detector with a `backbone` and `judge(features)`.
        image: Faces as the detector takes them: RGB, float in [0, 1] or uint8, not normalised.
        target: For which class places are to speak: `fake` for all, the predicted one, or a label for each
            face, 0 real and 1 fake. Log-odds of real are those of fake with the other sign.

    Returns:
        Maps in [0, 1], each divided by its own maximum; a face on which nothing speaks for its class is all
        zero.

    Raises:
        ValueError: If the score depends neither on the map nor on a vector of as many channels.

    Shape:
        image: (B, 3, H, W). target: (B,). Result: (B, h, w) float32, h and w those of the backbone's map.

    Source:
        Selvaraju et al., Grad-CAM, 2017, eq. 1 and 2; Cheng et al., PRLE, 2023, eq. 3.
    """
    with resting(detector):
        with torch.inference_mode():
            seen = detector.backbone(image)
        # A clone made outside inference mode is an ordinary tensor that autograd may keep.
        with torch.inference_mode(False), torch.enable_grad():
            map = seen.map.clone().requires_grad_()  # (B, C, h, w)
            vector = seen.vector.clone().requires_grad_()  # (B, D)
            score = detector.judge(Features(map, vector)).score  # (B,)
            weight = channel_weights(score, map, vector)  # (B, C)
    heat = torch.einsum("bc,bchw->bhw", weight, seen.map.detach())
    heat = (_sign(target, score.detach())[:, None, None] * heat).relu().float()  # (B, h, w)
    peak = heat.amax((1, 2), keepdim=True)
    return torch.where(peak > NOTHING, heat / peak.clamp_min(NOTHING), torch.zeros_like(heat)).clone()


def _sign(target: Tensor | Literal["fake", "predicted"], score: Tensor) -> Tensor:
    """Return 1 where places are to speak for fake and -1 where for real. Shape: (B,)."""
    if isinstance(target, str):
        if target not in ("fake", "predicted"):
            raise ValueError(f"target {target!r}; expected fake, predicted, or a label for each face")
        return torch.ones_like(score) if target == "fake" else torch.where(score > 0, 1, -1).to(score.dtype)
    if target.shape != score.shape:
        raise ValueError(f"{tuple(target.shape)} labels for {tuple(score.shape)} faces")
    return (2 * target - 1).to(score)


def channel_weights(score: Tensor, map: Tensor, vector: Tensor) -> Tensor:
    """How much each channel of the map raises the score, averaged over places.

    The chain rule over both ways from the map to the score: straight, as through a part that pools again, and
    through the backbone's own vector, the map's mean, whose slope is shared evenly by the h w places. For a
    vector that is a class token the same formula projects the patches on the direction in which that token
    raises the score.

    Shape:
        score: (B,). map: (B, C, h, w), vector: (B, D), the leaves. Result: (B, C).
    """
    straight: Tensor | None = None
    pooled: Tensor | None = None
    if score.requires_grad:
        straight, pooled = torch.autograd.grad(score.sum(), (map, vector), allow_unused=True)
    if pooled is not None and pooled.shape[1] != map.shape[1]:
        pooled = None
    if straight is None and pooled is None:
        raise ValueError(
            f"the score has no slope by the map of {map.shape[1]} channels nor by a vector of as many "
            f"(it has {vector.shape[1]}), so there is no Grad-CAM; let the backbone's vector be its map's "
            "mean"
        )
    weight = torch.zeros_like(map[:, :, 0, 0])
    if straight is not None:
        weight = weight + straight.mean((2, 3))
    if pooled is not None:
        weight = weight + pooled / (map.shape[2] * map.shape[3])
    return weight.detach()


@contextmanager
def resting(module: nn.Module) -> Iterator[None]:
    """Hold a network in evaluation mode and give every module its own mode back afterwards."""
    modes = [(child, child.training) for child in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for child, training in modes:
            child.training = training
