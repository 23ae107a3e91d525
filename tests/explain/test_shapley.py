"""The interaction of all cells against the definition, by enumerating every coalition."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch
from torch import Tensor

from unseen.explain.shapley import cell_map, interaction
from unseen.models.backbone import Backbone
from unseen.models.detector import Detector
from unseen.models.heads import BinaryHead
from unseen.types import Features, InputError


class Products(Backbone):
    """Sees products of far places, so that cells do act together."""

    def __init__(self) -> None:
        super().__init__(3, 3, 8, mean=(0.5, 0.4, 0.3), std=(1, 1, 1))
        self.calls: list[int] = []

    def forward(self, image: Tensor) -> Features:
        self.calls.append(len(image))
        seen = self.normalize(image)
        vector = (seen * seen.flip(2) * seen.flip(3)).sum((2, 3)) + seen.mean((2, 3)).sin()
        return Features(seen, vector)


@pytest.fixture
def detector() -> Detector:
    torch.manual_seed(0)
    return Detector(Products(), BinaryHead).double()


@pytest.mark.parametrize("baseline", ["mean", "zero", "black"])
@pytest.mark.parametrize("output", ["logit", "probability"])
def test_two_by_two_equals_every_coalition(detector: Detector, baseline: str, output: str) -> None:
    """I([N]) is the sum of the Harsanyi dividends of all coalitions of two or more cells."""
    image = torch.rand(3, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    found = interaction(detector, image, grid=2, baseline=baseline, output=output, batch_size=4)  # type: ignore[arg-type]
    for face, value in zip(image, found, strict=True):
        hidden = {
            "mean": face.mean((1, 2))[:, None, None],
            "zero": torch.tensor([0.5, 0.4, 0.3], dtype=torch.float64)[:, None, None],
            "black": torch.zeros(3, 1, 1, dtype=torch.float64),
        }[baseline].expand(3, 8, 8)

        def worth(shown: tuple[int, ...], face: Tensor = face, hidden: Tensor = hidden) -> float:
            picture = hidden.clone()
            for cell in shown:
                row, column = divmod(cell, 2)
                picture[:, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4] = face[
                    :, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4
                ]
            score = float(detector(picture[None]).score.detach())
            return score if output == "logit" else 1 / (1 + np.exp(-score))

        coalitions = [c for size in range(5) for c in combinations(range(4), size)]
        worths = {c: worth(c) for c in coalitions}
        dividend = {
            c: sum((-1) ** (len(c) - len(s)) * worths[s] for s in coalitions if set(s) <= set(c))
            for c in coalitions
        }
        together = sum(value for c, value in dividend.items() if len(c) > 1)
        assert float(value) == pytest.approx(together, rel=1e-6, abs=1e-9)
        assert abs(together) > 1e-4  # or the test would say nothing


def test_cells_that_only_add_up_do_not_interact() -> None:
    class Sums(Products):
        def forward(self, image: Tensor) -> Features:
            seen = self.normalize(image)
            return Features(seen, seen.mean((2, 3)))

    torch.manual_seed(0)
    image = torch.rand(2, 3, 8, 8)
    found = interaction(Detector(Sums(), BinaryHead), image, grid=4)
    assert found.abs().max() < 1e-6


def test_a_face_is_two_passes_more_than_its_cells_whatever_the_batch(detector: Detector) -> None:
    image = torch.rand(1, 3, 8, 8, dtype=torch.float64)
    backbone = detector.backbone
    assert isinstance(backbone, Products)
    values = []
    for batch in (1, 2, 7, 100):
        backbone.calls.clear()
        detector.train()
        values.append(float(interaction(detector, image, grid=8, batch_size=batch)))
        assert detector.training and sum(backbone.calls) == 66 and max(backbone.calls) == min(batch, 66)
    assert np.ptp(values) < 1e-9


def test_wrong_words_and_grids_are_named(detector: Detector) -> None:
    image = torch.rand(1, 3, 8, 8)
    with pytest.raises(InputError, match="baseline 'grey'; expected one of mean, zero, black"):
        interaction(detector.float(), image, baseline="grey", grid=2)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="output 'loss'"):
        interaction(detector, image, output="loss")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="a grid of 16 cells a side on a picture of 8 x 8"):
        interaction(detector, image)
    assert cell_map(3, 7, 9).unique(return_counts=True)[1].tolist() == [9, 9, 9, 6, 6, 6, 6, 6, 6]
