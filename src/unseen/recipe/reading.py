"""Recipes: YAML of constructor calls, so that the signatures of the classes are the schema.

A recipe names classes by `class_path` and `init_args`; classes of `unseen` may be named without their
module. Whatever lies in `unseen.methods`, `unseen.models` and `unseen.data` is found by itself.
"""

from __future__ import annotations

import copy
import difflib
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonargparse
import torch
import yaml

from unseen.models.detector import Detector
from unseen.models.inpainter import FaceInpainter
from unseen.recipe.names import SECTIONS, explain_error, full_names
from unseen.recipe.settings import DataSettings, DetectorSlots, Optimizer, Schedule, TrainerSettings
from unseen.types import InputError

__all__ = ["Recipe", "read_recipe"]

log = logging.getLogger(__name__)


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
    def init(self) -> str | dict[str, str] | None:
        """Where the first weights come from: a package, a file, a run folder, or nowhere.

        A mapping gives modules of the detector, by their names in it, one each: `{backbone.inpainter: RUN}`.
        """
        value = self.settings["init"]
        return {str(k): str(v) for k, v in value.items()} if isinstance(value, Mapping) else value

    def expanded(self) -> dict[str, Any]:
        """Return every key with its value; `read_recipe` of it builds the same objects."""
        return copy.deepcopy(dict(self.settings))

    def to_yaml(self) -> str:
        """Return `expanded` as YAML."""
        return yaml.safe_dump(self.expanded(), sort_keys=False, allow_unicode=True)

    def with_values(self, values: Mapping[str, Any]) -> Recipe:
        """Return a recipe with other values.

        Args:
            values: Key to value. A key is a path from the top (`optimizer.init_args.lr`, with numbers for
                places in lists), or an argument of a class that is used once (`RealMemory.margin`).

        Raises:
            InputError: There is no such key, or a class is there twice.
        """
        settings = self.expanded()
        for key, value in values.items():
            owner, name = _place(settings, key, self.origin)
            owner[name] = value
        made = read_recipe(settings)  # the new values are checked like any others
        return Recipe(made.settings, self.origin)

    def detector(self, *, pretrained: bool | None = None) -> Detector:
        """Build the detector, with new random weights unless the backbone says otherwise.

        Args:
            pretrained: Overrides the backbone's own argument; False never touches a network.
        """
        if "detector" not in self.settings:
            raise InputError(f"{self.origin}: trains an inpainter; expected a recipe with `detector:`")
        settings = self.expanded()["detector"]
        arguments = settings["backbone"].get("init_args", {})
        if pretrained is not None and "pretrained" in arguments:
            arguments["pretrained"] = pretrained
        slots: DetectorSlots = self._build({"detector": settings}).detector
        return Detector(slots.backbone, slots.head, slots.parts)

    def model(self, *, pretrained: bool | None = None) -> Detector | FaceInpainter:
        """Build what the recipe trains: a detector, or the inpainter that one kind of detector needs before.

        Args:
            pretrained: See `detector`.
        """
        if "inpainter" not in self.settings:
            return self.detector(pretrained=pretrained)
        built: FaceInpainter = self._build({"inpainter": self.expanded()["inpainter"]}).inpainter
        return built

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
            raise explain_error(error, self.origin) from error


def read_recipe(source: str | Path | Mapping[str, Any], overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe and check every key; nothing is built.

    Args:
        source: A YAML file, or its contents as a mapping. Where there is no such file, `recipes/NAME.yaml`,
            `NAME.yaml` and `NAME` are the ready-made recipe of that name, and the log says so.
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
        if not path.exists():
            path = _ready_made(path)
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: cannot be read as text ({error})", reason="unreadable") from error
        try:
            settings = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise InputError(
                f"{path}: not YAML: {' '.join(str(error).split())}", reason="unreadable"
            ) from error
        if not isinstance(settings, dict):
            raise InputError(f"{path}: expected keys such as `detector:` and `data:`; the file has none")
    kind = "inpainter" if "inpainter" in settings and "detector" not in settings else "detector"
    if "inpainter" in settings and "detector" in settings:
        raise InputError(f"{origin}: has `detector:` and `inpainter:`; a recipe trains one of them")
    for missing in () if kind == "inpainter" else ("backbone", "head"):
        if not isinstance(settings.get("detector"), Mapping) or missing not in settings["detector"]:
            raise InputError(
                f"{origin}: `detector: {missing}:` is missing; see recipes/tiny.yaml for a small one"
            )
    sections = [name for name in SECTIONS if name not in {"detector", "inpainter"} - {kind}]
    parser = _parser(frozenset(sections))
    arguments = [_option(text) for text in _joined(overrides)]
    try:
        parsed = parser.parse_object(full_names(settings))
        if arguments:
            parsed = parser.parse_args(arguments, namespace=parsed)
        expanded = yaml.safe_load(parser.dump(parsed, format="yaml", skip_unset=False))
    except (jsonargparse.ArgumentError, TypeError, ValueError) as error:
        raise explain_error(error, origin) from error
    if expanded["seed"] < 0:
        raise InputError(f"{origin}: seed: {expanded['seed']}; expected 0 or more")
    return Recipe({key: expanded.get(key) for key in sections}, origin)


def _parser(sections: frozenset[str]) -> Any:
    """Return a parser of these sections; it is cheap, and jsonargparse's own state is not shared."""
    parser = jsonargparse.ArgumentParser(
        exit_on_error=False, prog="recipe", add_help=False, allow_abbrev=False
    )
    for name, kind in (
        ("detector", DetectorSlots),
        ("inpainter", FaceInpainter),
        ("data", DataSettings),
        ("schedule", Schedule),
        ("trainer", TrainerSettings),
    ):
        if name in sections:
            parser.add_class_arguments(kind, name)
    if "data" in sections:  # as a call, which can be written down; a built object could not
        parser.set_defaults({"data.sampler": {"class_path": "unseen.data.samplers.Shuffled"}})
    if "optimizer" in sections:
        adam = {"class_path": "torch.optim.Adam", "init_args": {"lr": 1e-4}}
        parser.add_argument("--optimizer", type=Optimizer, default=adam)
    if "init" in sections:
        parser.add_argument("--init", type=str | dict[str, str] | None, default=None)
    if "seed" in sections:
        parser.add_argument("--seed", type=int, default=0)
    return parser


def _place(settings: dict[str, Any], key: str, origin: str) -> tuple[Any, Any]:
    """Return the mapping or list that holds a key's value, and the value's name or place in it."""
    *path, name = key.split(".")
    if path and path[0][:1].isupper():
        owners = [call for call in _calls(settings) if call["class_path"].rpartition(".")[2] == path[0]]
        if len(owners) != 1:
            raise InputError(
                f"{origin}: {key}: {path[0]} is used {len(owners)} times in the recipe; expected once, "
                "or the whole path of the key",
                reason="unknown_key",
            )
        owner, path = owners[0].setdefault("init_args", {}), path[1:]
    else:
        owner = settings
    for step in path:
        owner = _inside(owner, step, key, origin)
    _inside(owner, name, key, origin)
    return owner, int(name) if isinstance(owner, list) else name


def _inside(owner: Any, step: str, key: str, origin: str) -> Any:
    """Return what a mapping or list has at one step of a key."""
    if isinstance(owner, list) and step.isdigit() and int(step) < len(owner):
        return owner[int(step)]
    if isinstance(owner, Mapping) and step in owner:
        return owner[step]
    there = range(len(owner)) if isinstance(owner, list) else owner if isinstance(owner, Mapping) else ()
    raise InputError(
        f"{origin}: {key}: there is no {step!r}; expected one of {', '.join(map(str, there)) or 'nothing'}",
        reason="unknown_key",
    )


def _calls(value: Any) -> Iterator[dict[str, Any]]:
    """Yield every constructor call in a recipe."""
    if isinstance(value, dict):
        if isinstance(value.get("class_path"), str):
            yield value
        for inner in value.values():
            yield from _calls(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _calls(inner)


def _joined(words: Sequence[str]) -> list[str]:
    """Bring `--key value`, which a shell hands over as two words, to `--key=value`."""
    joined: list[str] = []
    for word in words:
        if joined and joined[-1].startswith("--") and "=" not in joined[-1] and not word.startswith("--"):
            joined[-1] += f"={word}"
        else:
            joined.append(word)
    return joined


def _option(text: str) -> str:
    """Bring `key=value`, with or without dashes, to an option with full class names."""
    key, sign, value = text.lstrip("-").partition("=")
    if not sign:
        raise InputError(f"override {text!r}: expected key=value, such as trainer.max_epochs=3")
    try:
        parsed = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise InputError(
            f"override {text!r}: the value is not YAML ({' '.join(str(error).split())})"
        ) from error
    if isinstance(parsed, str | list | dict):
        value = yaml.safe_dump(full_names(parsed), default_flow_style=True, width=10**6).removesuffix("...\n")
    return f"--{key}={value.strip()}"


def _ready_made(path: Path) -> Path:
    """Return the recipe of this name that comes with the package.

    Raises:
        InputError: There is none.
    """
    package = Path(__file__).parents[1]
    folders = [package / "recipes", package.parents[1] / "recipes"]  # of a wheel, of a checkout
    folder = next((f for f in folders if (f / "tiny.yaml").is_file()), folders[0])
    found = folder / f"{path.name.removesuffix('.yaml')}.yaml"
    if path.parent not in (Path(), Path("recipes")) or not found.is_file():
        near = difflib.get_close_matches(found.stem, [file.stem for file in folder.glob("*.yaml")], 3)
        hint = f"; of the ready-made ones, did you mean {', '.join(near)}?" if near else ""
        raise InputError(
            f"{path}: there is no such recipe; a path counts from the working folder, {Path.cwd()}, and the "
            f"ready-made ones lie in {folder}{hint}",
            reason="missing",
        )
    log.warning("%s is not in the working folder; the ready-made recipe of that name is taken", path)
    return found
