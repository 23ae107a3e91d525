"""Heads that more than one method uses."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from unseen.models.backbone import Backbone
from unseen.models.detector import Head
from unseen.types import FaceBatch, Features, InputError

__all__ = ["BinaryHead", "weighted_mean"]


def weighted_mean(value: Tensor, weight: Tensor | None) -> Tensor:
    """Mean of per-face values, each counted by its weight; 0 attached to the graph if no weight is left.

    Shape:
        value: (B,). weight: (B,) or None for equal weights -> scalar.

    Example:
        >>> weighted_mean(torch.tensor([1.0, 4.0]), torch.tensor([3.0, 1.0]))
        tensor(1.7500)
    """
    if weight is None:
        return value.mean() if value.numel() else value.sum()
    weight = weight.to(value.dtype)
    return (value * weight).sum() / weight.sum().clamp_min(torch.finfo(value.dtype).tiny)


class BinaryHead(Head):
    """Real or fake: one linear layer on the feature vector, cross entropy over two classes.

    Args:
        backbone: What it is attached to.
        dropout: Part of the vector that is dropped while training, 0 to 1.
        label_smoothing: Part of the target that is spread over both classes, 0 to 1.

    Shape:
        features.vector (B, D) -> logits (B, 2): real, fake.
    """

    def __init__(self, backbone: Backbone, *, dropout: float = 0.0, label_smoothing: float = 0.0) -> None:
        super().__init__()
        for name, value in (("dropout", dropout), ("label_smoothing", label_smoothing)):
            if not 0 <= value < 1:
                raise InputError(f"BinaryHead: {name} {value}; expected 0 <= {name} < 1")
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(backbone.dim, 2)
        self.label_smoothing = label_smoothing

    def forward(self, features: Features) -> Tensor:
        """Return the logits of real and fake, (B, 2)."""
        logits: Tensor = self.linear(self.dropout(features.vector))
        return logits

    def log_odds(self, logits: Tensor) -> Tensor:
        """Return log P(fake) / P(real), which is the difference of the two logits, (B,)."""
        return logits[:, 1] - logits[:, 0]

    def losses(self, logits: Tensor, batch: FaceBatch) -> dict[str, Tensor]:
        """Return the cross entropy, averaged over faces by their weights."""
        entropy = functional.cross_entropy(
            logits, batch.label, reduction="none", label_smoothing=self.label_smoothing
        )
        return {"cross_entropy": weighted_mean(entropy, batch.weight)}
