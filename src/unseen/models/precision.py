"""Half precision has too few digits for losses: sums of exponentials, counts of pairs, running means."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["at_least_single"]


def at_least_single(value: Tensor) -> Tensor:
    """Bring half precision to single, and leave the rest."""
    return value.to(torch.promote_types(value.dtype, torch.float32))
