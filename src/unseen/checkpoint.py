"""Run folders: what training leaves, and evaluation, detection and serving take.

A folder holds `weights.safetensors`, the expanded `recipe.yaml`, `calibration.json`, `metrics.json`,
`card.md` and `run.json` with the SHA-256 of each of them. Nothing in it is a pickle.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

import unseen
from unseen.data.transforms import Transform, for_evaluation
from unseen.evaluate.calibration import Calibration
from unseen.export import GRAPH, export_graph
from unseen.models.detector import Detector
from unseen.models.inpainter import FaceInpainter
from unseen.recipe import Recipe, read_recipe
from unseen.run_files import CONCEPTS, LIST, check_file, digest, read_facts
from unseen.types import InputError

__all__ = ["DEFAULT_RUN", "Run", "load_run", "save_run"]

DEFAULT_RUN = Path(__file__).parent / "default_run"
WEIGHTS, RECIPE, CALIBRATION = "weights.safetensors", "recipe.yaml", "calibration.json"
METRICS, CARD = "metrics.json", "card.md"


@dataclass(frozen=True, eq=False)
class Run:
    """A trained network with all that is needed to use and to judge it.

    Args:
        model: In evaluation mode, on the CPU.
        transforms: The deterministic ones, from a crop to the detector's input.
        recipe: What it was trained by.
        calibration: What its scores are worth; an uncalibrated stand-in if it never had validation data.
        metrics: Scores at the end of training.
        card: What it was trained on, what it scored, what it cannot do: Markdown.
        folder: Where it lies.
        name: `default`, or the folder's name.
        facts: The rest of `run.json`: version, date, data.
    """

    model: Detector | FaceInpainter
    transforms: list[Transform]
    recipe: Recipe
    calibration: Calibration
    metrics: Mapping[str, Any]
    card: str
    folder: Path
    name: str
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def detector(self) -> Detector:
        """The network that gives verdicts.

        Raises:
            InputError: The run trained something else.
        """
        if not isinstance(self.model, Detector):
            raise InputError(
                f"{self.folder}: a run of {type(self.model).__name__}, which gives no verdicts; expected a "
                "detector's, such as one trained by recipes/rffr.yaml with this one as its inpainter",
                reason="kind",
            )
        return self.model

    @property
    def inpainter(self) -> FaceInpainter:
        """The network that paints faces: the run's own, or its detector's.

        Raises:
            InputError: It has none.
        """
        found = [module for module in self.model.modules() if isinstance(module, FaceInpainter)]
        if not found:
            raise InputError(
                f"{self.folder}: has no inpainter; expected a run of recipes/rffr_inpainter.yaml",
                reason="kind",
            )
        return found[0]

    @property
    def digest(self) -> str:
        """The SHA-256 of the weights: which model this is, whatever the folder is called."""
        return str(self.facts["files"][WEIGHTS])


def save_run(
    folder: str | Path,
    model: Detector | FaceInpainter,
    recipe: Recipe,
    *,
    calibration: Calibration | None = None,
    metrics: Mapping[str, Any] | None = None,
    card: str = "",
    data: Mapping[str, Any] | None = None,
    graph: bool = False,
    concepts: Mapping[str, Any] | None = None,
) -> Path:
    """Write a run folder; `run.json` comes last, so that a folder without it is an unfinished one.

    Args:
        folder: Made if it is not there.
        model: Its weights are saved, nothing else of it.
        recipe: Saved with all defaults.
        calibration: None if there were no validation people.
        metrics: Anything JSON can hold.
        card: Markdown.
        data: Facts on the data that was learned from, anything JSON can hold.
        graph: Write `graph.onnx` too, so that verdicts need no torch; a network that ONNX cannot say goes
            without, and `run.json` says why.
        concepts: What a `RealMemory` has learned, see `unseen.train.concepts`; None writes no such file.

    Returns:
        The folder.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / LIST).unlink(missing_ok=True)
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    save_file(state, folder / WEIGHTS)
    (folder / RECIPE).write_text(recipe.to_yaml(), encoding="utf-8")
    (folder / CALIBRATION).write_text((calibration or Calibration.uncalibrated()).to_json(), encoding="utf-8")
    (folder / METRICS).write_text(json.dumps(dict(metrics or {}), indent=2) + "\n", encoding="utf-8")
    (folder / CARD).write_text(card or f"# {folder.name}\n", encoding="utf-8")
    names = [WEIGHTS, RECIPE, CALIBRATION, METRICS, CARD]
    for optional in (GRAPH, CONCEPTS):
        (folder / optional).unlink(missing_ok=True)
    if concepts is not None:
        (folder / CONCEPTS).write_text(json.dumps(dict(concepts), indent=1) + "\n", encoding="utf-8")
        names.append(CONCEPTS)
    without = None
    if graph and isinstance(model, Detector):
        try:
            names.append(export_graph(model, folder).name)
        except InputError as error:
            without = str(error)
    facts = {
        "unseen": unseen.__version__,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "files": {name: digest(folder / name) for name in names},
        "kind": type(model).__name__,
        "data": dict(data or {}),
        **({"no_graph": without} if without else {}),
    }
    (folder / LIST).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    return folder


def load_run(source: str | Path = "default") -> Run:
    """Read a run folder, having checked that every file is the one that training wrote.

    Args:
        source: A folder, or `default` for the model that comes with the package.

    Raises:
        InputError: A file is missing or changed, or the weights do not fit the recipe; names the file.
    """
    folder = DEFAULT_RUN if str(source) == "default" else Path(source)
    if not folder.is_dir():
        kind = "is a file" if folder.exists() else "does not exist"
        raise InputError(
            f"{folder}: {kind}; expected a run folder, as `unseen train` leaves it", reason="missing"
        )
    facts = read_facts(folder)
    optional = [CONCEPTS] if CONCEPTS in facts["files"] else []
    for name in (WEIGHTS, RECIPE, CALIBRATION, METRICS, CARD, *optional):
        check_file(folder / name, facts["files"])
    recipe = read_recipe(folder / RECIPE)
    # No weights are ever fetched here: they are in the folder.
    model = recipe.model(pretrained=False)
    try:
        model.load_state_dict(load_file(folder / WEIGHTS))
    except (SafetensorError, RuntimeError) as error:
        raise InputError(
            f"{folder / WEIGHTS}: does not fit the network of {RECIPE}: {' '.join(str(error).split())[:300]}"
        ) from error
    return Run(
        model=model.eval().requires_grad_(False),
        transforms=for_evaluation(recipe.data().transforms),
        recipe=recipe,
        calibration=Calibration.from_json(folder / CALIBRATION),
        metrics=json.loads((folder / METRICS).read_text(encoding="utf-8")),
        card=(folder / CARD).read_text(encoding="utf-8"),
        folder=folder,
        name="default" if folder == DEFAULT_RUN else folder.resolve().name,
        facts=facts,
    )


def same_recipe(folder: Path, recipe: Recipe) -> list[str]:
    """Return the keys in which the recipe of a folder differs from another one.

    A key that the folder's recipe is too old to know has its default there.
    """
    try:
        theirs = yaml.safe_load((folder / RECIPE).read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise InputError(f"{folder / RECIPE}: cannot be read ({error})", reason="unreadable") from error
    with contextlib.suppress(InputError):  # of a version whose recipes cannot be read: compared as it stands
        theirs = read_recipe(theirs).expanded()
    ours, before = _flat(recipe.expanded()), _flat(theirs)
    return sorted(key for key in ours.keys() | before.keys() if ours.get(key) != before.get(key))


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Bring nested keys to dotted ones."""
    if isinstance(value, Mapping) and value:
        return {k: v for key, inner in value.items() for k, v in _flat(inner, f"{prefix}{key}.").items()}
    if isinstance(value, list) and value:
        return {k: v for i, inner in enumerate(value) for k, v in _flat(inner, f"{prefix}{i}.").items()}
    return {prefix.rstrip("."): value}
