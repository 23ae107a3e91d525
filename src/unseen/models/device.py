"""Where a network runs."""

from __future__ import annotations

import torch

from unseen.types import InputError

__all__ = ["device_of"]


def device_of(word: str | torch.device) -> torch.device:
    """Return the device that a word names.

    Args:
        word: `auto` takes a CUDA device if there is one, else the processor; or any name that torch knows.

    Raises:
        InputError: It cannot be used here.
    """
    if word == "auto":
        word = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        found = torch.device(word)
        torch.zeros(1, device=found)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        said = str(error).split(". ")[0].splitlines()[0]
        if said.startswith("Expected one of"):  # torch lists twenty devices, most of which nobody has
            said = "torch knows no such device"
        raise InputError(
            f"device {str(word)!r} cannot be used ({said}); expected auto, cpu or cuda", reason="device"
        ) from error
    return found
