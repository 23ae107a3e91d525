"""A run as one ONNX file: network, calibration, preprocessing and card together, for `detect` and for others.

The file needs nothing beside it. Other programs can run it too: `docs/export.md` says how.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml
from numpy.typing import NDArray

import unseen
from unseen.checkpoint import Run, load_run
from unseen.detect.engine import TorchEngine
from unseen.detect.onnx_engine import OnnxEngine
from unseen.export import GRAPH, WEIGHTS, export_graph
from unseen.run_files import CONCEPTS, EXPORTED
from unseen.types import InputError

__all__ = ["TOLERANCE", "Exported", "export_run"]

TOLERANCE = 1e-4  # log-odds by which onnxruntime may differ from torch


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        path: The file.
        bytes: Its size.
        difference: The largest difference of a score from torch's, over pictures in batches of 1, 2 and 5.
        int8: Whether weights are stored in eight bits; then the difference is said and not limited.
    """

    path: Path
    bytes: int
    difference: float
    int8: bool


def export_run(run: str | Path, out: Path, *, int8: bool = False) -> Exported:
    """Write a run as one ONNX file and compare its scores with torch's.

    Args:
        run: `default` or a run folder.
        out: Ends in `.onnx`; must not exist.
        int8: Store weights in eight bits and compute activations' scales as it goes (dynamic quantisation).

    Raises:
        InputError: `out` exists or is no `.onnx`; onnx is not installed; the network cannot be said in ONNX;
            its scores differ from torch's by more than `TOLERANCE`.
    """
    if out.suffix != ".onnx":
        raise InputError(f"{out}: expected a name that ends in .onnx", reason="suffix")
    if out.exists():
        raise InputError(
            f"{out}: exists already; give another --out, nothing is overwritten", reason="exists"
        )
    if not out.resolve().parent.is_dir():
        raise InputError(f"{out}: its folder does not exist; make it first", reason="missing")
    try:
        import onnx
        from onnx.external_data_helper import load_external_data_for_model
    except ImportError as error:
        raise InputError("export needs onnx: pip install 'unseen[train]'", reason="missing") from error
    loaded = load_run(run)
    partial = out.with_name(f".{out.name}.partial")
    try:
        with tempfile.TemporaryDirectory() as folder:
            there = graph_folder(loaded, Path(folder))
            model = onnx.load(str(there / GRAPH), load_external_data=False)
            load_external_data_for_model(model, str(there))
        if int8:
            model = quantised(model)
        for key, text in metadata(loaded, int8=int8).items():
            model.metadata_props.add(key=key, value=text)
        try:
            partial.write_bytes(model.SerializeToString())
        except ValueError as error:  # protobuf holds two gigabytes at most
            raise InputError(f"{out}: cannot be one ONNX file ({error})", reason="too_large") from error
        difference = compare(OnnxEngine(partial, out.name), TorchEngine(loaded, device="cpu"), loaded)
        if not int8 and not difference <= TOLERANCE:
            raise InputError(
                f"{out}: scores differ from torch's by {difference:.2g} (at most {TOLERANCE:g} is right); "
                "please report the network's name",
                reason="parity",
            )
        partial.replace(out)
    finally:
        partial.unlink(missing_ok=True)
    return Exported(out, out.stat().st_size, difference, int8)


def graph_folder(run: Run, spare: Path) -> Path:
    """Return a folder with the run's graph and weights: its own, or a spare one where they are made."""
    if (run.folder / GRAPH).is_file() and GRAPH in run.facts["files"]:
        from unseen.run_files import check_file

        check_file(run.folder / GRAPH, run.facts["files"])
        return run.folder
    from safetensors.torch import save_file

    state = {name: tensor.contiguous() for name, tensor in run.detector.state_dict().items()}
    save_file(state, spare / WEIGHTS)
    export_graph(run.detector, spare)
    return spare


def quantised(model: Any) -> Any:
    """Return the graph with weights in eight bits (onnxruntime's dynamic quantisation, a scale a channel)."""
    import onnx
    import onnxruntime
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with tempfile.TemporaryDirectory() as folder:
        given, whole, small = (Path(folder) / f"{name}.onnx" for name in ("given", "whole", "small"))
        onnx.save(model, str(given))
        # Constants folded, norms merged into convolutions: else shapes hold on to the float weights.
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(whole)
        options.log_severity_level = 3
        onnxruntime.InferenceSession(str(given), options, providers=["CPUExecutionProvider"])
        # Unsigned weights: signed ones can overflow on processors without VNNI.
        quantize_dynamic(str(whole), str(small), weight_type=QuantType.QUInt8, per_channel=True)
        return onnx.load(str(small))


def metadata(run: Run, *, int8: bool) -> dict[str, str]:
    """What travels with the network, as text by key."""
    transforms = yaml.safe_load(run.recipe.to_yaml())["data"]["transforms"] or []
    calibration = run.calibration
    told = {
        "unseen_format": EXPORTED,
        "unseen_version": unseen.__version__,
        "unseen_run": run.name,
        "unseen_weights": "int8 (dynamic quantisation)" if int8 else "float32",
        "unseen_calibration": calibration.to_json(),
        "unseen_transforms": json.dumps(transforms),
        "unseen_card": run.card,
        "unseen_facts": json.dumps(
            {k: v for k, v in run.facts.items() if k in ("created", "files", "unseen")}
        ),
        # For programs other than unseen, in words and plain numbers.
        "input": (
            f"image: (B, 3, {run.detector.image_size}, {run.detector.image_size}) float32 RGB in [0, 1], "
            "a face aligned as unseen_transforms says; the graph normalises"
        ),
        "output": "score: (B,) log-odds of fake; probability = sigmoid(score / temperature + bias)",
        "temperature": repr(calibration.temperature),
        "bias": repr(calibration.bias),
        "thresholds": json.dumps(calibration.thresholds),  # false-alarm rate to score
        "threshold": repr(calibration.threshold()),
    }
    concepts = run.folder / CONCEPTS
    if CONCEPTS in run.facts["files"]:
        told["unseen_concepts"] = concepts.read_text("utf-8")
    return told


def compare(ours: OnnxEngine, torch: TorchEngine, run: Run) -> float:
    """Return the largest difference of a score over made-up pictures, in batches of 1, 2 and 5."""
    rng, side = np.random.default_rng(0), run.detector.image_size
    largest = 0.0
    for count in (1, 2, 5):
        images = np.stack([made_up(rng, side) for _ in range(count)])
        gap = np.abs(ours.score(images) - torch.score(images))
        largest = max(largest, float(gap.max()) if np.isfinite(gap).all() else float("inf"))
    return largest


def made_up(rng: np.random.Generator, side: int) -> NDArray[np.uint8]:
    """Soft coloured clouds with a little grain. Shape: (side, side, 3) uint8."""
    clouds = cv2.resize(rng.uniform(0, 255, (6, 6, 3)).astype(np.float32), (side, side))
    return np.asarray((clouds + rng.normal(0, 4, clouds.shape)).clip(0, 255), np.uint8)
