"""Every family of forgeries by its name."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from unseen.forge.family import Family
from unseen.types import InputError

__all__ = ["FAMILIES", "families", "family"]

_CLASSES = {  # in the order in which they are shown
    "swap": ("unseen.forge.swap", "Swap"),
    "poisson": ("unseen.forge.poisson", "Poisson"),
    "reenact": ("unseen.forge.reenact", "Reenact"),
    "autoencode": ("unseen.forge.autoencode", "Autoencode"),
    "texture": ("unseen.forge.texture", "Texture"),
    "restore": ("unseen.forge.restore", "Restore"),
    "sbi": ("unseen.forge.selfblend", "SelfBlended"),
}
FAMILIES = tuple(_CLASSES)


def families() -> dict[str, Callable[..., Family]]:
    """Return the class of each family."""
    return {name: _load(name) for name in FAMILIES}


def _load(name: str) -> Callable[..., Family]:
    module, kind = _CLASSES[name]
    found: Callable[..., Family] = getattr(import_module(module), kind)
    return found


def family(name: str, strengths: Mapping[str, Any] | None = None) -> Family:
    """Return a family with its strengths.

    Args:
        name: One of `FAMILIES`.
        strengths: Keywords of its class.

    Raises:
        InputError: An unknown name or keyword; the message has the known ones.
    """
    if name not in FAMILIES:
        near = difflib.get_close_matches(name, FAMILIES, n=1)
        raise InputError(
            f"family {name!r} is unknown"
            + (f", did you mean {near[0]!r}?" if near else "")
            + f"; expected some of {', '.join(FAMILIES)}",
            reason="unknown_family",
        )
    kind = _load(name)
    known = list(inspect.signature(kind).parameters)
    for word in strengths or {}:
        if word not in known:
            raise InputError(
                f"family {name}: no strength {word!r}; expected some of {', '.join(known)}",
                reason="unknown_strength",
            )
    return kind(**(strengths or {}))
