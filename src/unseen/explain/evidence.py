"""All evidence that a detector has about faces, by kind, with numbers that say what it is worth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from unseen.explain.gradcam import class_activation_map, resting
from unseen.explain.sanity import Trust, trust_of
from unseen.explain.views import View
from unseen.types import Explanation, InputError, Label

if TYPE_CHECKING:
    from unseen.models.detector import Detector

__all__ = ["KINDS", "Seen", "Summary", "explain_views", "positive_share", "summarize"]

KINDS = {  # what --with takes: what it is, and what a run must have for it
    "gradcam": "places that raised the score (a network with a map)",
    "regions": "forged regions (CADDM: ArtifactDetector)",
    "residual": "what real faces would have otherwise (RFFR: ResidualBackbone)",
    "prototypes": "likeness to real concepts (RealID: RealMemory)",
    "attention": "where the network attends (DID: Decomposition)",
}
SIDE = 256  # pixels a side that a map is enlarged to before its positive share is counted (PRLE, Table I)


@dataclass(frozen=True, eq=False)
class Seen:
    """One face, what the detector says of it, and why.

    Args:
        view: The face.
        score: Log-odds of fake.
        found: Evidence by kind, each as the detector gives it.
        trust: For each kind that has a heat map or boxes: whether it points at what matters.
    """

    view: View
    score: float
    found: dict[str, list[Explanation]]
    trust: dict[str, Trust] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON: boxes in the pixels of the original picture, maps of at most 32 x 32."""
        record, back = self.view.record, cv2.invertAffineTransform(self.view.matrix)
        told: dict[str, Any] = {}
        for kind, explanations in self.found.items():
            entries = []
            for one in explanations:
                entry: dict[str, Any] = {"kind": one.kind}
                if one.heatmap is not None:
                    entry["percent_positive"] = round(100 * positive_share(one.heatmap), 3)
                    small = one.heatmap if max(one.heatmap.shape) <= 32 else cv2.resize(one.heatmap, (32, 32))
                    entry["heatmap"] = np.round(np.asarray(small, np.float64), 3).tolist()
                if one.boxes is not None:
                    corners = one.boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2)
                    entry["corners"] = np.round(corners @ back[:, :2].T + back[:, 2], 2).tolist()
                if one.scores is not None:
                    entry["scores"] = np.round(np.asarray(one.scores, np.float64), 4).tolist()
                entries.append(entry)
            told[kind] = entries
        return {
            "face": self.view.name,
            "path": record.path,
            "frame": record.frame,
            "time": record.time,
            "label": None if record.label is None else int(record.label),
            "method": record.method,
            "score": round(self.score, 4),
            "box": None if self.view.box is None else np.round(self.view.box, 2).tolist(),
            "matrix": np.round(self.view.matrix, 6).tolist(),
            "input_size": list(self.view.size),
            "evidence": told,
            "trust": {kind: trust.to_dict() for kind, trust in self.trust.items()},
        }


def explain_views(
    detector: Detector,
    views: Sequence[View],
    kinds: Sequence[str] | None = None,
    *,
    name: str = "this run",
    batch_size: int = 8,
    steps: int = 0,
    seed: int = 0,
    report: Callable[[int, int], None] | None = None,
) -> list[Seen]:
    """Ask a detector for its evidence about faces.

    Args:
        detector: It stays where it is, and each module keeps its mode.
        views: The faces.
        kinds: Of `KINDS`; None takes all that the detector has.
        name: Of the run, for errors.
        batch_size: Faces at a time.
        steps: Of deletion and insertion for each heat map, which take 4 * (steps + 1) forward passes a face
            and kind; 0 leaves them out.
        seed: Of the random order that deletion and insertion are held against.
        report: Called with (faces done, faces in all).

    Raises:
        InputError: A kind is unknown, or the detector cannot give it.
    """
    import torch

    unknown = [kind for kind in kinds or () if kind not in KINDS]
    if unknown:
        raise InputError(
            f"--with {', '.join(unknown)}: unknown; expected of {', '.join(KINDS)}", reason="kind"
        )
    device = next(detector.parameters()).device
    seen: list[Seen] = []
    for start in range(0, len(views), batch_size):
        some = views[start : start + batch_size]
        image = torch.from_numpy(np.stack([view.image for view in some])).permute(0, 3, 1, 2)
        image = image.to(device).float().div_(255)
        with resting(detector), torch.no_grad():
            score = detector(image).score.double().cpu().tolist()
            own = detector.explain(image) if detector.explains else [[] for _ in some]
        maps = _gradcam(detector, image) if kinds is None or "gradcam" in kinds else None
        for number, view in enumerate(some):
            found = _by_kind(own[number])
            if maps is not None:
                found = {"gradcam": [Explanation("gradcam", heatmap=maps[number])], **found}
            lacking = [kind for kind in kinds or () if kind not in found]
            if lacking:
                has = [kind for kind in KINDS if kind in found]
                if "gradcam" not in found and _gradcam(detector, image[:1]) is not None:
                    has.insert(0, "gradcam")
                raise InputError(
                    f"--with {lacking[0]}: {name} has none, which would be {KINDS[lacking[0]]}; it has "
                    f"{', '.join(has) or 'no evidence at all'}",
                    reason="kind",
                )
            found = {kind: found[kind] for kind in (kinds or KINDS) if kind in found}
            trust = {
                kind: trust_of(detector, image[number], told, view.mask, steps=steps, seed=seed)
                for kind, told in found.items()
                if kind != "prototypes"
            }
            seen.append(Seen(view, score[number], found, trust))
        if report is not None:
            report(len(seen), len(views))
    return seen


def _gradcam(detector: Detector, image: Any) -> NDArray[np.float32] | None:
    try:
        return np.asarray(class_activation_map(detector, image).cpu().numpy(), np.float32)
    except ValueError:  # a network without a map; who asked for one by name is told
        return None


def _by_kind(own: Sequence[Explanation]) -> dict[str, list[Explanation]]:
    """Sort evidence by kind: both attentions are `attention`, a repainting goes with its `residual`."""
    found: dict[str, list[Explanation]] = {}
    for one in own:
        word = one.kind.split()[-1]
        kind = {"reconstruction": "residual"}.get(word, word)
        if kind in KINDS:
            found.setdefault(kind, []).append(one)
    return found


@dataclass(frozen=True)
class Summary:
    """One kind of evidence over many faces of one method; None where nothing can be said.

    Args:
        kind: Of evidence.
        method: Who forged the faces, or `real`; `all` for all together.
        faces: How many.
        percent: Mean percentage of pixels above zero, of heat maps (PRLE, Table I).
        pointing: Share of the faces with a known forged region at which it points there.
        iou: Mean overlap with the forged region.
        deletion: Mean over faces; see `Trust`, as for the others.
        deletion_random: In a random order.
        insertion: Mean over faces.
        insertion_random: In a random order.
    """

    kind: str
    method: str
    faces: int
    percent: float | None = None
    pointing: float | None = None
    iou: float | None = None
    deletion: float | None = None
    deletion_random: float | None = None
    insertion: float | None = None
    insertion_random: float | None = None


def summarize(many: Sequence[Seen]) -> list[Summary]:
    """Average the numbers of each kind of evidence over all faces, and over those of each method."""
    groups: dict[tuple[str, str], list[Seen]] = {}
    for seen in many:
        label, method = seen.view.record.label, seen.view.record.method
        own = "unlabelled" if label is None else "real" if label == Label.REAL else method or "fake"
        for kind in seen.found:
            for name in ("all", own):
                groups.setdefault((kind, name), []).append(seen)
    kinds, told = list(KINDS), []
    for (kind, method), faces in sorted(
        groups.items(), key=lambda item: (kinds.index(item[0][0]), item[0][1] != "all", item[0][1])
    ):
        trusts = [seen.trust[kind] for seen in faces if kind in seen.trust]
        shares = [
            100 * positive_share(heat) for seen in faces if (heat := seen.found[kind][0].heatmap) is not None
        ]
        told.append(
            Summary(
                kind,
                method,
                len(faces),
                _mean(shares),
                _mean([float(t.inside) for t in trusts if t.inside is not None]),
                *(
                    _mean([value for t in trusts if (value := getattr(t, name)) is not None])
                    for name in ("iou", "deletion", "deletion_random", "insertion", "insertion_random")
                ),
            )
        )
    return told


def _mean(values: Sequence[float]) -> float | None:
    return round(float(np.mean(values)), 5) if values else None


def positive_share(heatmap: NDArray[Any], *, threshold: float = 0.0, size: int = SIDE) -> float:
    """Return the share of pixels of an enlarged map that lie above a threshold (PRLE, Table I).

    The map is enlarged bilinearly first, as the paper's are; `unseen.regions.measure.region_shares` counts
    the maps of a store in the same way.

    Shape:
        heatmap: (h, w).

    >>> positive_share(np.float32([[1, 0], [0, 0]]), size=4)
    0.5625
    """
    side = (size, size)
    large = cv2.resize(np.asarray(heatmap, np.float32), side, interpolation=cv2.INTER_LINEAR)
    return float((large > threshold).mean())
