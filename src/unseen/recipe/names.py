"""Short class names, and what to say to somebody who got a name wrong."""

from __future__ import annotations

import difflib
import importlib
import inspect
import pkgutil
import re
from collections.abc import Mapping
from dataclasses import fields
from functools import cache
from typing import Any

from unseen.recipe.settings import DataSettings, DetectorSlots, Schedule, TrainerSettings
from unseen.types import InputError

__all__ = ["SECTIONS", "explain_error", "full_names", "known_classes"]

SECTIONS = ("detector", "data", "optimizer", "schedule", "trainer", "init", "seed")


@cache
def known_classes() -> dict[str, str]:
    """Every public class of the rooms that recipes are made of, by its short name."""
    known: dict[str, str] = {}
    twice: set[str] = set()
    for room in ("unseen.data", "unseen.models", "unseen.methods"):
        package = importlib.import_module(room)
        for info in pkgutil.iter_modules(package.__path__):
            module = importlib.import_module(f"{room}.{info.name}")
            for name, found in vars(module).items():
                if (
                    inspect.isclass(found)
                    and found.__module__ == module.__name__
                    and not name.startswith("_")
                ):
                    twice |= {name} & known.keys()
                    known[name] = f"{module.__name__}.{name}"
    # A name that two modules use must be given with its module; guessing would be worse.
    return {name: path for name, path in known.items() if name not in twice}


def full_names(value: Any) -> Any:
    """Replace short class names, wherever they stand, by names with their module."""
    if isinstance(value, Mapping):
        return {key: full_names(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [full_names(inner) for inner in value]
    return known_classes().get(value, value) if isinstance(value, str) else value


def explain_error(error: Exception, origin: str) -> InputError:
    """Say what is wrong with a recipe in one line: the key, and what looks like it."""
    message = " ".join(str(error).split())
    wrong = re.search(r"[Oo]ption '([\w.+]+)' is not accepted|not accept option '([\w.+]+)'", message)
    name = re.search(r"dot import path string: (\S+)", message)
    candidates: list[str] = []
    if wrong:
        key = (wrong[1] or wrong[2]).split(".")[0]
        owner = re.search(r"class_path '([\w.]+)'|class_path='([\w.]+)'", message)
        group = re.search(r"Group '(\w+)'", message)
        kinds = {
            "detector": DetectorSlots,
            "data": DataSettings,
            "schedule": Schedule,
            "trainer": TrainerSettings,
        }
        if owner:
            where, _, attribute = (owner[1] or owner[2]).rpartition(".")
            candidates = list(
                inspect.signature(getattr(importlib.import_module(where), attribute)).parameters
            )
            message = f"{attribute} takes no {key!r}"
        elif group:
            candidates = [f.name for f in fields(kinds[group[1]])] if group[1] in kinds else []
            message = f"`{group[1]}` has no key {key!r}"
        else:
            candidates = list(SECTIONS)
            message = f"there is no key {key!r}"
        candidates = [
            known for known in candidates if known not in ("self", "backbone", "params")
        ] or candidates
    elif name:
        key = name[1]
        candidates = list(known_classes())
        place = re.search(r'Parser key "([\w.]+)"', message)
        message = f"{place[1] if place else 'a class_path'}: there is no class {key!r}"
    else:
        return InputError(f"{origin}: {message}")
    near = difflib.get_close_matches(key, candidates, 3, 0.5)
    hint = (
        f"did you mean {' or '.join(near)}?"
        if near
        else f"expected one of {', '.join(sorted(candidates)[:16])}"
    )
    return InputError(f"{origin}: {message}; {hint}", reason="unknown_key")
