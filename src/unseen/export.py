"""A detector as an ONNX graph that borrows its numbers from the run's own `weights.safetensors`.

The graph has a few hundred kilobytes: every weight is an external tensor, given by its place in the weights
file beside it. One file of weights serves torch and onnxruntime, so the two cannot drift apart, and a verdict
needs neither torch nor timm, whose import costs longer than the verdict.
"""

from __future__ import annotations

import json
import logging
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from unseen.methods.realid import RealMemory, real_concepts
from unseen.models.detector import Detector
from unseen.types import Features, InputError

__all__ = ["GRAPH", "WEIGHTS", "export_graph"]

GRAPH = "graph.onnx"
WEIGHTS = "weights.safetensors"


class _Graph(nn.Module):
    """Score, un-normalised Grad-CAM where the score is linear in the backbone's vector, real concepts."""

    def __init__(self, detector: Detector, slope: Tensor | None) -> None:
        super().__init__()
        self.detector = detector
        self.slope = None if slope is None else slope.view(1, -1, 1, 1)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        output = self.detector(image)
        found = [output.score]  # (B,)
        if self.slope is not None:
            found.append((output.features.map * self.slope).sum(1).relu())  # (B, h, w)
        concepts = real_concepts(self.detector, output)
        if concepts is not None:
            found.append(concepts)  # (B, K)
        return tuple(found)

    @property
    def names(self) -> list[str]:
        """Of the outputs, in order."""
        memory = any(isinstance(part, RealMemory) for part in self.detector.parts)
        return ["score", *(["heat"] if self.slope is not None else []), *(["concepts"] if memory else [])]


def export_graph(detector: Detector, folder: str | Path) -> Path:
    """Write `graph.onnx` beside the `weights.safetensors` that `folder` already holds.

    Input `image` (B, 3, H, W) float in [0, 1], any B; output `score` (B,), the log-odds of fake, and, where
    the score is linear in the pooled map (no parts but a `RealMemory`, a linear head), `heat` (B, h, w):
    Grad-CAM before it is divided by its maximum, `explain.gradcam` in closed form; with a `RealMemory` also
    `concepts` (B, K), the cosine to each real prototype.

    Args:
        detector: With the very weights of that file.
        folder: The run folder.

    Raises:
        InputError: The weights file is missing or is not this detector's; onnx is not installed; or the
            network has an operation that ONNX cannot say (`unsupported`).
    """
    folder = Path(folder)
    places = _places(folder / WEIGHTS)
    try:
        import onnx
        import onnxscript  # noqa: F401 - torch.onnx needs it, and says so less clearly
    except ImportError as error:
        raise InputError(
            f"export needs {error.name}: pip install 'unseen[train]'", reason="missing"
        ) from error
    was_training = detector.training
    detector.eval()
    size = detector.image_size
    graph = _Graph(detector, _slope(detector))
    try:
        with warnings.catch_warnings(), _quiet():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                graph,
                (torch.zeros(2, 3, size, size, device=next(detector.parameters()).device),),
                dynamo=True,
                optimize=False,  # folding would copy weights into the graph
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                input_names=["image"],
                output_names=graph.names,
                verbose=False,
            )
    except torch.onnx.errors.OnnxExporterError as error:
        line = str(error).strip().splitlines()[0]
        raise InputError(
            f"{folder}: this network cannot be written as ONNX ({line})", reason="unsupported"
        ) from error
    finally:
        detector.train(was_training)
    assert program is not None
    model = program.model_proto
    for tensor in model.graph.initializer:
        name = tensor.name.removeprefix("detector.")
        if name in places:
            _borrow(onnx, tensor, *places[name])
    for node in model.graph.node:  # stack traces of this machine, ten times the graph itself
        node.ClearField("doc_string")
        del node.metadata_props[:]
    del model.graph.value_info[:]
    path = folder / GRAPH
    partial = folder / f".{GRAPH}.partial"
    partial.write_bytes(model.SerializeToString())
    partial.replace(path)
    return path


def _slope(detector: Detector) -> Tensor | None:
    """How the score changes with the vector if that is the same everywhere, else None."""
    if not all(isinstance(part, RealMemory) for part in detector.parts):  # which only watches
        return None
    backbone = detector.backbone
    device = next(detector.parameters()).device
    draw = torch.Generator(device="cpu").manual_seed(0)
    slopes = []
    for _ in range(2):
        vector = torch.randn(1, backbone.dim, generator=draw).to(device).requires_grad_()
        map = torch.zeros(1, backbone.channels, 1, 1, device=device)
        score = detector.judge(Features(map, vector)).score
        slopes.append(torch.autograd.grad(score.sum(), vector, allow_unused=True)[0])
    first, second = slopes
    if (
        first is None
        or second is None
        or backbone.dim != backbone.channels
        or not torch.allclose(first, second)
    ):
        return None
    return first[0].detach()


def _places(path: Path) -> dict[str, tuple[int, int]]:
    """Where each tensor's bytes lie in a safetensors file: offset and length."""
    if not path.exists():
        raise InputError(f"{path}: missing; save the weights before the graph", reason="missing")
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
    places = {}
    for name, entry in header.items():
        if name != "__metadata__":
            start, end = entry["data_offsets"]
            places[name] = (8 + size + start, end - start)
    return places


def _borrow(onnx: Any, tensor: Any, offset: int, length: int) -> None:
    if len(tensor.raw_data) != length:
        raise InputError(
            f"{WEIGHTS}: {tensor.name} has {length} bytes there, {len(tensor.raw_data)} in the detector; "
            "save this detector's weights first"
        )
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", WEIGHTS), ("offset", offset), ("length", length)):
        tensor.external_data.add(key=key, value=str(value))


class _quiet:
    """The exporter tells its progress through logging, which nobody asked for."""

    def __enter__(self) -> None:
        self._names = ("torch.onnx", "onnxscript", "onnx_ir")
        self._levels = [logging.getLogger(name).level for name in self._names]
        for name in self._names:
            logging.getLogger(name).setLevel(logging.ERROR)

    def __exit__(self, *_: object) -> None:
        for name, level in zip(self._names, self._levels, strict=True):
            logging.getLogger(name).setLevel(level)
