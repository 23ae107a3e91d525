"""What JPEG takes from a picture, for a whole batch on any device, without making a file.

Only colour conversion, the halving of the colour differences and the division by the quantisation tables lose
anything (ITU-T T.81, annexes A and K). All of it is done in the whole numbers that libjpeg's slow and exact
path is defined in, so that the result has the very bits of a file that was written and read again.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["constant", "jpeg", "quantisation"]

# T.81, tables K.1 (brightness) and K.2 (colour differences).
_BRIGHTNESS = np.array(
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ]
)
_COLOR = np.full((8, 8), 99)
_COLOR[:4, :4] = [[17, 18, 24, 47], [18, 21, 26, 66], [24, 26, 56, 99], [47, 66, 99, 99]]

# sqrt(8) cos(k pi / 16) in 13 bits, for the sums of the first and last four values (even frequencies) and for
# their differences (odd ones). Where a last digit is not the nearest, the transform of Loeffler, Ligtenberg
# and Moschytz (ICASSP 1989), which libjpeg computes, adds up rotations that were rounded each on its own.
_EVEN = (
    (8192, 8192, 8192, 8192),
    (10703, 4433, -4433, -10703),
    (8192, -8192, -8192, 8192),
    (4433, -10704, 10704, -4433),
)
_ODD = (
    (11363, 9633, 6437, 2260),
    (9633, -2259, -11362, -6436),
    (6437, -11362, 2261, 9633),
    (2260, -6436, 9633, -11363),
)


@functools.cache
def constant(device: torch.device, make: Callable[[], NDArray[Any]]) -> Tensor:
    """Return a table that never changes, which a device is sent once."""
    return torch.from_numpy(make()).to(device)


def _cosines() -> NDArray[np.int32]:
    """Return the matrices of even and odd frequencies, and their transposes: (4, 4, 4)."""
    even, odd = np.array(_EVEN, np.int32), np.array(_ODD, np.int32)
    return np.ascontiguousarray(np.stack([even, odd, even.T, odd.T]))


def quantisation(quality: NDArray[np.integer]) -> NDArray[np.int32]:
    """Return the tables that libjpeg makes of a quality.

    Shape:
        quality: (R,), 1 to 100. Returns (R, 2, 8, 8): brightness and colour.
    """
    scale = np.where(quality < 50, 5000 // quality, 200 - 2 * quality)
    tables = (np.stack([_BRIGHTNESS, _COLOR]) * scale[:, None, None, None] + 50) // 100
    return np.asarray(np.clip(tables, 1, 255), np.int32)


def jpeg(image: Tensor, tables: Tensor) -> Tensor:
    """Return the pictures after a round through JPEG, 4:2:0.

    Shape:
        image: (R, 3, H, W) uint8. tables: (R, 2, 8, 8) int32, see `quantisation`. Returns as image.
    """
    height, width = image.shape[2:]
    rows, columns = -(-height // 16) * 16, -(-width // 16) * 16
    y, *differences = _to_ycc(image.int())
    y = _through(_extend(y, rows, columns), tables[:, 0])[:, :height, :width]
    color = torch.cat(differences)  # (2R, H, W)
    color = _halve(_extend(color, height + height % 2, columns))
    color = _through(_extend(color, rows // 2, columns // 2), tables[:, 1].repeat(2, 1, 1))
    # Beyond the picture's own samples nothing is interpolated.
    color = _double(color[:, : (height + 1) // 2, : (width + 1) // 2])[:, :height, :width] - 128
    return _to_rgb(y, *color.chunk(2))


def _fixed(value: float) -> int:
    return int(value * 65536 + 0.5)


def _to_ycc(image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return brightness and the differences of blue and red from it: (R, H, W) each, 0 to 255."""
    red, green, blue = image.unbind(1)
    half, middle = 1 << 15, (128 << 16) + (1 << 15) - 1
    y = _fixed(0.299) * red + _fixed(0.587) * green + _fixed(0.114) * blue + half
    cb = _fixed(0.5) * blue - _fixed(0.16874) * red - _fixed(0.33126) * green + middle
    cr = _fixed(0.5) * red - _fixed(0.41869) * green - _fixed(0.08131) * blue + middle
    return y >> 16, cb >> 16, cr >> 16


def _to_rgb(y: Tensor, cb: Tensor, cr: Tensor) -> Tensor:
    half = 1 << 15
    red = y + ((_fixed(1.402) * cr + half) >> 16)
    green = y + ((half - _fixed(0.34414) * cb - _fixed(0.71414) * cr) >> 16)
    blue = y + ((_fixed(1.772) * cb + half) >> 16)
    return torch.stack([red, green, blue], 1).clamp_(0, 255).to(torch.uint8)


def _extend(plane: Tensor, rows: int, columns: int) -> Tensor:
    """Repeat the last row and column until the plane has this size."""
    height, width = plane.shape[1:]
    down = torch.arange(rows, device=plane.device).clamp_(max=height - 1)
    right = torch.arange(columns, device=plane.device).clamp_(max=width - 1)
    return plane[:, down[:, None], right]


def _halve(plane: Tensor) -> Tensor:
    """Return the mean of each four values; halves and quarters go up and down in turn."""
    total = plane[:, ::2, ::2] + plane[:, ::2, 1::2] + plane[:, 1::2, ::2] + plane[:, 1::2, 1::2]
    return (total + 1 + torch.arange(total.shape[2], dtype=torch.int32, device=plane.device) % 2) >> 2


def _double(plane: Tensor) -> Tensor:
    """Interpolate: each new value is three parts its own and one part its neighbour's, along both axes."""
    above, below = _shifted(plane, 1)
    tall = torch.stack([3 * plane + above, 3 * plane + below], 2).flatten(1, 2)
    left, right = _shifted(tall, 2)
    return torch.stack([(3 * tall + left + 8) >> 4, (3 * tall + right + 7) >> 4], 3).flatten(2, 3)


def _shifted(plane: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """Return each place's neighbour before and behind it, at the border the place itself."""
    size = plane.shape[axis]
    before = torch.cat([plane.narrow(axis, 0, 1), plane.narrow(axis, 0, size - 1)], axis)
    behind = torch.cat([plane.narrow(axis, 1, size - 1), plane.narrow(axis, size - 1, 1)], axis)
    return before, behind


def _through(plane: Tensor, table: Tensor) -> Tensor:
    """Transform blocks of 8 x 8, round to multiples of the table, and transform back.

    Shape:
        plane: (R, H, W) int32, 0 to 255, H and W multiples of 8. table: (R, 8, 8). Returns as plane.
    """
    count, height, width = plane.shape
    # Row and column in the block come first, so that what follows are sums of whole planes.
    blocks = (plane - 128).view(count, height // 8, 8, width // 8, 8).permute(4, 2, 0, 1, 3)
    blocks = _forward(blocks.reshape(8, 8, -1), 11).transpose(0, 1)
    blocks = _forward(blocks, 15).view(8, 8, count, -1)  # eight times the coefficients
    step = 8 * table.permute(1, 2, 0)[..., None]
    whole = torch.div(blocks.abs() + step // 2, step, rounding_mode="floor")
    blocks = (blocks.sign() * whole * (step // 8)).view(8, 8, -1)
    blocks = _inverse(_inverse(blocks, 11).transpose(0, 1), 18).transpose(0, 1)
    plane = blocks.reshape(8, 8, count, height // 8, width // 8).permute(2, 3, 0, 4, 1)
    return plane.reshape(count, height, width).add_(128).clamp_(0, 255)


def _forward(values: Tensor, shift: int) -> Tensor:
    """Return the cosine transform along the first axis, divided by 2^shift and rounded."""
    front, back = values[:4], values[4:].flip(0)
    even, odd = _mixed(0, front + back), _mixed(1, front - back)
    return _divided(torch.stack([even, odd], 1).flatten(0, 1), shift)


def _inverse(values: Tensor, shift: int) -> Tensor:
    """Return what the transposed transform makes of coefficients, divided by 2^shift and rounded."""
    even, odd = _mixed(2, values[0::2]), _mixed(3, values[1::2])
    return _divided(torch.cat([even + odd, (even - odd).flip(0)]), shift)


def _mixed(which: int, values: Tensor) -> Tensor:
    """Multiply by one of `_cosines`, in whole numbers, which no GPU's matrix product takes.

    Shape:
        values: (4, 8, N). Returns the same.
    """
    matrix = constant(values.device, _cosines)[which][:, :, None, None]
    total = matrix[:, 0] * values[0]
    for place in range(1, 4):
        total.addcmul_(matrix[:, place], values[place])
    return total


def _divided(values: Tensor, shift: int) -> Tensor:
    return values.add_(1 << (shift - 1)).bitwise_right_shift_(shift)
