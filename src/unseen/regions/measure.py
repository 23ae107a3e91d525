"""Numbers about primary regions: how much of a face they cover, and what erasing them does to a detector."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from unseen.checkpoint import Run
from unseen.data.regions import RegionStore
from unseen.evaluate.metrics import accuracy, auc
from unseen.evaluate.run import score_records
from unseen.methods.prle import PrimaryRegionMask, region_share
from unseen.types import FaceRecord, InputError, Label

__all__ = ["AlphaScore", "Share", "region_shares", "scores_by_alpha"]


ALPHAS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


@dataclass(frozen=True)
class Share:
    """Table I: how much of a face one detector looks at.

    Args:
        detector: Its name in the store.
        method: Who forged these faces, or `real`.
        percent: Pixels of its view with a positive map, averaged over faces.
        heat: Mean of its map, averaged over faces.
        faces: How many.
    """

    detector: str
    method: str
    percent: float
    heat: float
    faces: int


def region_shares(
    store: RegionStore, records: Sequence[FaceRecord], *, threshold: float = 0.0, size: int = 256
) -> list[Share]:
    """Measure the native maps of a store by detector and forgery method, Table I.

    A map is enlarged to `size` pixels, bilinear, before its positive pixels are counted, as the paper's are.
    The public code counts from 0.01 after halving, which is `threshold=0.02` here.

    Args:
        store: The maps.
        records: Faces to measure; those without a map are left out.
        threshold: Pixels above it count.
        size: Side of the enlarged map.

    Raises:
        InputError: None of the faces has a map.
    """
    names = [str(member["name"]) for member in store.rule["zoo"]]
    sums: dict[tuple[int, str], list[float]] = {}
    for record in records:
        row = store.find(record, maps=True)
        if row is None:
            continue
        method = "real" if record.label == Label.REAL else record.method or "fake"
        for number, native in enumerate(row.maps):
            map = torch.from_numpy(native.astype(np.float32))[None, None]
            map = functional.interpolate(map, size=(size, size), mode="bilinear", align_corners=False)
            share = float(region_share(map, threshold=threshold))
            total = sums.setdefault((number, method), [0.0, 0.0, 0.0])
            total[0] += share
            total[1] += float(map.mean())
            total[2] += 1
    if not sums:
        raise InputError(
            f"{store.folder}: no maps of any of {len(records)} faces; were they made of another manifest?",
            reason="no_regions",
        )
    return [
        Share(names[number], method, 100 * share / count, heat / count, int(count))
        for (number, method), (share, heat, count) in sorted(sums.items())
    ]


@dataclass(frozen=True)
class AlphaScore:
    """Figure 8: a detector's scores once the share `alpha` of the primary region is gone.

    Args:
        alpha: 0 erases nothing, 1 the whole region.
        auc: Of single faces.
        accuracy: Of single faces, at score 0.
        real: Mean score (log-odds of fake) of the real faces.
        fake: Mean score of the fakes.
        faces: How many were scored.
    """

    alpha: float
    auc: float
    accuracy: float
    real: float
    fake: float
    faces: int


def scores_by_alpha(
    run: Run,
    records: Sequence[FaceRecord],
    regions: str,
    *,
    alphas: Sequence[float] = ALPHAS,
    batch_size: int = 32,
    workers: int = 0,
    device: str = "auto",
    report: Callable[[int, int], None] | None = None,
) -> list[AlphaScore]:
    """Score the same faces with more and more of their primary region erased, Figure 8.

    Args:
        run: The detector.
        records: Labelled faces, each with a map in the store.
        regions: The store.
        alphas: Shares, from 0 to 1.
        batch_size: Faces at a time.
        workers: Processes that read.
        device: Where the detector runs.
        report: Called with (faces scored, faces in all).

    Raises:
        InputError: A face has no map, or an alpha is no share.
    """
    wrong = [alpha for alpha in alphas if not 0 <= alpha <= 1]
    if wrong or not alphas:
        raise InputError(f"alphas {list(alphas)}; expected shares between 0 and 1")
    mask = PrimaryRegionMask(regions)
    mask.check(records)
    found = []
    for number, alpha in enumerate(alphas):

        def tell(done: int, _: float, before: int = number * len(records)) -> None:
            if report:
                report(before + done, len(alphas) * len(records))

        transforms = [*([mask.always(alpha)] if alpha else []), *run.transforms]
        table = score_records(
            run.detector,
            records,
            transforms,
            batch_size=batch_size,
            workers=workers,
            device=device,
            report=tell,
        )
        frame = table.frames()
        score, label = frame["score"].to_numpy(), frame["label"].to_numpy()
        found.append(
            AlphaScore(
                float(alpha),
                auc(score, label),
                accuracy(score, label),
                _mean(score[label == Label.REAL]),
                _mean(score[label == Label.FAKE]),
                len(score),
            )
        )
    return found


def _mean(values: NDArray[np.float64]) -> float:
    return float(values.mean()) if len(values) else float("nan")
