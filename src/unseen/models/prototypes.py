"""What a memory of prototypes needs beside its update rule: checks and a first filling."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from unseen.types import FaceBatch, InputError

__all__ = ["by_similarity", "fill_farthest", "refuse_broken"]


def by_similarity(similarity: Tensor, dim: int = 1) -> Tensor:
    """Return indices from the most similar on; ties go to the first, which topk does not promise."""
    return similarity.sort(dim=dim, descending=True, stable=True).indices


def fill_farthest(prototypes: Tensor, seen: Tensor, weight: Tensor, filled: Tensor) -> tuple[Tensor, Tensor]:
    """Put the faces least like all that is held into empty slots: farthest-point sampling.

    At most half of the faces are taken, so that the next ones are chosen among others.

    Args:
        prototypes: The first `filled` of them hold something.
        seen: Features to choose from.
        weight: 0 for those that may not be taken.
        filled: How many slots hold something.

    Returns:
        New prototypes, the taken ones of unit length, and how many slots hold something now.

    Shape:
        prototypes: (K, D). seen: (N, D). weight: (N,). filled: () int64.
    """
    slot, row = (torch.arange(len(value), device=seen.device) for value in (prototypes, seen))
    free = weight > 0  # (N,)
    last = torch.minimum(filled + (free.sum() + 1) // 2, filled.new_tensor(len(prototypes)))
    for _ in range(len(prototypes)):
        held = (seen @ prototypes.T).masked_fill(slot >= filled, float("-inf"))  # (N, K)
        likeness = held.amax(1).clamp_min(-1e9).masked_fill(~free, float("inf"))
        pick = by_similarity(-likeness, 0)[:1]  # (1,): an index that stays a tensor makes no GPU wait
        taken = functional.normalize(seen.index_select(0, pick), dim=1)
        here = (slot == filled) & (filled < last)
        prototypes = torch.where(here[:, None], taken, prototypes)
        free = free & (row != pick)
        filled = torch.where(filled < last, filled + 1, filled)
    return prototypes, filled


def refuse_broken(vector: Tensor, batch: FaceBatch) -> None:
    """Raise an `InputError` that names the faces whose features are not finite; waits for the values.

    Shape:
        vector: (B, D).
    """
    whole = vector.detach().isfinite().all(1).tolist()
    broken = [i for i, fine in enumerate(whole) if not fine]
    if broken:
        names = [f"row {i}" + (f" ({batch.records[i].path})" if batch.records else "") for i in broken[:8]]
        raise InputError(
            f"the features of {len(broken)} of {len(whole)} faces are not finite: "
            f"{', '.join(names)}{', ...' if len(broken) > 8 else ''}; try a lower learning rate, "
            "`trainer.clip: 1.0`, or `precision: 32-true`",
            reason="not_finite",
        )
