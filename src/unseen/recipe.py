"""Recipes: YAML of constructor calls, so that the signatures of the classes are the schema.

A recipe names classes by `class_path` and `init_args`; classes of `unseen` may be named without their
module. Whatever lies in `unseen.methods`, `unseen.models` and `unseen.data` is found by itself.
"""

from __future__ import annotations

import copy
import difflib
import importlib
import inspect
import math
import pkgutil
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any, Literal

import jsonargparse
import torch
import yaml

from unseen.data.samplers import Sampler, Shuffled
from unseen.data.transforms import Transform
from unseen.models.backbone import Backbone
from unseen.models.detector import Detector, Head, Part
from unseen.types import InputError

__all__ = ["DataSettings", "DetectorSlots", "Recipe", "Schedule", "TrainerSettings", "read_recipe"]


@dataclass(frozen=True)
class DetectorSlots:
    """The slots of a detector; a method is a filling of them.

    Args:
        backbone: Sees the picture.
        head: Turns features into logits.
        parts: Stand between the two, in this order.
    """

    backbone: Backbone
    head: Callable[[Backbone], Head]
    parts: list[Callable[[Backbone], Part]] = field(default_factory=list)


@dataclass(frozen=True)
class DataSettings:
    """What is learned from.

    Args:
        manifest: Parquet or CSV file with a row a face.
        transforms: Applied in this order; those that augment are left out outside training.
        sampler: Draws the batches.
        train_split: Rows with this `split` are learned from; null takes all rows.
        val_split: Rows with this `split` choose the epoch and calibrate; null trains without validation.
        workers: Processes that load pictures; null for one a core, at most 8.
        val_batch: Faces in a batch of the validation.
        val_limit: At most so many faces are validated on, spread evenly over the rows; null for all.
    """

    manifest: str | None = None
    transforms: list[Transform] = field(default_factory=list)
    sampler: Sampler = field(default_factory=Shuffled)
    train_split: str | None = "train"
    val_split: str | None = "val"
    workers: int | None = None
    val_batch: int = 32
    val_limit: int | None = None


@dataclass(frozen=True)
class Schedule:
    """The learning rate at each optimizer step, as a factor: warm up linearly, hold at 1, then decay.

    Args:
        decay: Shape of the fall after holding; `none` holds to the end.
        warmup: Share of all steps in which the factor rises to 1.
        hold: Share of all steps, counted from the first, before the fall begins.
        final: Factor at the last step.

    Example:
        SBI keeps the rate for three quarters, then lets it fall in a line:

        >>> schedule = Schedule(decay="linear", hold=0.75)
        >>> [schedule.factor(step, 101) for step in (0, 75, 80, 100)]
        [1.0, 1.0, 0.8, 0.0]
    """

    decay: Literal["none", "linear", "cosine"] = "none"
    warmup: float = 0.0
    hold: float = 0.0
    final: float = 0.0

    def __post_init__(self) -> None:
        for name in ("warmup", "hold", "final"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise InputError(f"schedule.{name}: {value}; expected a share between 0 and 1")

    def factor(self, step: int, steps: int) -> float:
        """Return the factor of step `step` (from 0) out of `steps`."""
        last = max(steps - 1, 1)
        rise = round(self.warmup * last)
        if step < rise:
            return (step + 1) / (rise + 1)
        start = max(rise, round(self.hold * last))
        if self.decay == "none" or step <= start:
            return 1.0
        done = min((step - start) / (last - start), 1.0)
        left = 1 - done if self.decay == "linear" else 0.5 * (1 + math.cos(math.pi * done))
        return self.final + (1 - self.final) * left


@dataclass(frozen=True)
class TrainerSettings:
    """How it is learned.

    Args:
        max_epochs: Passes over the training rows, as the sampler counts them.
        max_steps: Optimizer steps; wins over `max_epochs` if both are given.
        precision: `bf16-mixed` is for processors that have bfloat16.
        accelerator: Kind of device, as Lightning names it.
        devices: How many of them, or `auto`.
        channels_last: Memory layout of pictures; faster for convolutions on CPUs and newer GPUs.
        clip: Largest norm of all gradients together; null does not clip.
        accumulate: Batches whose gradients are averaged into one optimizer step.
        ema: Decay of a moving average of the weights, which is then validated and saved; null for none.
        sam: Radius of sharpness-aware minimisation (Foret et al. 2021); null for none.
        patience: Stop after so many validations without a better AUC; null never stops early.
        val_every: Optimizer steps between validations; null for one at the end of each epoch.
        keep: Which weights the run folder gets, those of the best validation or the last.
        save_every: Optimizer steps between checkpoints, besides one after each validation.
        log_every: Optimizer steps between lines of the log.
    """

    max_epochs: int | None = None
    max_steps: int | None = None
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    accelerator: str = "auto"
    devices: int | Literal["auto"] = "auto"
    channels_last: bool = True
    clip: float | None = None
    accumulate: int = 1
    ema: float | None = None
    sam: float | None = None
    patience: int | None = None
    val_every: int | None = None
    keep: Literal["best", "last"] = "best"
    save_every: int | None = None
    log_every: int = 10

    def __post_init__(self) -> None:
        for name in ("max_epochs", "max_steps", "accumulate", "patience", "val_every", "save_every", "log_every"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"trainer.{name}: {value}; expected at least 1")
        if self.ema is not None and not 0 < self.ema < 1:
            raise InputError(f"trainer.ema: {self.ema}; expected a decay between 0 and 1, such as 0.999")
        for name in ("clip", "sam"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise InputError(f"trainer.{name}: {value}; expected above 0, or null for none")


Optimizer = Callable[[Iterable[torch.Tensor]], torch.optim.Optimizer]


@dataclass(frozen=True)
class Recipe:
    """A recipe that was read and checked, with nothing built yet.

    Args:
        settings: Every key with its value, defaults included: what `expanded` writes.
        origin: Where it came from, for messages.
    """

    settings: Mapping[str, Any]
    origin: str = "recipe"

    @property
    def seed(self) -> int:
        """The one number that all randomness is a function of, together with step and row."""
        return int(self.settings["seed"])

    @property
    def init(self) -> str | None:
        """Where the first weights come from: a package, a file, a run folder, or nowhere."""
        value = self.settings["init"]
        return None if value is None else str(value)

    def expanded(self) -> dict[str, Any]:
        """Return every key with its value; `read_recipe` of it builds the same objects."""
        return copy.deepcopy(dict(self.settings))

    def to_yaml(self) -> str:
        """Return `expanded` as YAML."""
        return yaml.safe_dump(self.expanded(), sort_keys=False, allow_unicode=True)

    def detector(self, *, pretrained: bool | None = None) -> Detector:
        """Build the detector, with new random weights unless the backbone says otherwise.

        Args:
            pretrained: Overrides the backbone's own argument; False never touches a network.
        """
        settings = self.expanded()["detector"]
        arguments = settings["backbone"].get("init_args", {})
        if pretrained is not None and "pretrained" in arguments:
            arguments["pretrained"] = pretrained
        slots: DetectorSlots = self._build({"detector": settings}).detector
        return Detector(slots.backbone, slots.head, slots.parts)

    def data(self) -> DataSettings:
        """Build transforms and sampler."""
        built: DataSettings = self._build({"data": self.expanded()["data"]}).data
        return built

    def trainer(self) -> TrainerSettings:
        """Return how it is learned."""
        built: TrainerSettings = self._build({"trainer": self.expanded()["trainer"]}).trainer
        return built

    def schedule(self) -> Schedule:
        """Return the course of the learning rate."""
        built: Schedule = self._build({"schedule": self.expanded()["schedule"]}).schedule
        return built

    def optimizer(self, parameters: Iterable[torch.Tensor]) -> torch.optim.Optimizer:
        """Build the optimizer of these parameters."""
        make: Optimizer = self._build({"optimizer": self.expanded()["optimizer"]}).optimizer
        return make(parameters)

    def _build(self, part: dict[str, Any]) -> Any:
        parser = _parser(frozenset(part))
        try:
            return parser.instantiate(parser.parse_object(part))
        except InputError as error:
            raise InputError(f"{self.origin}: {error}", reason=error.reason) from error
        except (jsonargparse.ArgumentError, TypeError, ValueError) as error:
            raise _explain(error, self.origin) from error


def read_recipe(source: str | Path | Mapping[str, Any], overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe and check every key; nothing is built.

    Args:
        source: A YAML file, or its contents as a mapping.
        overrides: `detector.backbone.init_args.name=resnet50`, `data.transforms+=Flip`, with or without
            leading dashes; the last one wins.

    Raises:
        InputError: With the file, the key, and the keys that look like it.
    """
    origin, text = "recipe", ""
    if isinstance(source, Mapping):
        settings: Any = copy.deepcopy(dict(source))
    else:
        path = Path(source)
        origin = str(path)
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise InputError(f"{path}: there is no such recipe", reason="missing") from None
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: cannot be read as text ({error})", reason="unreadable") from error
        try:
            settings = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise InputError(f"{path}: not YAML: {' '.join(str(error).split())}", reason="unreadable") from error
        if not isinstance(settings, dict):
            raise InputError(f"{path}: expected keys such as `detector:` and `data:`; the file has none")
    for missing in ("backbone", "head"):
        if not isinstance(settings.get("detector"), Mapping) or missing not in settings["detector"]:
            raise InputError(f"{origin}: `detector: {missing}:` is missing; see recipes/tiny.yaml for a small one")
    parser = _parser(frozenset(_SECTIONS))
    arguments = [_option(text) for text in overrides]
    try:
        parsed = parser.parse_object(_full_names(settings))
        if arguments:
            parsed = parser.parse_args(arguments, namespace=parsed)
        expanded = yaml.safe_load(parser.dump(parsed, format="yaml", skip_unset=False))
    except (jsonargparse.ArgumentError, TypeError, ValueError) as error:
        raise _explain(error, origin) from error
    return Recipe({key: expanded.get(key) for key in _SECTIONS}, origin)


_SECTIONS = ("detector", "data", "optimizer", "schedule", "trainer", "init", "seed")


def _parser(sections: frozenset[str]) -> Any:
    """Return a parser of these sections; it is cheap, and jsonargparse's own state is not shared."""
    parser = jsonargparse.ArgumentParser(exit_on_error=False, prog="recipe", add_help=False)
    for name, kind in (
        ("detector", DetectorSlots),
        ("data", DataSettings),
        ("schedule", Schedule),
        ("trainer", TrainerSettings),
    ):
        if name in sections:
            parser.add_class_arguments(kind, name)
    if "optimizer" in sections:
        adam = {"class_path": "torch.optim.Adam", "init_args": {"lr": 1e-4}}
        parser.add_argument("--optimizer", type=Optimizer, default=adam)
    if "init" in sections:
        parser.add_argument("--init", type=str | None, default=None)
    if "seed" in sections:
        parser.add_argument("--seed", type=int, default=0)
    return parser


@cache
def _known() -> dict[str, str]:
    """Every public class of the rooms that recipes are made of, by its short name."""
    known: dict[str, str] = {}
    for room in ("unseen.data", "unseen.models", "unseen.methods"):
        package = importlib.import_module(room)
        for info in pkgutil.iter_modules(package.__path__):
            module = importlib.import_module(f"{room}.{info.name}")
            for name, found in vars(module).items():
                if inspect.isclass(found) and found.__module__ == module.__name__ and not name.startswith("_"):
                    known[name] = f"{module.__name__}.{name}"
    return known


def _full_names(value: Any) -> Any:
    """Replace short class names, wherever they stand, by names with their module."""
    if isinstance(value, Mapping):
        return {key: _full_names(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_full_names(inner) for inner in value]
    return _known().get(value, value) if isinstance(value, str) else value


def _option(text: str) -> str:
    """Bring `key=value`, with or without dashes, to an option with full class names."""
    key, sign, value = text.lstrip("-").partition("=")
    if not sign:
        raise InputError(f"override {text!r}: expected key=value, such as trainer.max_epochs=3")
    try:
        parsed = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise InputError(f"override {text!r}: the value is not YAML ({' '.join(str(error).split())})") from error
    if isinstance(parsed, str | list | dict):
        value = yaml.safe_dump(_full_names(parsed), default_flow_style=True, width=10**6).removesuffix("...\n")
    return f"--{key}={value.strip()}"


def _explain(error: Exception, origin: str) -> InputError:
    """Say what is wrong with a recipe in one line: the key, and what looks like it."""
    message = " ".join(str(error).split())
    wrong = re.search(r"[Oo]ption '([\w.+]+)' is not accepted|not accept option '([\w.+]+)'", message)
    name = re.search(r"dot import path string: (\S+)", message)
    candidates: list[str] = []
    if wrong:
        key = (wrong[1] or wrong[2]).split(".")[0]
        owner = re.search(r"class_path '([\w.]+)'|class_path='([\w.]+)'", message)
        group = re.search(r"Group '(\w+)'", message)
        kinds = {"detector": DetectorSlots, "data": DataSettings, "schedule": Schedule, "trainer": TrainerSettings}
        if owner:
            where, _, attribute = (owner[1] or owner[2]).rpartition(".")
            candidates = list(inspect.signature(getattr(importlib.import_module(where), attribute)).parameters)
            message = f"{attribute} takes no {key!r}"
        elif group:
            candidates = [f.name for f in fields(kinds[group[1]])] if group[1] in kinds else []
            message = f"`{group[1]}` has no key {key!r}"
        else:
            candidates = list(_SECTIONS)
            message = f"there is no key {key!r}"
        candidates = [known for known in candidates if known not in ("self", "backbone", "params")] or candidates
    elif name:
        key = name[1]
        candidates = list(_known())
        place = re.search(r'Parser key "([\w.]+)"', message)
        message = f"{place[1] if place else 'a class_path'}: there is no class {key!r}"
    else:
        return InputError(f"{origin}: {message}")
    near = difflib.get_close_matches(key, candidates, 3, 0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"expected one of {', '.join(sorted(candidates)[:16])}"
    return InputError(f"{origin}: {message}; {hint}", reason="unknown_key")
