"""A file in, a verdict with evidence out.

Decoding, looking for faces and scoring overlap: the caller's thread decodes and scores, another looks for
faces, and while the first frames are looked at a third loads the network.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import logging
import shlex
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unseen.data.places import address, local_copy, name_of
from unseen.detect.engine import Engine, Kind, load_engine
from unseen.detect.findings import combine, counts_of, people_of, probability_of, warnings_of
from unseen.detect.pictures import choose, picture_all
from unseen.detect.seeing import Gate, Look, Sight, look, look_ahead
from unseen.detect.verdict import REASONS, Person, Verdict
from unseen.media.faces import FaceFinder, face_finder
from unseen.media.quality import quality_of
from unseen.media.reader import Limits, Media, open_media
from unseen.types import InputError

if TYPE_CHECKING:
    from unseen.checkpoint import Run

__all__ = ["Inspector"]

log = logging.getLogger(__name__)
POOL = 200  # faces whose crops are kept until the end, so that the most suspicious can be shown


class Inspector:
    """Examine files with one trained detector; load once, inspect many.

    One inspector serves one thread at a time.

    Args:
        run: `default`, a run folder, or a loaded run.
        frames: Frames of a video that are looked at, at equal intervals of time.
        finder: A face finder, or the name of one.
        device: `auto`, `cpu`, `cuda` ...
        engine: `torch`, `onnx`, or `auto`: onnx on a processor if the run folder holds a graph.
        batch_size: Faces scored together.
        limits: What a file may ask for; see `unseen.media.reader.Limits`.
        min_face: Smaller faces are not judged; longer side of the box in pixels.
        min_blur: Less sharp faces are not judged; see `unseen.media.crop.sharpness`.
        evidence: Faces shown with pictures; 0 for none.
        threads: Of decoder and network; None for what suits the machine. A finder as an object has its own.
        traces: Whether to look for what a file says about its making; see `unseen.media.traces`.

    Example:
        >>> verdict = Inspector("default").inspect("photo.jpg")  # doctest: +SKIP
        >>> verdict.verdict, verdict.probability  # doctest: +SKIP
        ('real', 0.07)
    """

    def __init__(
        self,
        run: str | Path | Run = "default",
        *,
        frames: int = 32,
        finder: str | FaceFinder = "default",
        device: str = "auto",
        engine: Kind = "auto",
        batch_size: int = 8,
        limits: Limits | None = None,
        min_face: float = 48.0,
        min_blur: float = 15.0,
        evidence: int = 4,
        threads: int | None = None,
        traces: bool = True,
    ) -> None:
        if frames < 1 or batch_size < 1:
            raise InputError(f"frames {frames} and batch_size {batch_size}; expected at least 1 each")
        self.run = run
        self.frames = frames
        self.finder = face_finder(finder, threads=threads) if isinstance(finder, str) else finder
        self.device = device
        self.engine = engine
        self.batch_size = batch_size
        self.limits = limits or Limits()
        self.gate = Gate(min_face, min_blur)
        self.evidence = evidence
        self.threads, self.traces = threads, traces
        self._loading: Future[Engine] | None = None

    def load(self) -> Engine:
        """Load the run now, if it is not loaded yet, and return it.

        Raises:
            InputError: The run folder is missing, incomplete or was tampered with.
        """
        return self._start_loading().result()

    def inspect(self, path: str | Path) -> Verdict:
        """Examine one file, or one at an address of object storage, which is fetched for as long as it takes.

        A file that cannot be examined gives the verdict `error` or `not_applicable` with a reason, never an
        exception.

        Raises:
            InputError: The *run* cannot be loaded.
        """
        begun = time.perf_counter()
        verdict = self._judge(Path(path))
        verdict.file = address(path) or str(path)
        verdict.model = verdict.model or self._name()
        verdict.command = self._command(verdict.file)
        verdict.settings = {
            "frames": self.frames,
            "finder": self.finder.name,
            "min_face": self.gate.min_face,
            "min_blur": self.gate.min_blur,
            "batch_size": self.batch_size,
            "device": self.device,
        }
        verdict.versions = versions()
        verdict.created = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        verdict.seconds = round(time.perf_counter() - begun, 3)
        return verdict

    def _judge(self, path: Path) -> Verdict:
        media: Media | None = None
        loading: Future[Engine] | None = None
        here = path
        with ExitStack() as held:
            try:
                if address(path) is not None and not path.exists():
                    here = held.enter_context(local_copy(path))
                media = open_media(here, self.limits, threads=self.threads)
                loading = self._start_loading()
                return self._examine(media, loading)
            except Exception as error:
                if loading is not None and loading.done() and error is loading.exception():
                    raise  # the run is broken, not the file
                verdict = refuse(here, error)
                verdict.message = verdict.message.replace(str(here), name_of(path))
                if media is not None:
                    verdict.sha256, verdict.media = media.sha256, facts_of(media, traces=self.traces)
                    verdict.warnings = list(media.warnings)
                return verdict

    def _examine(self, media: Media, loading: Future[Engine]) -> Verdict:
        looks: list[Look] = []
        waiting: list[Sight] = []
        pool: list[Sight] = []
        for seen in self._looks(media):
            looks.append(seen)
            waiting += seen.sights
            while len(waiting) >= self.batch_size:
                batch, waiting = waiting[: self.batch_size], waiting[self.batch_size :]
                pool = self._score(loading.result(), batch, pool)
        if not looks:
            raise InputError(f"{media.path}: no picture could be decoded", reason="no_frames")
        if waiting:
            pool = self._score(loading.result(), waiting, pool)
        engine = loading.result()
        calibration = engine.calibration
        from unseen.media.tracks import follow  # brings scipy, which the loading thread has imported by now

        tracks = [track.positions for track in follow([seen.faces for seen in looks])]
        people = people_of(looks, tracks, calibration)
        state, reason, worst = combine(people)
        verdict = Verdict(str(media.path), state, reason, message=in_words(state, reason, people, worst))
        verdict.people = people
        threshold = calibration.threshold()
        verdict.threshold = probability_of(threshold, calibration)
        verdict.inconclusive_from = probability_of(min(threshold, calibration.real_threshold), calibration)
        verdict.threshold_rule = calibration.threshold_rule
        if worst is not None:
            verdict.probability, verdict.score = worst.probability, worst.score
            verdict.p_value = worst.p_value
        verdict.counts = counts_of(looks)
        verdict.media, verdict.sha256 = facts_of(media, traces=self.traces), media.sha256
        verdict.model, verdict.model_card = engine.model, {**engine.card, "Engine": engine.kind}
        verdict.evidence = picture_all(choose(people, looks, self.evidence), engine)
        verdict.warnings = warnings_of(media, looks, people, calibration, self.gate)
        return verdict

    def _looks(self, media: Media) -> Iterator[Look]:
        frames = media.frames(1 if media.kind == "image" else self.frames)
        return look_ahead(frames, lambda frame: look(frame, self.finder, self.gate))

    def _score(self, engine: Engine, batch: Sequence[Sight], pool: list[Sight]) -> list[Sight]:
        """Score faces; return the most suspicious so far with their crops, and let the other crops go."""
        images, usable = [], []
        for sight in batch:
            try:
                images.append(engine.input_of(sight)[0])
                usable.append(sight)
            except InputError as error:
                drop(sight, error.reason)
        if usable:
            for sight, score in zip(usable, engine.score(np.stack(images)).tolist(), strict=True):
                if not np.isfinite(score):
                    drop(sight, "not_finite")
                    continue
                sight.sighting.score = score
                sight.sighting.probability = probability_of(score, engine.calibration)
                sight.sighting.quality = quality_of(sight.image(), sight.landmarks)
        pool = [*pool, *(sight for sight in usable if sight.sighting.score is not None)]
        pool.sort(key=lambda sight: sight.sighting.score or 0.0, reverse=True)
        for sight in pool[POOL:]:
            sight.crop = b""
        return pool[:POOL]

    def _start_loading(self) -> Future[Engine]:
        failed = self._loading is not None and self._loading.done() and self._loading.exception() is not None
        if self._loading is None or failed:
            thread = ThreadPoolExecutor(1, thread_name_prefix="unseen-load")
            self._loading = thread.submit(
                load_engine, self.run, kind=self.engine, device=self.device, threads=self.threads
            )
            thread.shutdown(wait=False)
        return self._loading

    def _name(self) -> str:
        """How the run is called before it is loaded."""
        if not isinstance(self.run, str | Path):
            return self.run.name
        return "default" if str(self.run) == "default" else Path(self.run).resolve().name

    def _command(self, path: str) -> str:
        """The command that gives this verdict again."""
        words = ["unseen", "detect", path, "--frames", str(self.frames)]
        if isinstance(self.run, str | Path) and str(self.run) != "default":
            words += ["--run", str(self.run)]
        for option, value in (("--device", self.device), ("--engine", self.engine)):
            if value != "auto":
                words += [option, value]
        return shlex.join(words)


def refuse(path: Path, error: Exception) -> Verdict:
    """The verdict on a file that could not be examined."""
    if isinstance(error, InputError):
        reason = error.reason if error.reason in REASONS else "unreadable"
        return Verdict(str(path), "error", reason, message=str(error))
    if isinstance(error, MemoryError):
        return Verdict(str(path), "error", "too_large", message=f"{path}: not enough memory for this file")
    log.exception("inspecting %s failed", path, exc_info=error)
    return Verdict(str(path), "error", "internal", message=f"{path}: {type(error).__name__}: {error}")


def drop(sight: Sight, reason: str) -> None:
    """Take a face out of the judgement after all."""
    sight.sighting.status, sight.sighting.reason = "dropped", reason
    sight.crop = b""


def in_words(state: str, reason: str, people: Sequence[Person], worst: Person | None) -> str:
    """The reason as a sentence about this file."""
    if worst is None or len(people) == 1:
        return REASONS.get(reason, reason)
    if state == "real":
        return REASONS[reason]
    same = [person for person in people if person.verdict == state]
    who = f"Person {worst.id}" if len(same) == 1 else f"{len(same)} people"
    if state == "fake":
        return f"{who} of {len(people)} {'scores' if len(same) == 1 else 'score'} at or above the threshold."
    return (
        f"{who} of {len(people)} {'lies' if len(same) == 1 else 'lie'} where real and forged faces overlap."
    )


def facts_of(media: Media, *, traces: bool) -> dict[str, Any]:
    """What is known about a file before anything is judged."""
    from unseen.media.traces import traces_of

    names = ("kind", "container", "codec", "width", "height", "duration", "fps", "frame_count")
    return {
        **{name: getattr(media, name) for name in names},
        "bytes": media.path.stat().st_size if media.path.exists() else None,
        "traces": traces_of(media.path, media.kind) if traces and media.path.exists() else None,
    }


def versions() -> dict[str, str]:
    """Of everything that can change a score."""
    from unseen import __version__

    found = {"unseen": __version__}
    for package in ("torch", "timm", "onnxruntime", "opencv-python-headless", "av", "numpy"):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
