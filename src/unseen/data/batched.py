"""The changes of `unseen.data.changes` for a whole batch at once, on any device.

Numbers come with the batch from the worker that drew them; nothing is drawn here. A change takes the pictures
that drew it together. Most kinds give the processor's very bits, because both work in whole numbers; what is
interpolated is within one grey level of it (`docs/scale.md`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unseen.data.batched_jpeg import constant, jpeg, quantisation
from unseen.data.changes import MIX, Photometric, motion_kernel, quantiles, stretching
from unseen.data.resampling import area, cubic, gaussian, linear, reflected, resampled
from unseen.data.transforms import Transform
from unseen.types import FaceSample

__all__ = ["BATCHED", "BatchChange", "changes_of", "movable"]

_Table = NDArray[Any]
_Size = tuple[int, int]


@dataclass(frozen=True, eq=False)
class BatchChange:
    """One change of the pictures that drew it.

    Args:
        kind: Its name in `BATCHED`.
        rows: Places of those pictures in the batch, (R,) int64; None for all.
        tables: What was drawn, as `BATCHED` says.
    """

    kind: str
    rows: Tensor | None
    tables: tuple[Tensor, ...]

    def to(self, device: Any, *, non_blocking: bool = False) -> BatchChange:
        """Return this change with its numbers on `device`."""
        return self._with(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> BatchChange:
        """Return this change with its numbers where a GPU fetches them by itself."""
        return self._with(lambda tensor: tensor.pin_memory())

    def _with(self, move: Callable[[Tensor], Tensor]) -> BatchChange:
        rows = None if self.rows is None else move(self.rows)
        return replace(self, rows=rows, tables=tuple(move(table) for table in self.tables))

    def __call__(self, image: Tensor) -> Tensor:
        """Return the pictures with those of `rows` changed; (B, 3, H, W) uint8."""
        step = BATCHED[self.kind][1]
        if self.rows is None:
            return step(image, *self.tables)
        return image.index_copy(0, self.rows, step(image[self.rows], *self.tables))


def movable(transforms: Sequence[Transform]) -> int:
    """Return how many of the last transforms can be left to a device."""
    count = 0
    while count < len(transforms) and isinstance(transforms[-1 - count], Photometric):
        count += 1
    return count


def changes_of(samples: Sequence[FaceSample]) -> tuple[BatchChange, ...]:
    """Gather what samples of one size have still to undergo, one entry a change that any of them drew."""
    size = samples[0].image.shape[0], samples[0].image.shape[1]
    found = []
    for together in zip(*(sample.changes for sample in samples), strict=True):
        drawn = [(row, values) for row, (_, values) in enumerate(together) if values is not None]
        if drawn:
            kind = together[0][0]
            rows = None if len(drawn) == len(samples) else torch.tensor([row for row, _ in drawn])
            tables = BATCHED[kind][0](np.stack([values for _, values in drawn]), size)
            found.append(BatchChange(kind, rows, tables))
    return tuple(found)


def _nothing(drawn: _Table, size: _Size) -> tuple[Tensor, ...]:
    return ()


def _whole(values: Tensor) -> Tensor:
    """Round to grey levels, halves to even ones."""
    return values.round().clamp_(0, 255).to(torch.uint8)


def _grey(image: Tensor) -> Tensor:
    red, green, blue = image.int().unbind(1)
    grey = (9798 * red + 19235 * green + 3735 * blue + (1 << 14)) >> 15  # BT.601 in 15 bits
    return grey.to(torch.uint8)[:, None].expand(-1, 3, -1, -1)


def _levels(drawn: _Table, size: _Size) -> tuple[Tensor, ...]:
    return (torch.from_numpy(drawn),)


def _look_up(image: Tensor, table: Tensor) -> Tensor:
    """Shape: table (R, 256, 3) uint8."""
    places = image.flatten(2).long()
    return table.transpose(1, 2).gather(2, places).view_as(image)


def _colors_in_bits(drawn: _Table, size: _Size) -> tuple[Tensor, ...]:
    """Return the (3, 4) matrices in 10 bits, as the processor takes them: (R, 3, 4) int32."""
    matrix = drawn.reshape(-1, 3, 4).astype(np.float32)
    matrix[..., 3] += np.float32(0.5)
    return (torch.from_numpy(np.rint(matrix * 1024).astype(np.int32)),)


def _colors(image: Tensor, matrix: Tensor) -> Tensor:
    values, matrix = image.int(), matrix[..., None, None]
    mixed = matrix[:, :, 3].expand(-1, -1, *image.shape[2:]).clone()
    for channel in range(3):
        mixed.addcmul_(matrix[:, :, channel], values[:, channel, None])
    return (mixed >> 10).clamp_(0, 255).to(torch.uint8)


def _kernels(drawn: _Table, size: _Size) -> tuple[Tensor, ...]:
    return (torch.from_numpy(gaussian(drawn)),)


def _blur(image: Tensor, kernel: Tensor) -> Tensor:
    """Shape: kernel (R, T) int32, in 8 bits."""
    values, taps = image.int(), kernel.shape[1]
    for axis in (3, 2):
        length = image.shape[axis]
        index = reflected(torch.arange(-(taps // 2), length + taps // 2, device=image.device), length)
        wide = values.index_select(axis, index)
        values = torch.zeros_like(values)
        for tap in range(taps):
            values.addcmul_(kernel[:, tap, None, None, None], wide.narrow(axis, tap, length))
    return ((values + (1 << 15)) >> 16).to(torch.uint8)


def _qualities(drawn: _Table, size: _Size) -> tuple[Tensor, ...]:
    return (torch.from_numpy(quantisation(drawn[:, 0].astype(np.int64))),)


def _grain(keys: Tensor, count: int) -> Tensor:
    """Return the numbers of `unseen.data.changes.grain`. Shape: keys (R, 2) int32; returns (R, count)."""
    bits = torch.arange((count + 1) // 2, dtype=torch.int32, device=keys.device) + keys[:, :1]
    bits = _mixed(_mixed(bits) ^ keys[:, 1:])
    halves = bits.view(torch.int16)[:, :count].long() & 0xFFFF
    return constant(keys.device, quantiles)[halves]


def _mixed(bits: Tensor) -> Tensor:
    for shift, factor in MIX:
        bits = bits ^ ((bits >> shift) & ((1 << (32 - shift)) - 1))  # a shift that brings in zeros
        bits = bits * (factor - (1 << 32) if factor >> 31 else factor)
    return bits


def _seeds(drawn: _Table) -> Tensor:
    """Return the last two numbers of each row as keys: (R, 2) int32, the bits of unsigned ones."""
    return torch.from_numpy(drawn[:, -2:].astype(np.uint32).view(np.int32).copy())


def _noise_drawn(drawn: _Table, size: _Size) -> tuple[Tensor, ...]:
    return torch.from_numpy(drawn[:, 0].astype(np.float32)), torch.from_numpy(drawn[:, 1] != 0), _seeds(drawn)


def _noise(image: Tensor, sigma: Tensor, grey: Tensor, keys: Tensor) -> Tensor:
    count, _, height, width = image.shape
    field = _grain(keys, 3 * height * width)
    alike = field[:, : height * width].view(count, 1, height, width)
    field = field.view(count, height, width, 3).permute(0, 3, 1, 2)
    noise = torch.where(grey[:, None, None, None], alike, field) * sigma[:, None, None, None]
    return (image + noise + 0.5).clamp_(0, 255).to(torch.uint8)


def _waves_drawn(drawn: _Table, size: _Size) -> tuple[Tensor, ...]:
    sizes = [max(1, side // 4) for side in size]
    taps = [t for side, small in zip(size, sizes, strict=True) for t in linear(np.array([small]), side)]
    sigma = torch.from_numpy(drawn[:, 0].astype(np.float32))
    return sigma, _seeds(drawn), *(torch.from_numpy(t) for t in taps)


def _waves(image: Tensor, sigma: Tensor, keys: Tensor, *taps: Tensor) -> Tensor:
    """Shape: taps are index and weight of rows, then of columns, (1, n, 2) each."""
    rows, columns = (max(1, side // 4) for side in image.shape[2:])
    coarse = (_grain(keys, rows * columns) * sigma[:, None]).view(-1, 1, rows, columns)
    fine = resampled(resampled(coarse, *taps[2:], axis=3), *taps[:2], axis=2)
    return _whole(image + fine)


def _stretch(image: Tensor) -> Tensor:
    low, high = image.amin((1, 2, 3), keepdim=True).long(), image.amax((1, 2, 3), keepdim=True).long()
    return constant(image.device, _flat_stretching)[256 * (high - low) + image - low]


def _flat_stretching() -> _Table:
    return stretching().ravel()


def _hue_divisors() -> _Table:
    """Return OpenCV's integer divisors of saturation and hue, in 12 bits: (2, 256) int32."""
    levels = np.arange(1, 256)
    divided = np.stack([(255 << 12) / levels, (256 << 12) / (6 * levels)])
    return np.pad(np.rint(divided), ((0, 0), (1, 0))).astype(np.int32)


def _hsv_drawn(drawn: _Table, size: _Size) -> tuple[Tensor, ...]:
    """Return a table of grey levels for saturation and one for value: (R, 2, 256) uint8."""
    table = np.rint(drawn[:, :, None] * np.arange(256))
    return (torch.from_numpy(np.clip(table, 0, 255).astype(np.uint8)),)


def _hsv(image: Tensor, table: Tensor) -> Tensor:
    red, green, blue = image.int().unbind(1)
    value, least = image.amax(1).int(), image.amin(1).int()
    span, divisors = value - least, constant(image.device, _hue_divisors)
    half = 1 << 11
    saturation = (span * divisors[0][value.long()] + half) >> 12
    turn = torch.where(
        value == red,
        green - blue,
        torch.where(value == green, blue - red + 2 * span, red - green + 4 * span),
    )
    hue = (turn * divisors[1][span.long()] + half) >> 12
    hue = torch.where(hue < 0, hue + 256, hue).clamp_(0, 255)
    # The way back, in floats: a sixth of the circle, and how far into it. There OpenCV's circle ends at 255.
    new = table.gather(2, torch.stack([saturation, value], 1).flatten(2).long()).view(-1, 2, *value.shape[1:])
    saturated, bright = (new.float() / 255).unbind(1)
    place = hue * (6 / 255)
    sector = place.floor()
    inside = place - sector
    down = bright * (1 - saturated)
    falling = bright * (1 - saturated * inside)
    rising = bright * (1 - saturated * (1 - inside))
    shades = torch.stack([bright, down, falling, rising], 1)  # (R, 4, H, W)
    order = constant(image.device, _sectors)[sector.long() % 6].permute(0, 3, 1, 2)
    return _whole(shades.gather(1, order) * 255)


def _sectors() -> _Table:
    """Return which of brightest, lowest, falling and rising each channel is in each sixth: (6, 3)."""
    return np.array([[0, 3, 1], [2, 0, 1], [1, 0, 3], [1, 2, 0], [3, 1, 0], [0, 1, 2]])


def _lines(drawn: _Table, size: _Size) -> tuple[Tensor, ...]:
    """Return where each line's pixels lie and what they weigh: (R, T, 2) int64 and (R, T) float32."""
    kernels = [motion_kernel(angle, int(length)) for angle, length in drawn]
    most = max(int(np.count_nonzero(kernel)) for kernel in kernels)
    places = np.zeros((len(drawn), most, 2), np.int64)
    weights = np.zeros((len(drawn), most), np.float32)
    for row, kernel in enumerate(kernels):
        found = np.argwhere(kernel)
        places[row, : len(found)] = found - 5
        weights[row, : len(found)] = kernel[kernel > 0]
    return torch.from_numpy(places), torch.from_numpy(weights)


def _motion(image: Tensor, places: Tensor, weights: Tensor) -> Tensor:
    values = image.float()
    height, width = image.shape[2:]
    down, right = torch.arange(height, device=image.device), torch.arange(width, device=image.device)
    total = torch.zeros_like(values)
    for tap in range(weights.shape[1]):
        rows = reflected(down + places[:, tap, :1], height)[:, None, :, None]
        columns = reflected(right + places[:, tap, 1:], width)[:, None, None, :]
        moved = values.take_along_dim(rows, 2).take_along_dim(columns, 3)
        total += moved * weights[:, tap, None, None, None]
    return _whole(total)


def _rescaling(drawn: _Table, size: _Size, enlarge: Callable[..., Any]) -> list[_Table]:
    """Return which pictures are exactly halved, (R,), and index and weight of four resamplings.

    They are those of rows and of columns, smaller and then larger again.
    """
    small = [np.array([max(1, round(side * float(f))) for f in drawn[:, 0]]) for side in size]
    tables: list[_Table] = [(2 * small[0] == size[0]) & (2 * small[1] == size[1])]
    for way in (area, enlarge):
        for sizes, side in zip(small, size, strict=True):
            tables += way(sizes, side)
    return tables


def _cubic_drawn(drawn: _Table, size: _Size) -> tuple[Tensor, ...]:
    return tuple(torch.from_numpy(table) for table in _rescaling(drawn, size, cubic))


def _linear_drawn(drawn: _Table, size: _Size) -> tuple[Tensor, ...]:
    """Return the tables with the weights of the enlargement in 11 bits."""
    *others, down, down_weight, right, right_weight = _rescaling(drawn, size, linear)
    bits = [np.rint(weight * 2048).astype(np.int32) for weight in (down_weight, right_weight)]
    return tuple(torch.from_numpy(table) for table in (*others, down, bits[0], right, bits[1]))


def _smaller(image: Tensor, halved: Tensor, taps: Sequence[Tensor]) -> Tensor:
    """Return the small pictures, each in the upper left corner of one as large as the largest."""
    exact = resampled(resampled(image.float(), *taps[2:4], axis=3), *taps[:2], axis=2)
    # Means of exactly four are rounded up at a half, others to the even level.
    up = halved[:, None, None, None]
    return torch.where(up, (exact + 0.5).floor(), exact.round()).clamp_(0, 255)


def _rescale_cubic(image: Tensor, halved: Tensor, *taps: Tensor) -> Tensor:
    small = _smaller(image, halved, taps)
    return _whole(resampled(resampled(small, *taps[6:], axis=3), *taps[4:6], axis=2))


def _rescale_linear(image: Tensor, halved: Tensor, *taps: Tensor) -> Tensor:
    small = _smaller(image, halved, taps).int()
    wide = resampled(small, *taps[6:], axis=3) >> 4
    above, below = (
        (wide.take_along_dim(taps[4][:, None, :, None, tap], 2) * taps[5][:, None, :, None, tap]) >> 16
        for tap in (0, 1)
    )
    return ((above + below + 2) >> 2).clamp_(0, 255).to(torch.uint8)


# What each kind makes, in the worker, of the numbers drawn, (R, ...), and of the size; and what it then does
# to the pictures, (R, 3, H, W) uint8, with those tables.
BATCHED: dict[str, tuple[Callable[[_Table, _Size], tuple[Tensor, ...]], Callable[..., Tensor]]] = {
    "blur": (_kernels, _blur),
    "colors": (_colors_in_bits, _colors),
    "grey": (_nothing, _grey),
    "hsv": (_hsv_drawn, _hsv),
    "jpeg": (_qualities, jpeg),
    "motion": (_lines, _motion),
    "noise": (_noise_drawn, _noise),
    "rescale_cubic": (_cubic_drawn, _rescale_cubic),
    "rescale_linear": (_linear_drawn, _rescale_linear),
    "stretch": (_nothing, _stretch),
    "table": (_levels, _look_up),
    "waves": (_waves_drawn, _waves),
}
