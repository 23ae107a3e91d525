"""Features of faces brought to two dimensions: the papers' t-SNE figures, for any runs, side by side."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from unseen.explain.faces import FaceFeatures
from unseen.types import FaceRecord, InputError, Label

__all__ = ["Color", "Embedding", "Kind", "embed", "group_of", "to_plane"]

Kind = Literal["tsne", "umap", "pca"]
Color = Literal["label", "method", "identity", "dataset"]
WIDE = 50  # features that t-SNE and UMAP see, by PCA, as their authors advise


@dataclass(frozen=True, eq=False)
class Embedding:
    """One run's features of the faces in the plane.

    Args:
        name: Of the run.
        kind: How they were brought there.
        points: Each axis from 0 to 1, the longer one in full.
        features: What was embedded.

    Shape:
        points: (N, 2) float64.
    """

    name: str
    kind: Kind
    points: NDArray[np.float64]
    features: FaceFeatures

    @property
    def records(self) -> tuple[FaceRecord, ...]:
        """The faces, in the order of the points."""
        return self.features.records

    def rows(self) -> list[dict[str, Any]]:
        """Plain values of each face, for JSON and for what a pointer shows."""
        return [
            {
                "x": round(float(x), 5),
                "y": round(float(y), 5),
                "score": round(float(score), 3),
                "path": record.path,
                "label": None if record.label is None else Label(record.label).name.lower(),
                "method": record.method,
                "dataset": record.dataset,
                "identity": record.identity,
                "video": record.video,
                "frame": record.frame,
            }
            for (x, y), score, record in zip(self.points, self.features.score, self.records, strict=True)
        ]


def embed(features: FaceFeatures, kind: Kind = "tsne", *, name: str = "run", seed: int = 0) -> Embedding:
    """Bring features to the plane; the same for the same seed.

    Args:
        features: Of four faces at least.
        kind: `tsne`, `umap` (needs `unseen[explain]`) or `pca`.
        name: Of the run.
        seed: Of what is random; `pca` has nothing random.

    Raises:
        InputError: There are too few faces, or umap is not installed.
    """
    return Embedding(name, kind, to_plane(features.vector, kind, seed=seed), features)


def to_plane(vector: NDArray[Any], kind: Kind = "tsne", *, seed: int = 0) -> NDArray[np.float64]:
    """Bring vectors to two dimensions, scaled into the unit square.

    Shape:
        vector: (N, D) -> (N, 2) float64.

    Source:
        van der Maaten and Hinton, Visualizing Data using t-SNE, 2008; McInnes et al., UMAP, 2018.
    """
    vector = np.asarray(vector, np.float64)
    if kind not in get_args(Kind):
        raise InputError(f"embedding {kind!r}; expected one of {', '.join(get_args(Kind))}")
    if len(vector) < 4:
        raise InputError(f"embedding of {len(vector)} faces; expected four at least", reason="empty")
    if kind == "umap" and importlib.util.find_spec("umap") is None:
        raise InputError(
            "--embedding umap needs umap-learn: pip install 'unseen[explain]'; or take tsne or pca",
            reason="extra",
        )
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    most = min(WIDE if kind != "pca" else 2, *vector.shape)
    # The exact solver: a random one would need a seed and differ between machines for no gain at this size.
    small = PCA(most, svd_solver="full").fit_transform(vector)
    if kind == "pca":
        plane = np.pad(small, ((0, 0), (0, 2 - small.shape[1])))
    elif kind == "tsne":
        perplexity = min(30.0, (len(vector) - 1) / 3)
        start: Any = "pca" if small.shape[1] > 1 else "random"
        plane = TSNE(2, perplexity=perplexity, init=start, random_state=seed).fit_transform(small)
    else:
        from umap import UMAP

        near = min(15, len(vector) - 1)
        plane = UMAP(n_components=2, n_neighbors=near, random_state=seed).fit_transform(small)
    plane = np.asarray(plane, np.float64)
    if not np.isfinite(plane).all():
        raise InputError("embedding: features are not finite; does the run give numbers at all?")
    low, high = plane.min(0), plane.max(0)
    middle, side = (low + high) / 2, float((high - low).max()) or 1.0
    return np.asarray((plane - middle) / side + 0.5)


def group_of(record: FaceRecord, color: Color) -> str:
    """Return the name of the group that a face is coloured by."""
    if color == "label":
        return "unlabelled" if record.label is None else Label(record.label).name.lower()
    if color == "method":
        return "real" if record.label == Label.REAL else record.method or "unknown"
    if color not in get_args(Color):
        raise InputError(f"--color {color}; expected one of {', '.join(get_args(Color))}")
    value = record.identity if color == "identity" else record.dataset
    return value or "unknown"


def groups_of(embeddings: Sequence[Embedding], color: Color, most: int = 24) -> list[str]:
    """Return the groups, reals first and then the largest; the smallest beyond `most` become `others`."""
    count: dict[str, int] = {}
    for record in (record for one in embeddings for record in one.records):
        name = group_of(record, color)
        count[name] = count.get(name, 0) + 1
    names = sorted(count, key=lambda name: (name != "real", -count[name], name))
    return names if len(names) <= most else [*names[: most - 1], "others"]
