"""`unseen evaluate RUN --efficiency`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from unseen.cli.codes import OK
from unseen.cli.show import table
from unseen.types import InputError

if TYPE_CHECKING:
    from unseen.checkpoint import Run
    from unseen.types import FaceBatch

__all__ = ["run_efficiency"]


def run_efficiency(known: argparse.Namespace) -> int:
    """Print what a detector costs, and what was counted."""
    from unseen.checkpoint import load_run
    from unseen.evaluate.efficiency import efficiency

    if known.model is None:
        raise InputError("evaluate --efficiency: give a RUN", reason="usage")
    run = load_run(known.model)
    numbers = efficiency(
        run.recipe.detector(pretrained=False),  # as it is trained: what a method freezes is frozen
        size=known.size,
        batch_size=known.batch_size,
        batches=_batches(run, known) if known.manifest else None,
        device=known.device,
    )
    if known.json:
        print(json.dumps(numbers.to_dict(), indent=2))
        return OK
    rows: list[tuple[object, ...]] = [
        ("multiply-adds a picture", f"{numbers.gmacs:.3f} G at {numbers.image_size} x {numbers.image_size}"),
        ("parameters", f"{numbers.parameters:.3f} M"),
        ("inference", f"{numbers.inference:.1f} pictures/s"),
        ("training step", f"{numbers.training:.1f} pictures/s"),
    ]
    if numbers.loading is not None:
        rows.append(("training step with reading", f"{numbers.loading:.1f} pictures/s"))
    table((run.name, f"batch {numbers.batch_size}, {numbers.device}, {numbers.threads} threads"), rows)
    print(f"Counted: {numbers.counted}.")
    return OK


def _batches(run: Run, known: argparse.Namespace) -> Iterable[FaceBatch]:
    """Return the batches that training by the run's recipe would see, from another manifest."""
    from unseen.data.dataset import FaceDataset
    from unseen.data.manifest import Manifest, rows_of
    from unseen.train.loaders import BatchStream, FaceBatches, make_loader

    data = run.recipe.data()
    records = [r for path in known.manifest for r in Manifest.read(path).records()]
    records = rows_of(records, data.train_split, ", ".join(map(str, known.manifest)))
    synthesise = getattr(data.sampler, "synthesise", None)
    sampler: Any = data.sampler
    sampler.batch_size = known.batch_size
    faces = FaceDataset(records, data.transforms, seed=run.recipe.seed, training=True, synthesise=synthesise)
    stream = BatchStream(sampler, records, seed=run.recipe.seed)
    return make_loader(FaceBatches(faces), stream, workers=known.workers)
