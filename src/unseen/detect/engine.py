"""What turns crops into scores: a run's network in torch, or its ONNX graph in onnxruntime.

Both take the same crops through the same transforms. The second needs neither torch nor timm, whose import
costs more time than a verdict, and is therefore taken where the run folder holds a graph.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from unseen.data.transforms import for_evaluation
from unseen.detect.concepts import Concepts, read_concepts
from unseen.detect.inputs import checked, cores, read_transforms, summary, transform
from unseen.detect.onnx_engine import GRAPH, OnnxEngine
from unseen.types import Explanation, InputError

if TYPE_CHECKING:
    from unseen.checkpoint import Run
    from unseen.detect.seeing import Sight
    from unseen.evaluate.calibration import Calibration

__all__ = ["Engine", "OnnxEngine", "TorchEngine", "checked", "load_engine", "read_transforms"]

Kind = Literal["auto", "onnx", "torch"]
Images = NDArray[np.uint8]
DEFAULT_RUN = Path(__file__).parents[1] / "default_run"


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


class TorchEngine:
    """The network itself, on any device."""

    kind = "torch"

    def __init__(self, run: Run, *, device: str = "auto", threads: int | None = None) -> None:
        import torch

        from unseen.models.device import device_of

        self.model, self.card = run.name, summary(run.card, run.facts)
        self.calibration = run.calibration
        self.concepts = read_concepts(run.folder, run.facts)
        self.transforms = for_evaluation(run.transforms)
        self.device = device_of(device)
        # Convolutions take channels_last two to three times as fast on most processors.
        self.detector = run.detector.eval().to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        if self.device.type == "cpu":
            # A container may own fewer cores than the machine has; more threads than cores only wait.
            torch.set_num_threads(threads or max(1, min(torch.get_num_threads(), cores())))

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


def load_engine(
    run: str | Path | Run = "default",
    *,
    kind: Kind = "auto",
    device: str = "auto",
    threads: int | None = None,
) -> Engine:
    """Load a run with the engine that suits it.

    Args:
        run: `default`, a run folder, a file that `unseen export` wrote, or a loaded run, which is always
            taken with torch.
        kind: `auto` takes onnx on a processor if the folder holds a graph that also gives heat maps.
        device: Where torch works.
        threads: Of the network on a processor; None for what suits the machine.

    Raises:
        InputError: The folder is missing, incomplete or was tampered with; or there is no graph to take.
    """
    if kind not in ("auto", "onnx", "torch"):
        raise InputError(f"engine {kind!r}; expected auto, onnx or torch")
    if not isinstance(run, str | Path):
        if kind == "onnx":
            raise InputError("engine 'onnx' takes a run folder, not a loaded run; give its path")
        return TorchEngine(run, device=device, threads=threads)
    folder = DEFAULT_RUN if str(run) == "default" else Path(run)
    if folder.is_file() and folder.suffix == ".onnx":
        if kind == "torch" or device not in ("auto", "cpu"):
            raise InputError(
                f"{folder}: an exported file runs in onnxruntime on a processor; for --engine torch or "
                "another device give the run folder",
                reason="engine",
            )
        return OnnxEngine(folder, folder.name, threads=threads)
    has_graph = (folder / GRAPH).is_file()
    if kind == "onnx" and not has_graph:
        raise InputError(
            f"{folder / GRAPH}: missing; write one with unseen export RUN --format onnx --out FILE and give "
            "that as --run, or use --engine torch",
            reason="missing",
        )
    if kind == "onnx" or (kind == "auto" and has_graph and device in ("auto", "cpu")):
        name = "default" if folder == DEFAULT_RUN else folder.resolve().name
        engine = OnnxEngine(folder, name, threads=threads)
        if kind == "onnx" or "heat" in engine.outputs:
            return engine
    from unseen.checkpoint import load_run

    return TorchEngine(load_run(run), device=device, threads=threads)
