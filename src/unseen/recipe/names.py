"""Short class names, and what to say to somebody who got a name wrong."""

from __future__ import annotations

import difflib
import importlib
import inspect
import pkgutil
import re
from collections.abc import Mapping
from functools import cache
from typing import Any

import torch

from unseen.data.transforms import Transform
from unseen.models.backbone import Backbone
from unseen.models.detector import Head, Part
from unseen.models.inpainter import FaceInpainter
from unseen.recipe.settings import DataSettings, DetectorSlots, Schedule, TrainerSettings
from unseen.types import InputError

__all__ = ["SECTIONS", "explain_error", "full_names", "known_classes"]

SECTIONS = ("detector", "inpainter", "data", "optimizer", "schedule", "trainer", "init", "seed")


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


_KINDS: dict[str, type] = {
    "detector": DetectorSlots,
    "inpainter": FaceInpainter,
    "data": DataSettings,
    "schedule": Schedule,
    "trainer": TrainerSettings,
}
# What jsonargparse says of a wrong key in a section, in a class's arguments, or on the command line.
_WRONG_KEY = re.compile(
    r"Group '(?P<group>\w+)' does not accept option '(?P<in_group>\w+)"
    r"|class_path[ =]'(?P<owner>[\w.]+)'.*Option '(?P<of_owner>\w+)[\w.]*' is not accepted"
    r"|Option '(?P<of_callable>\w+)[\w.]*' is not accepted.*class_path='(?P<callable>[\w.]+)'"
    r"|unrecognized arguments: --(?P<option_group>\w+)\.(?P<option>[\w.]+)"
    r"|Option '(?P<section>\w+)[\w.]*' is not accepted|unrecognized arguments: --(?P<option_section>\w+)"
)
# What it says of a value that may be one of several kinds, such as a number or a tensor.
_WRONG_VALUE = re.compile(
    r'Parser key "(?P<key>\w+)": Does not validate against any of the Union subtypes'
    r".*?Expected an? <class '(?P<kind>\w+)'>.*Given value: (?P<value>.+?)\. Got value"
)
_SLOTS: dict[str, type] = {
    "detector.backbone": Backbone,
    "detector.parts": Part,
    "detector.head": Head,
    "data.transforms": Transform,
}


def _classes_for(place: str) -> list[str]:
    """Return the short names of what may stand at a place of a recipe."""
    if place == "optimizer":
        return [f"torch.optim.{name}" for name in torch.optim.__all__ if name[0].isupper()]
    wanted, found = _SLOTS.get(place), []
    for name, path in known_classes().items():
        kind = getattr(importlib.import_module(path.rpartition(".")[0]), name)
        if wanted is None or (issubclass(kind, wanted) and kind is not wanted):
            found.append(name)
    return found


def explain_error(error: Exception, origin: str) -> InputError:
    """Say what is wrong with a recipe in one line: the key, and what looks like it."""
    message = " ".join(str(error).split())
    place = re.search(r'Parser key "([\w.]+)"', message)
    if place and (value := _WRONG_VALUE.search(message)):
        return InputError(
            f"{origin}: {place[1]}.{value['key']}: {value['value']!r}; expected {value['kind']}"
        )
    if unknown := re.search(r"dot import path string: (\S+)", message):
        key, candidates = unknown[1], _classes_for(place[1] if place else "")
        message = f"{place[1] if place else 'a class_path'}: there is no class {key!r}"
    elif found := _WRONG_KEY.search(message):
        key, candidates, message = _wrong_key(found)
    else:
        return InputError(f"{origin}: {message}")
    near = difflib.get_close_matches(key, candidates, 3, 0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"expected one of {', '.join(candidates[:16])}"
    return InputError(f"{origin}: {message}; {hint}", reason="unknown_key")


def _wrong_key(found: re.Match[str]) -> tuple[str, list[str], str]:
    """Return the key, those that would be right, and what to say."""
    owner, group = found["owner"] or found["callable"], found["group"] or found["option_group"]
    if owner:
        key = found["of_owner"] or found["of_callable"]
        module, _, name = owner.rpartition(".")
        accepted = inspect.signature(getattr(importlib.import_module(module), name)).parameters
        left = [known for known in accepted if known not in ("self", "backbone", "params")]
        return key, left, f"{name} takes no {key!r}"
    if group:
        key = (found["in_group"] or found["option"]).split(".")[-1]
        left = list(inspect.signature(_KINDS[group]).parameters) if group in _KINDS else []
        return key, left, f"`{group}` has no key {key!r}"
    key = found["section"] or found["option_section"]
    return key, list(SECTIONS), f"there is no key {key!r}"
