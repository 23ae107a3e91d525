"""How regions of a face act together: the multivariate interaction of all of them (CADDM, eq. 1).

A detector that judges by local traces says of a whole face about what its cells say one by one; one that
knows the person needs the whole face. The interaction of all cells is the difference.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

from unseen.explain.gradcam import resting
from unseen.types import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from unseen.models.detector import Detector

__all__ = ["Baseline", "Worth", "baseline_image", "cell_map", "interaction"]

Baseline = Literal["mean", "zero", "black"]
Worth = Literal["logit", "probability"]


def interaction(
    detector: Detector,
    image: Tensor,
    *,
    grid: int = 16,
    baseline: Baseline = "mean",
    output: Worth = "logit",
    batch_size: int = 64,
) -> Tensor:
    """Return I([N]) of eq. 1: what the cells of a face say together beyond what each says alone.

    With f the detector's output when only some cells are shown and the rest is hidden,

        I([N]) = f(all) - f(none) - sum_i [f(only i) - f(none)],

    the Shapley value of all cells as one player minus that of each as the only player (Zhang et al., 2021).
    It takes grid^2 + 2 forward passes a face, 258 for 16 x 16 cells. The paper says neither what hides a cell
    nor which output it takes; both are options here.

    Args:
        detector: Each module keeps its mode.
        image: Faces as the detector takes them.
        grid: Cells a side; cells differ by a pixel where the side is no multiple of it.
        baseline: What a hidden cell shows: the `mean` colour of the face's picture, `zero` after the
            backbone's normalisation (the mean colour of what it was trained on), or `black`.
        output: The log-odds of fake (`logit`) or its `probability`.
        batch_size: Pictures at a time.

    Raises:
        InputError: The grid is finer than the picture, or a word is unknown.

    Shape:
        image: (B, 3, H, W), uint8 or float in [0, 1]. Result: (B,) float64.

    Source:
        Dong et al., Implicit Identity Leakage, CVPR 2023, section 3, eq. 1.
    """
    import torch

    if output not in get_args(Worth):
        raise InputError(f"interaction: output {output!r}; expected one of {', '.join(get_args(Worth))}")
    if image.dtype == torch.uint8:
        image = image.float() / 255
    height, width = image.shape[2:]
    cells = cell_map(grid, height, width).to(image.device)  # (H, W)
    # Picture 0 shows all, picture 1 nothing, the others one cell each.
    numbers = torch.arange(grid * grid + 2, device=image.device).view(-1, 1, 1, 1)

    def worth(pictures: Tensor) -> Tensor:
        score: Tensor = detector(pictures).score.double()
        return score.sigmoid() if output == "probability" else score

    found = []
    with resting(detector), torch.inference_mode():
        for face in image:
            hidden = baseline_image(detector, face, baseline)  # (3, H, W)
            values = []
            for some in torch.split(numbers, batch_size):
                shown = (cells == some - 2) | (some == 0)  # (b, 1, H, W)
                values.append(worth(torch.where(shown, face, hidden)))
            value = torch.cat(values)
            found.append(value[0] - value[1] - (value[2:] - value[1]).sum())
    return torch.stack(found).clone()


def baseline_image(detector: Detector, face: Tensor, baseline: Baseline) -> Tensor:
    """Return what a face looks like when all of it is hidden. Shape: (3, H, W) -> (3, H, W)."""
    if baseline == "mean":
        return face.mean((1, 2), keepdim=True).expand_as(face)
    if baseline == "zero":
        return detector.backbone.mean[0].to(face).expand_as(face)
    if baseline == "black":
        return face.new_zeros(()).expand_as(face)
    raise InputError(f"interaction: baseline {baseline!r}; expected one of {', '.join(get_args(Baseline))}")


def cell_map(grid: int, height: int, width: int) -> Tensor:
    """Return the number of the cell that each pixel belongs to, row by row. Shape: (height, width) int64.

    >>> cell_map(2, 3, 4).tolist()
    [[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 3, 3]]
    """
    import torch

    if not 1 <= grid <= min(height, width):
        raise InputError(f"interaction: a grid of {grid} cells a side on a picture of {height} x {width}")
    rows, columns = (torch.arange(side) * grid // side for side in (height, width))
    return grid * rows[:, None] + columns
