"""The graph of a run folder, or the one file that `unseen export` wrote, in onnxruntime; no torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from unseen.detect.concepts import parse_concepts, read_concepts
from unseen.detect.inputs import build_transforms, checked, cores, floats, read_transforms, summary, transform
from unseen.run_files import EXPORTED, digest
from unseen.types import Explanation, InputError

if TYPE_CHECKING:
    from unseen.detect.seeing import Sight

__all__ = ["GRAPH", "OnnxEngine"]

Images = NDArray[np.uint8]
GRAPH = "graph.onnx"


class OnnxEngine:
    """The graph `graph.onnx` of a run folder, with its numbers from `weights.safetensors`; or one file.

    Args:
        source: The run folder, or a file from `unseen export`.
        name: How the run is called in verdicts.
        threads: Of the network; None for one a core, four at most.

    Raises:
        InputError: The folder is incomplete or was tampered with, or the file was not written by `unseen`.
    """

    kind = "onnx"

    def __init__(self, source: Path, name: str, *, threads: int | None = None) -> None:
        # It brings scipy and polars: here that happens in the thread that loads, while faces are looked for.
        from unseen.evaluate.calibration import Calibration

        self.model = name
        if source.is_dir():
            facts = checked(source)
            self.card = summary((source / "card.md").read_text("utf-8"), facts)
            self.calibration = Calibration.from_json(source / "calibration.json")
            self.concepts = read_concepts(source, facts)
            self.transforms = read_transforms(source / "recipe.yaml")
            self.session = open_session(source / GRAPH, threads)
        else:
            self.session = open_session(source, threads)
            told = self.session.get_modelmeta().custom_metadata_map
            if told.get("unseen_format") != EXPORTED:
                raise InputError(
                    f"{source}: was not written by `unseen export` (format {told.get('unseen_format')}; "
                    f"expected {EXPORTED}); a network without calibration and preprocessing gives no verdict",
                    reason="unreadable",
                )
            try:
                self.card = {
                    **summary(told["unseen_card"], json.loads(told["unseen_facts"])),
                    "Exported from": told["unseen_run"],
                    **({"Weights stored as": told["unseen_weights"]} if "unseen_weights" in told else {}),
                    "File (SHA-256)": digest(source),
                }
                self.calibration = Calibration.from_json(told["unseen_calibration"], name=str(source))
                self.concepts = parse_concepts(told.get("unseen_concepts", ""), str(source))
                self.transforms = build_transforms(json.loads(told["unseen_transforms"]), source)
            except (KeyError, ValueError) as error:
                if isinstance(error, InputError):
                    raise
                raise InputError(
                    f"{source}: damaged ({error!r}); export it again", reason="tampered"
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


def open_session(path: Path, threads: int | None) -> Any:
    """Load a graph.

    Raises:
        InputError: onnxruntime cannot.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or min(4, cores())
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises its own kinds, all plain exceptions
        line = str(error).splitlines()[0]
        raise InputError(
            f"{path}: cannot be loaded ({line}); export it again, or use --engine torch", reason="unreadable"
        ) from error
