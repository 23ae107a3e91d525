"""Rows of manifests to score tables, for every verb that scores: by a run, or by anybody's function."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unseen.cli.show import engine_of, watch
from unseen.types import FaceRecord, InputError

if TYPE_CHECKING:
    from torch import nn

    from unseen.data.residuals import ResidualStore
    from unseen.data.transforms import Transform
    from unseen.evaluate.run import Elsewhere, Scored
    from unseen.evaluate.scores import ScoreTable

__all__ = ["Scorer", "choose_frames", "read_rows", "score_batch", "scorer"]


def read_rows(known: argparse.Namespace) -> list[FaceRecord]:
    """Return the rows of --manifest that --split names.

    Raises:
        InputError: There are none, or a face is listed twice.
    """
    from unseen.data.manifest import Manifest, rows_of

    name = ", ".join(map(str, known.manifest))
    records = [record for path in known.manifest for record in Manifest.read(path).records()]
    chosen = rows_of(records, None if known.split == "all" else known.split, name)
    seen: set[tuple[object, ...]] = set()
    for row in chosen:  # as a score table would refuse them, but before the work
        face = (row.dataset, row.video, row.method, row.frame, row.path, row.identity)
        if face in seen:
            raise InputError(f"{name}: {row.path} is listed twice; keep one of them", reason="duplicate")
        seen.add(face)
    return chosen


def choose_frames(records: Sequence[FaceRecord], count: int | None) -> list[FaceRecord]:
    """Return the rows of `count` frames a video, evenly spread; all of them if None."""
    import polars as pl

    from unseen.evaluate.aggregate import chosen_frames

    frame = pl.DataFrame(
        {
            "dataset": [r.dataset for r in records],
            "video": [r.video or r.path for r in records],  # a row without a video is one of its own
            "method": [r.method for r in records],
            "frame": [r.frame for r in records],
        },
        schema={"dataset": pl.String, "video": pl.String, "method": pl.String, "frame": pl.Int64},
    )
    return [row for row, chosen in zip(records, chosen_frames(frame, count), strict=True) if chosen]


class Scorer:
    """A detector with its transforms and what a card says of it.

    Args:
        detector: As `score_records` takes it.
        transforms: The deterministic ones.
        card: What every table it makes carries.
        data: What it was trained and chosen on: of a run's facts.
        known: The command line.
        residuals: Of the pictures, computed before.
    """

    def __init__(
        self,
        detector: nn.Module,
        transforms: Sequence[Transform],
        card: Mapping[str, Any],
        data: Mapping[str, Any],
        known: argparse.Namespace,
        residuals: ResidualStore | None = None,
    ) -> None:
        self.detector, self.transforms, self.card = detector, list(transforms), dict(card)
        self.data, self.known, self.residuals = data, known, residuals

    def __call__(
        self,
        records: Sequence[FaceRecord],
        out: Path,
        *,
        before: Sequence[Transform] = (),
        card: Mapping[str, Any] | None = None,
        what: str = "scoring",
    ) -> ScoreTable:
        """Score rows into a file.

        Args:
            records: The rows.
            out: Where the table goes.
            before: Transforms that come before the detector's own.
            card: More facts.
            what: Named beside the bar.
        """
        from unseen.evaluate.run import score_records

        with watch(what, "images") as report:
            return score_records(
                self.detector,
                records,
                [*before, *self.transforms],
                out=out,
                batch_size=self.known.batch_size,
                workers=self.known.workers,
                device=self.known.device,
                card=self.card_of(records) | dict(card or {}),
                report=lambda done, _: report(done, len(records)),
                elsewhere=self._elsewhere(out, before),
                residuals=self.residuals,
            )

    def _elsewhere(self, out: Path, before: Sequence[Transform]) -> Elsewhere | None:
        """Return what scores batches on a cluster, and keeps them beside `out` until all are there."""
        if getattr(self.known, "engine", "local") == "local":
            return None
        from unseen.evaluate.run import fingerprint
        from unseen.prepare.journal import Journal

        names = ("model", "predict", "align", "probability", "device", "residuals")
        said = {name: getattr(self.known, name, None) for name in names}
        if self.residuals is not None:
            said["residuals"] = str(self.residuals.folder.absolute())  # workers start elsewhere
        words = json.dumps(said)
        engine = engine_of(self.known)
        path = out.absolute().with_name(out.name + ".journal")

        def score(lists: Sequence[list[FaceRecord]]) -> Iterator[tuple[int, list[Scored]]]:
            path.parent.mkdir(parents=True, exist_ok=True)
            what = [self.card["weights"], words, [f"{type(t).__name__} {vars(t)}" for t in before]]
            stamps = [json.dumps([*what, fingerprint(some), [r.path for r in some]]) for some in lists]
            with Journal(path) as journal:
                known = {int(row["number"]): row["scored"] for row in journal.rows()}
                todo = []
                for number, some in enumerate(lists):
                    if journal.has(str(number), stamps[number]):
                        yield number, known[number]
                    else:
                        todo.append((number, some))
                workers = self.known.workers or None
                done = engine(score_batch, todo, words, list(before), lost=_lost, workers=workers)
                for (number, _), scored in done:
                    journal.add(str(number), stamps[number], [{"number": number, "scored": scored}])
                    yield number, scored
            path.unlink()

        return score

    def card_of(self, records: Sequence[FaceRecord]) -> dict[str, Any]:
        """Return the card of a table of these rows, with a stamp if they chose or trained the detector."""
        from unseen.evaluate.card import STAMP
        from unseen.evaluate.selection import stamp

        told = stamp(self.data, records)
        return {
            **self.card,
            "manifest": ", ".join(p.name for p in self.known.manifest),
            "split": self.known.split,
            **({STAMP: told} if told else {}),
        }


def score_batch(batch: tuple[int, list[FaceRecord]], words: str, before: Sequence[Transform]) -> list[Scored]:
    """Score one numbered batch in a worker of a cluster, by the detector that the words of a command name."""
    from unseen.evaluate.run import score_some

    held = _held(words)
    return score_some(
        held.detector,
        batch[1],
        [*before, *held.transforms],
        device=held.known.device,
        precision="float32",
        residuals=held.residuals,
    )


@lru_cache(maxsize=1)
def _held(words: str) -> Scorer:
    """One detector a worker process."""
    return scorer(argparse.Namespace(**json.loads(words)))


def _lost(batch: tuple[int, list[FaceRecord]], reason: str, note: str) -> list[Scored]:
    return [(None, f"not scored ({reason}: {note})") for _ in batch[1]]


def scorer(known: argparse.Namespace) -> Scorer:
    """Return the detector that the command line names: RUN, or --predict with --align.

    Raises:
        InputError: Both or neither are given, or one cannot be loaded.
    """
    predict = getattr(known, "predict", None)
    if (known.model is None) == (predict is None):
        raise InputError("evaluate: give a RUN, or --predict module:function", reason="usage")
    if predict is not None:
        if getattr(known, "residuals", None) is not None:
            raise InputError("--residuals goes with a RUN, not with --predict", reason="usage")
        return _foreign(known, predict)
    from unseen.checkpoint import load_run

    run = load_run(known.model)
    settings = run.recipe.expanded()
    keep = settings["trainer"]["keep"]
    chosen = " by AUC on the validation split of the training data" if keep == "best" else ""
    card = {
        "run": run.name,
        "weights": run.digest,
        "crop": [_call(c) for c in settings["data"]["transforms"] if c["class_path"].endswith("AlignFace")],
        "checkpoint": f"the {keep} one{chosen}",
        "seed": run.recipe.seed,
    }
    residuals = None
    if getattr(known, "residuals", None) is not None:
        from unseen.data.residuals import ResidualStore

        residuals = ResidualStore(known.residuals)
        residuals.check_network(run.model, "--residuals")
    return Scorer(run.model, run.transforms, card, run.facts.get("data", {}), known, residuals)


def _foreign(known: argparse.Namespace, predict: str) -> Scorer:
    from unseen.data.transforms import AlignFace
    from unseen.evaluate.foreign import ForeignDetector, import_function

    function, code = import_function(predict)
    transforms: list[Transform] = []
    crop = "as it lies on disk"
    if known.align is not None:
        template, _, rest = known.align.partition(":")
        size, _, scale = rest.partition(":")
        try:
            wanted: dict[str, Any] = {"size": int(size), "template": template}
            if scale:
                wanted["scale"] = float(scale)
        except ValueError:
            raise InputError(
                f"--align {known.align}: expected TEMPLATE:SIZE[:SCALE], such as arcface:256:1.3",
                reason="usage",
            ) from None
        transforms = [AlignFace(**wanted)]
        crop = f"AlignFace({', '.join(f'{k}={v}' for k, v in wanted.items())})"
    card = {"run": predict, "weights": f"code {code}", "crop": [crop], "checkpoint": "unknown"}
    detector = ForeignDetector(function, name=f"--predict {predict}", probability=known.probability)
    return Scorer(detector, transforms, card, {}, known)


def _call(call: dict[str, Any]) -> str:
    arguments = ", ".join(f"{k}={v}" for k, v in call.get("init_args", {}).items() if v is not None)
    return f"{call['class_path'].rpartition('.')[2]}({arguments})"
