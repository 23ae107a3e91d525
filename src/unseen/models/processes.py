"""What the processes of one training have in common: how many they are, and everybody's rows."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["gather_rows", "process_count"]


def process_count() -> int:
    """Return how many processes train together; 1 outside distributed training."""
    distributed = torch.distributed
    if not (distributed.is_available() and distributed.is_initialized()):
        return 1
    return int(distributed.get_world_size())


def gather_rows(rows: Tensor) -> Tensor:
    """Join the rows of all processes in the order of their numbers.

    Shape:
        rows: (B, M), of the same B in each process -> (B * processes, M).
    """
    count = process_count()
    if count == 1:
        return rows
    everyone = [torch.empty_like(rows) for _ in range(count)]
    torch.distributed.all_gather(everyone, rows.contiguous())
    return torch.cat(everyone)
