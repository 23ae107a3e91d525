"""Blocks of patches inside a frame: which patches belong to which block, as fixed tables.

The grid of patches keeps a frame of one patch on each side that is never touched; what is inside is divided
into k x k blocks. With 14 x 14 patches and k = 4 a block has 3 x 3 patches.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from unseen.types import InputError

__all__ = ["BlockGrid", "block_patches", "from_patches", "to_patches"]


def block_patches(block: int, *, blocks: int = 4, grid: int = 14) -> Tensor:
    """Return the patches of one block, row by row.

    Args:
        block: Its number, counted along rows.
        blocks: Blocks a side; they must divide the patches inside the frame (2, 3, 4 and 6 divide 12).
        grid: Patches a side, the frame included.

    Shape:
        (P,) int64, numbers of patches counted along rows; P = ((grid - 2) / blocks)^2.

    Raises:
        InputError: The blocks do not divide the grid, or there is no such block.

    Example:
        >>> block_patches(0).tolist()
        [15, 16, 17, 29, 30, 31, 43, 44, 45]
    """
    inner = grid - 2
    if blocks < 1 or inner < 1 or inner % blocks:
        fit = [k for k in range(1, max(inner, 0) + 1) if inner % k == 0]
        raise InputError(
            f"{blocks} blocks a side do not divide the {inner} patches inside the frame of a grid of {grid}; "
            f"expected one of {', '.join(map(str, fit)) or 'a larger grid'}",
            reason="blocks",
        )
    if not 0 <= block < blocks * blocks:
        raise InputError(f"block {block}; expected 0 to {blocks * blocks - 1}", reason="blocks")
    side = inner // blocks
    return _square(1 + side * (int(block) // blocks), 1 + side * (int(block) % blocks), side, grid)


def _square(top: int, left: int, side: int, grid: int) -> Tensor:
    """Patches of a square, row by row."""
    rows, columns = torch.arange(top, top + side), torch.arange(left, left + side)
    return (rows[:, None] * grid + columns).flatten()


class BlockGrid(nn.Module):
    """The tables of k x k blocks, on the device of the network that they are part of; no state.

    Args:
        blocks: k.
        grid: Patches a side, the frame included.

    Shape:
        hidden: (k * k, M) patches of each block. kept: (k * k, K) all others. any_hidden, any_kept: the same
        for a block at every place inside the frame.
    """

    hidden: Tensor
    kept: Tensor
    any_hidden: Tensor
    any_kept: Tensor

    def __init__(self, blocks: int, grid: int) -> None:
        super().__init__()
        self.blocks, self.grid = blocks, grid
        side = (grid - 2) // blocks
        tables = {
            "": [block_patches(b, blocks=blocks, grid=grid) for b in range(blocks * blocks)],
            "any_": [
                _square(top, left, side, grid)
                for top in range(1, grid - side)
                for left in range(1, grid - side)
            ],
        }
        self._groups = _groups(blocks)
        for number, members in enumerate(self._groups):
            tables[f"group{number}_"] = [torch.cat([tables[""][b] for b in group]) for group in members]
        for name, sets in tables.items():
            hidden = torch.stack(sets)
            self.register_buffer(f"{name}hidden", hidden, persistent=False)
            self.register_buffer(f"{name}kept", _others(hidden, grid * grid), persistent=False)

    def of(self, blocks: Tensor | Sequence[int] | None, count: int) -> tuple[Tensor, Tensor]:
        """Return what is kept and hidden in each pass.

        Args:
            blocks: See `FaceInpainter.inpaint`.
            count: B.

        Shape:
            kept: (B, n, K). hidden: (B, n, M).
        """
        if blocks is None:
            kept, hidden = self.kept, self.hidden
        else:
            chosen = torch.as_tensor(blocks, device=self.hidden.device)
            if chosen.dtype.is_floating_point or not chosen.numel() or chosen.ndim not in (1, 2):
                raise InputError(
                    f"blocks of shape {tuple(chosen.shape)} and type {chosen.dtype}; expected whole numbers, "
                    "(n,) or (B, n), at least one",
                    reason="blocks",
                )
            if chosen.device.type == "cpu" and not 0 <= int(chosen.min()) <= int(chosen.max()) < len(
                self.kept
            ):
                raise InputError(
                    f"blocks {chosen.flatten().tolist()[:8]}; expected 0 to {len(self.kept) - 1}",
                    reason="blocks",
                )
            kept, hidden = self.kept[chosen], self.hidden[chosen]
        if kept.ndim == 2:
            kept, hidden = kept.expand(count, -1, -1), hidden.expand(count, -1, -1)
        return kept, hidden

    def grouped(self, count: int) -> list[tuple[Tensor, Tensor]]:
        """Return passes that hide several blocks at once, those of equal length together; see `of`."""
        return [
            (
                getattr(self, f"group{number}_kept").expand(count, -1, -1),
                getattr(self, f"group{number}_hidden").expand(count, -1, -1),
            )
            for number in range(len(self._groups))
        ]


def _groups(blocks: int) -> list[list[list[int]]]:
    """Blocks that do not touch one another, not even at corners, up to four together; sorted by length."""
    step = max(2, -(-blocks // 2))
    found: dict[int, list[list[int]]] = {}
    for top in range(min(step, blocks)):
        for left in range(min(step, blocks)):
            rows, columns = range(top, blocks, step), range(left, blocks, step)
            group = [row * blocks + column for row in rows for column in columns]
            found.setdefault(len(group), []).append(group)
    return [found[length] for length in sorted(found)]


def _others(hidden: Tensor, total: int) -> Tensor:
    """All patches that are not hidden, in order. Shape: (S, M) -> (S, total - M)."""
    left = torch.ones(len(hidden), total, dtype=torch.bool)
    left.scatter_(1, hidden, False)
    # A stable sort puts the kept ones first; their number is the same in each row.
    return (~left).to(torch.int8).argsort(dim=1, stable=True)[:, : total - hidden.shape[1]].contiguous()


def to_patches(images: Tensor, patch: int) -> Tensor:
    """Cut pictures into patches, row by row; pixels in the order row, column, channel.

    Shape:
        (B, 3, H, W) -> (B, N, patch * patch * 3).
    """
    count, _, height, width = images.shape
    cut = images.reshape(count, 3, height // patch, patch, width // patch, patch)
    return cut.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)


def from_patches(patches: Tensor, patch: int) -> Tensor:
    """Put patches together again; the opposite of `to_patches` for square pictures.

    Shape:
        (B, N, patch * patch * 3) -> (B, 3, H, W).
    """
    grid = round(patches.shape[1] ** 0.5)
    cut = patches.reshape(patches.shape[0], grid, grid, patch, patch, 3)  # (B, h, w, row, column, 3)
    return cut.permute(0, 5, 1, 3, 2, 4).flatten(4).flatten(2, 3)
