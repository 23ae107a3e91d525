"""One job of a bench to files and a row of its manifest: what a worker process does."""

from __future__ import annotations

import json
import zlib
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from unseen.data.masks import mask_box
from unseen.forge.check import Gate, check_forgery
from unseen.forge.families import family
from unseen.forge.family import Family, Forged, Learner, Portrait, Unforgeable
from unseen.media.crop import encode_crop
from unseen.media.faces import FaceFinder, face_finder
from unseen.prepare.journal import write_whole
from unseen.types import InputError

__all__ = [
    "ForgeRule",
    "Job",
    "Real",
    "dropped",
    "network_path",
    "portrait",
    "read_picture",
    "ready",
    "state",
    "work",
]

Row = dict[str, Any]

# Every crop was a JPEG already. Cut here, its old 8x8 grid does not lie on its new one, in real pictures and
# in what a forgery leaves of them alike; else "saved twice on one grid" would mean real.
TRIM = 3

LEARNED = frozenset({"autoencode", "texture", "restore"})  # families with a network


@dataclass(frozen=True)
class ForgeRule:
    """Everything that decides the bytes of a bench, but for the faces.

    Args:
        seed: Of everything random.
        strengths: Keywords of the families' classes, by family.
        gate: What a forgery must pass.
        finder: Finds the face again, see `unseen.media.faces.face_finder`.
    """

    seed: int = 0
    strengths: dict[str, dict[str, Any]] = field(default_factory=dict)
    gate: Gate = field(default_factory=Gate)
    finder: str = "default"

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for the folder's `forge.json`."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class Real:
    """One real crop, as its manifest has it.

    Shape:
        landmarks: (81, 2) float32, the crop's pixels.
    """

    path: str
    landmarks: NDArray[np.float32]
    identity: str
    facts: Row  # dataset, video, frame, time, split
    rest: NDArray[np.float32] | None = None


@dataclass(frozen=True, eq=False)
class Job:
    """One picture to make. `name` is `<method>/<identity>/<n>`, its place in the bench."""

    name: str
    method: str  # a family, or "real"
    target: Real
    donor: Real | None
    source: str | None  # the bench's own copy of the target
    seed: int
    group: str | None = None  # whose network it needs, see `unseen.forge.groups`


def work(job: Job, rule: ForgeRule, out: Path) -> list[Row]:
    """Make one picture and its mask below `out`; return its row.

    A dropped row has no picture and a `reason`: an `Unforgeable`'s, the gate's, or `unreadable`.
    """
    try:
        target = portrait(job.target)
        if job.method == "real":
            return [_keep_real(job, target, out)]
        donor = None if job.donor is None else portrait(job.donor)
        forger = ready(job, rule.strengths.get(job.method, {}), out)
        forged = forger(target, donor, np.random.default_rng(job.seed))
    except Unforgeable as error:
        return [dropped(job, error.reason, str(error))]
    except InputError as error:
        return [dropped(job, error.reason, str(error))]
    reason = check_forgery(forged, target.image, _finder(rule.finder), rule.gate)
    if reason:
        return [dropped(job, reason) | {"parameters": json.dumps(forged.parameters, sort_keys=True)}]
    return [_keep_forged(job, forged, out)]


def _keep_real(job: Job, target: Portrait, out: Path) -> Row:
    path = f"crops/{job.name}.jpg"
    write_whole(out / path, encode_crop(_trim(target.image)))
    return _row(job, target.landmarks) | {"path": path, "status": "kept", "label": 0}


def _keep_forged(job: Job, forged: Forged, out: Path) -> Row:
    path, mask_path = f"crops/{job.name}.jpg", f"masks/{job.name}.png"
    mask = _trim(forged.mask)
    write_whole(out / mask_path, _encode_mask(mask))
    write_whole(out / path, encode_crop(_trim(forged.image)))
    box = mask_box(mask)
    region = box[0].tolist() if len(box) else [None] * 4
    row = _row(job, forged.landmarks) | {"path": path, "status": "kept", "mask": mask_path}
    row |= {f"region_{edge}": v for edge, v in zip(("x0", "y0", "x1", "y1"), region, strict=True)}
    return row | {"parameters": json.dumps(forged.parameters, sort_keys=True)}


def _encode_mask(mask: NDArray[np.float32]) -> bytes:
    done, content = cv2.imencode(".png", np.round(mask * 255).astype(np.uint8))
    if not done:
        raise ValueError(f"mask of shape {mask.shape} could not be encoded")
    return bytes(content)


def _trim(image: NDArray[Any]) -> NDArray[Any]:
    return np.ascontiguousarray(image[TRIM:, TRIM:])


def _row(job: Job, landmarks: NDArray[np.float32] | None) -> Row:
    forged = job.method != "real"
    moved = None if landmarks is None else (landmarks - TRIM).astype(np.float32).ravel().tolist()
    row = {
        "path": "",
        "label": int(forged),
        "method": job.method,
        "identity": job.target.identity,
        "donor": job.donor.identity if job.donor else None,
        "donor_path": job.donor.path if job.donor else None,
        "source": job.source,
        "landmarks": moved,
        "seed": job.seed if forged else None,
        "original": job.target.path,
    }
    row |= job.target.facts
    if forged:
        row["video"] = job.name  # unique inside the data set: a forgery is no frame of the real video
    return row


def dropped(job: Job, reason: str, note: str | None = None) -> Row:
    """A row of a picture that was not made, and why."""
    return _row(job, None) | {"status": "dropped", "reason": reason, "note": note}


def read_picture(path: str) -> NDArray[np.uint8]:
    """Read a crop as RGB.

    Raises:
        InputError: It is missing or damaged (`unreadable`).

    Shape:
        Returns (H, W, 3) uint8.
    """
    try:
        content = np.fromfile(path, np.uint8)
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror}); run `unseen prepare`", reason="unreadable"
        ) from error
    image = cv2.imdecode(content, cv2.IMREAD_COLOR) if content.size else None
    if image is None:
        raise InputError(f"{path}: not a readable picture; run `unseen prepare` again", reason="unreadable")
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)


def portrait(real: Real) -> Portrait:
    """Read a real crop's picture."""
    return Portrait(read_picture(real.path), real.landmarks, real.identity, real.path, real.rest)


def state(real: Real) -> list[Any]:
    """Everything that a result depends on in a real crop, as plain values; its file's time, not its bytes."""
    path = Path(real.path)
    found = path.stat() if path.exists() else None
    return [
        real.path,
        real.identity,
        sorted(real.facts.items()),
        zlib.crc32(real.landmarks.tobytes()),
        None if real.rest is None else zlib.crc32(real.rest.tobytes()),
        None if found is None else [found.st_size, found.st_mtime_ns],
    ]


def network_path(group: str, out: Path) -> Path:
    """Return where a bench keeps what was learned of a group; nothing that is finished needs it."""
    return out / ".networks" / f"{group}.safetensors"


def ready(job: Job, strengths: dict[str, Any], out: Path) -> Family:
    """Return the job's family, fresh: what it learned for earlier jobs must not show in this one's bytes."""
    cv2.setNumThreads(1)  # the processes already fill the cores
    if job.method in LEARNED:
        import torch

        torch.set_num_threads(1)  # also because sums depend on how they are shared out
    maker = family(job.method, strengths)
    if job.group is not None and isinstance(maker, Learner):
        maker.load(network_path(job.group, out))
    return maker


@lru_cache(maxsize=1)
def _finder(name: str) -> FaceFinder:
    return face_finder(name, threads=1)
