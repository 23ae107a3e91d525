"""Anybody's detector: a Python function from face crops to scores, called as if it were one of ours.

`unseen evaluate --predict mymodel:score --manifest crops/manifest.parquet` imports `mymodel` from the working
folder and calls `score(crops)` with (B, H, W, 3) uint8 RGB.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from unseen.types import InputError

__all__ = ["ForeignDetector", "import_function"]

Predict = Callable[[NDArray[np.uint8]], Any]
EDGE = 1e-12  # probabilities of exactly 0 and 1 become log-odds of -27.6 and 27.6


def import_function(name: str) -> tuple[Predict, str]:
    """Import a function that is named as `module:function`; the working folder is searched first.

    Returns:
        The function, and the SHA-256 of the file it is written in ("unknown" if it has none).

    Raises:
        InputError: There is no such module or function. What goes wrong *inside* the module is its own error.
    """
    module_name, mark, function_name = name.partition(":")
    if not mark or not function_name or not module_name:
        raise InputError(f"--predict {name}: expected module:function, such as mymodel:score", reason="usage")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not (module_name + ".").startswith(error.name + "."):
            raise  # the module is there, and lacks something itself
        raise InputError(
            f"--predict {name}: no module {module_name!r} in {here} or among what is installed",
            reason="missing",
        ) from error
    function = getattr(module, function_name, None)
    if not callable(function):
        there = [n for n, value in vars(module).items() if inspect.isfunction(value) and n[0] != "_"]
        raise InputError(
            f"--predict {name}: {module_name} has no function {function_name!r}; it has "
            f"{', '.join(there[:8]) or 'none'}",
            reason="missing",
        )
    file = getattr(module, "__file__", None)
    return function, hashlib.sha256(Path(file).read_bytes()).hexdigest() if file else "unknown"


class ForeignDetector(nn.Module):
    """Calls a function of uint8 crops where one of our detectors is expected.

    Args:
        function: Takes (B, H, W, 3) uint8 RGB, contiguous; returns (B,) numbers that rise with suspicion: an
            array, a tensor or a list.
        name: What messages call it.
        probability: The numbers are probabilities of fake in [0, 1], and become log-odds.
    """

    def __init__(self, function: Predict, *, name: str = "--predict", probability: bool = False) -> None:
        super().__init__()
        self.function, self.name, self.probability = function, name, probability

    def forward(self, image: Tensor) -> SimpleNamespace:
        """Return an object with `score` (B,).

        Shape:
            image: (B, 3, H, W) float RGB in [0, 1].

        Raises:
            InputError: The function gave another number of scores, or a probability outside [0, 1].
        """
        crops = (image.float() * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().cpu().numpy()
        given = self.function(crops)
        if isinstance(given, Tensor):
            given = given.detach().cpu().numpy()
        score = np.asarray(given, np.float64)
        if score.shape != (len(crops),) and score.shape != (len(crops), 1):
            raise InputError(
                f"{self.name}: gave shape {score.shape} for {len(crops)} crops; expected ({len(crops)},), a "
                "number a crop",
                reason="shape",
            )
        score = score.reshape(-1)
        if self.probability:
            wrong = np.flatnonzero((score < 0) | (score > 1))
            if wrong.size:
                raise InputError(
                    f"{self.name}: gave {score[wrong[0]]:g}; expected probabilities in [0, 1] "
                    "(leave --probability out if these are log-odds)",
                    reason="probability",
                )
            chance = np.clip(score, EDGE, 1 - EDGE)
            score = np.log(chance / (1 - chance))
        return SimpleNamespace(score=torch.from_numpy(score))
