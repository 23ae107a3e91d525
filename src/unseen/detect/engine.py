"""What turns crops into scores: a run's network in torch, or its ONNX graph in onnxruntime.

Both take the same crops through the same transforms. The second needs neither torch nor timm, whose import
costs more time than a verdict, and is therefore taken where the run folder holds a graph.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from unseen.data.transforms import Transform, for_evaluation
from unseen.detect.concepts import Concepts, read_concepts
from unseen.explain.draw import fit_affine
from unseen.run_files import check_file, read_facts
from unseen.types import Explanation, FaceRecord, FaceSample, InputError

if TYPE_CHECKING:
    from unseen.checkpoint import Run
    from unseen.detect.seeing import Sight
    from unseen.evaluate.calibration import Calibration

__all__ = ["Engine", "OnnxEngine", "TorchEngine", "load_engine"]

Kind = Literal["auto", "onnx", "torch"]
Images = NDArray[np.uint8]
DEFAULT_RUN = Path(__file__).parents[1] / "default_run"
GRAPH = "graph.onnx"


class Engine(Protocol):
    """A loaded run, ready to score."""

    kind: str
    model: str
    calibration: Calibration
    card: dict[str, str]  # what a reader of a verdict should know of the model
    concepts: Concepts  # what its real concepts look like, if it has any

    def input_of(self, sight: Sight) -> tuple[Images, NDArray[np.float64]]:
        """Bring a face to what the network takes.

        Raises:
            InputError: A transform cannot work with this face, such as one without landmarks.

        Shape:
            (H, W, 3) uint8 RGB and (2, 3), which maps a point of the crop to it.
        """
        ...

    def score(self, images: Images) -> NDArray[np.float64]:
        """Log-odds of fake as the network gives them. Shape: (B, H, W, 3) uint8 to (B,)."""
        ...

    def heat(self, images: Images) -> NDArray[np.float32] | None:
        """Grad-CAM, each map divided by its maximum, or None. Shape: (B, H, W, 3) uint8 to (B, h, w)."""
        ...

    def similarity(self, images: Images) -> NDArray[np.float32] | None:
        """Cosine to each real concept, or None without a memory. Shape: (B, H, W, 3) uint8 to (B, K)."""
        ...

    def explain(self, images: Images) -> list[list[Explanation]]:
        """The detector's own evidence, a list a picture, in the pixels of what it is given."""
        ...


def transform(sight: Sight, transforms: list[Transform]) -> tuple[Images, NDArray[np.float64]]:
    """Run a face through the transforms of a run; see `Engine.input_of`."""
    image = sight.image()
    record = FaceRecord(path="", landmarks=sight.landmarks)
    sample = FaceSample(image=image, label=None, record=record, landmarks=sight.landmarks)
    for step in transforms:
        sample = step(sample, np.random.default_rng(0))
    # Landmarks are moved with the picture, so they tell where each pixel came from, whatever the transforms.
    assert sample.landmarks is not None
    return np.ascontiguousarray(sample.image), fit_affine(sight.landmarks, sample.landmarks)


class TorchEngine:
    """The network itself, on any device."""

    kind = "torch"

    def __init__(self, run: Run, *, device: str = "auto") -> None:
        import torch

        self.model, self.card = run.name, summary(run.card, run.facts)
        self.calibration = run.calibration
        self.concepts = read_concepts(run.folder, run.facts)
        self.transforms = for_evaluation(run.transforms)
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        try:
            self.device = torch.device(device)
            # Convolutions take channels_last two to three times as fast on most processors.
            self.detector = run.detector.eval().to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        except (RuntimeError, AssertionError) as error:
            raise InputError(
                f"device {device!r} cannot be used ({error}); expected auto, cpu or cuda", reason="device"
            ) from error
        if self.device.type == "cpu":
            # A container may own fewer cores than the machine has; more threads than cores only wait.
            torch.set_num_threads(max(1, min(torch.get_num_threads(), cores())))

    def input_of(self, sight: Sight) -> tuple[Images, NDArray[np.float64]]:
        """See `Engine`."""
        return transform(sight, self.transforms)

    def score(self, images: Images) -> NDArray[np.float64]:
        """See `Engine`."""
        import torch

        with torch.inference_mode():
            return np.asarray(self.detector(self._tensor(images)).score.double().cpu().numpy())

    def heat(self, images: Images) -> NDArray[np.float32] | None:
        """See `Engine`."""
        from unseen.explain.gradcam import class_activation_map

        try:
            return np.asarray(class_activation_map(self.detector, self._tensor(images)).cpu().numpy())
        except ValueError:  # a network without a map has no heat map; its scores are as good as ever
            return None

    def similarity(self, images: Images) -> NDArray[np.float32] | None:
        """See `Engine`."""
        import torch

        from unseen.methods.realid import real_concepts

        with torch.inference_mode():
            found = real_concepts(self.detector, self.detector(self._tensor(images)))
        return None if found is None else np.asarray(found.float().cpu().numpy())

    def explain(self, images: Images) -> list[list[Explanation]]:
        """See `Engine`."""
        import torch

        if not self.detector.explains:
            return [[] for _ in images]
        with torch.no_grad():
            found: list[list[Explanation]] = self.detector.explain(self._tensor(images))
        return found

    def _tensor(self, images: Images) -> Any:
        import torch

        batch = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))).to(self.device)
        return batch.float().div_(255).contiguous(memory_format=torch.channels_last)


class OnnxEngine:
    """The graph `graph.onnx` of a run folder, which reads its numbers from `weights.safetensors`.

    Args:
        folder: The run folder.
        name: How the run is called in verdicts.
        threads: Of the network; None for one a core, four at most.
    """

    kind = "onnx"

    def __init__(self, folder: Path, name: str, *, threads: int | None = None) -> None:
        import onnxruntime

        # It brings scipy and polars: here that happens in the thread that loads, while faces are looked for.
        from unseen.evaluate.calibration import Calibration

        facts = checked(folder)
        self.model = name
        self.card = summary((folder / "card.md").read_text("utf-8"), facts)
        self.calibration = Calibration.from_json(folder / "calibration.json")
        self.concepts = read_concepts(folder, facts)
        self.transforms = read_transforms(folder / "recipe.yaml")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or min(4, cores())
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self.session = onnxruntime.InferenceSession(
                str(folder / GRAPH), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime raises its own kinds, all plain exceptions
            line = str(error).splitlines()[0]
            raise InputError(
                f"{folder / GRAPH}: cannot be loaded ({line}); export it again, or use --engine torch",
                reason="unreadable",
            ) from error
        self.outputs = [output.name for output in self.session.get_outputs()]

    def input_of(self, sight: Sight) -> tuple[Images, NDArray[np.float64]]:
        """See `Engine`."""
        return transform(sight, self.transforms)

    def score(self, images: Images) -> NDArray[np.float64]:
        """See `Engine`."""
        (score,) = self.session.run(["score"], {"image": floats(images)})
        return np.asarray(score, np.float64)

    def heat(self, images: Images) -> NDArray[np.float32] | None:
        """See `Engine`."""
        if "heat" not in self.outputs:
            return None
        (raw,) = self.session.run(["heat"], {"image": floats(images)})
        peak = raw.max((1, 2), keepdims=True)
        return np.where(peak > 1e-12, raw / np.maximum(peak, 1e-12), 0).astype(np.float32)

    def similarity(self, images: Images) -> NDArray[np.float32] | None:
        """See `Engine`."""
        if "concepts" not in self.outputs:
            return None
        (found,) = self.session.run(["concepts"], {"image": floats(images)})
        return np.asarray(found, np.float32)

    def explain(self, images: Images) -> list[list[Explanation]]:
        """See `Engine`: the graph holds scores and heat maps, and no explanations."""
        return [[] for _ in images]


def load_engine(run: str | Path | Run = "default", *, kind: Kind = "auto", device: str = "auto") -> Engine:
    """Load a run with the engine that suits it.

    Args:
        run: `default`, a run folder, or a loaded run, which is always taken with torch.
        kind: `auto` takes onnx on a processor if the folder holds a graph that also gives heat maps.
        device: Where torch works.

    Raises:
        InputError: The folder is missing, incomplete or was tampered with; or there is no graph to take.
    """
    if kind not in ("auto", "onnx", "torch"):
        raise InputError(f"engine {kind!r}; expected auto, onnx or torch")
    if not isinstance(run, str | Path):
        if kind == "onnx":
            raise InputError("engine 'onnx' takes a run folder, not a loaded run; give its path")
        return TorchEngine(run, device=device)
    folder = DEFAULT_RUN if str(run) == "default" else Path(run)
    has_graph = (folder / GRAPH).is_file()
    if kind == "onnx" and not has_graph:
        raise InputError(
            f"{folder / GRAPH}: missing; write it with unseen.export, or use --engine torch", reason="missing"
        )
    if kind == "onnx" or (kind == "auto" and has_graph and device in ("auto", "cpu")):
        name = "default" if folder == DEFAULT_RUN else folder.resolve().name
        engine = OnnxEngine(folder, name)
        if kind == "onnx" or "heat" in engine.outputs:
            return engine
    from unseen.checkpoint import load_run

    return TorchEngine(load_run(run), device=device)


def checked(folder: Path) -> Mapping[str, Any]:
    """Return `run.json`, having compared every file it lists: `unseen.checkpoint.load_run` without torch."""
    facts = read_facts(folder)
    for name in facts["files"]:
        check_file(folder / Path(name).name, facts["files"])
    return facts


def read_transforms(path: Path) -> list[Transform]:
    """Build the deterministic transforms of a run's recipe; torch is not needed for these.

    Raises:
        InputError: The recipe names something that is no transform of `unseen`.
    """
    import yaml

    entries = yaml.safe_load(path.read_text("utf-8"))["data"]["transforms"] or []
    return for_evaluation([_transform(entry, path) for entry in entries])


def _transform(entry: Mapping[str, Any], path: Path) -> Transform:
    module, _, name = str(entry["class_path"]).rpartition(".")
    # Only our own rooms: a recipe must not be a way to call anything else.
    kind = getattr(importlib.import_module(module), name, None) if module.startswith("unseen.") else None
    if not (isinstance(kind, type) and issubclass(kind, Transform)):
        raise InputError(f"{path}: {entry['class_path']} is no transform of unseen; use --engine torch")
    arguments = {
        # A transform may hold another, such as the alignment of `MultiScaleSwap`.
        key: _transform(value, path) if isinstance(value, Mapping) and "class_path" in value else value
        for key, value in (entry.get("init_args") or {}).items()
    }
    return kind(**arguments)


def summary(card: str, facts: Mapping[str, Any]) -> dict[str, str]:
    """What a verdict says of its model: the card's first paragraph, its date and which weights they are."""
    paragraphs = [part.strip() for part in card.split("\n\n")]
    words = [part for part in paragraphs if part and part[0] not in "#|-<!`"]
    found = {"Card": " ".join(words[0].replace("**", "").replace("`", "").split())} if words else {}
    found["Trained"] = str(facts.get("created", ""))
    found["Weights (SHA-256)"] = str(facts.get("files", {}).get("weights.safetensors", ""))
    return {name: text for name, text in found.items() if text}


def floats(images: Images) -> NDArray[np.float32]:
    """Shape: (B, H, W, 3) uint8 to (B, 3, H, W) float32 in [0, 1]."""
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2), np.float32) / np.float32(255)


def cores() -> int:
    """Processor cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        return os.cpu_count() or 1
