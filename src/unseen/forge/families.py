"""Every family of forgeries by its name."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from unseen.forge.family import Family
from unseen.types import InputError

__all__ = ["FAMILIES", "families", "family"]

FAMILIES = ("swap", "poisson", "reenact", "autoencode", "texture", "restore", "sbi")


def families() -> dict[str, Callable[..., Family]]:
    """Return the class of each family, in the order in which they are shown."""
    from unseen.forge.autoencode import Autoencode
    from unseen.forge.poisson import Poisson
    from unseen.forge.reenact import Reenact
    from unseen.forge.restore import Restore
    from unseen.forge.selfblend import SelfBlended
    from unseen.forge.swap import Swap
    from unseen.forge.texture import Texture

    return {
        "swap": Swap,
        "poisson": Poisson,
        "reenact": Reenact,
        "autoencode": Autoencode,
        "texture": Texture,
        "restore": Restore,
        "sbi": SelfBlended,
    }


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
    kind = families()[name]
    known = list(inspect.signature(kind).parameters)
    for word in strengths or {}:
        if word not in known:
            raise InputError(
                f"family {name}: no strength {word!r}; expected some of {', '.join(known)}",
                reason="unknown_strength",
            )
    return kind(**(strengths or {}))
