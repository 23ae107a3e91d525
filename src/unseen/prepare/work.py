"""One file to crops on disk and rows for the manifest: what a worker process does."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np

from unseen.data.places import local_copy, name_of
from unseen.media.crop import FaceCrop, crop_faces, encode_crop
from unseen.media.faces import Face, FaceFinder, face_finder
from unseen.media.reader import Limits, Media, open_media
from unseen.media.tracks import follow
from unseen.prepare.inputs import InputFile
from unseen.prepare.journal import Row, write_whole
from unseen.types import InputError

__all__ = ["CropRule", "dropped", "prepare_file"]


@dataclass(frozen=True)
class CropRule:
    """Everything that decides the bytes of the crops; a folder of crops has exactly one.

    Args:
        frames: Frames a video, at equal intervals of time.
        people: `largest` keeps the person who fills most of the video, `all` keeps everybody.
        margin: Around the face box, in its longer sides, on each side.
        max_side: Longest side of a crop, pixels; larger ones are scaled down.
        min_size: Longer side of the smallest face box kept, pixels of the frame.
        format: `jpg` (quality 95, 4:4:4) or `png` (lossless, four times the bytes and the decoding time).
        finder: `default`, `dlib` or `mtcnn`.
    """

    frames: int = 32
    people: Literal["largest", "all"] = "largest"
    margin: float = 0.6
    max_side: int = 640
    min_size: int = 40
    format: Literal["jpg", "png"] = "jpg"
    finder: str = "default"
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        if not 0 <= self.margin < float("inf"):
            raise InputError(f"prepare: margin {self.margin}; expected face sizes around the face, 0 or more")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for the folder's `prepare.json`."""
        return asdict(self)


@dataclass(frozen=True)
class _Seen:
    """One face of one frame, its crop already encoded so that a crowded video stays small in memory."""

    frame: int
    time: float
    face: Face
    crop: FaceCrop | None
    picture: bytes


def prepare_file(item: InputFile, rule: CropRule, out: Path) -> list[Row]:
    """Find the faces of one file, write their crops below `out/crops`, and return one row a face or frame.

    A row has `status` `kept` or `dropped` and, when dropped, a `reason`: `no_face`, `face_too_small`,
    `other_person`, or why the file could not be read. Nothing that the file holds raises.
    """
    try:
        with local_copy(item.path) as path:
            try:
                # One thread a decoder, as for the finder: the processes already fill the cores.
                return _prepare(item, open_media(path, rule.limits, threads=1), rule, out)
            except InputError as error:
                # A fetched copy has a name that says nothing: the file is called as it was asked for.
                note = str(error).replace(str(path), name_of(item.path))
                return [dropped(item, error.reason, note=note)]
    except InputError as error:
        return [dropped(item, error.reason, note=str(error))]


def _prepare(item: InputFile, media: Media, rule: CropRule, out: Path) -> list[Row]:
    frames: list[tuple[int, float]] = []
    seen: list[list[_Seen]] = []
    finder = _finder(rule.finder)
    for frame in media.frames(rule.frames):
        faces = finder(frame.image)
        # A picture of an unpacked video is the frame that its list says.
        index = frame.index if item.frame is None else item.frame
        frames.append((index, frame.time))
        seen.append([_look(frame.image, index, frame.time, face, rule) for face in faces])
    facts = {"sha256": media.sha256, "frame_width": media.width, "frame_height": media.height}
    note = "; ".join(media.warnings) or None
    rows = _rows(item, rule, out, frames, seen)
    return [row | facts | {"note": note} for row in rows]


def _look(image: np.ndarray[Any, Any], index: int, time: float, face: Face, rule: CropRule) -> _Seen:
    if face.size < rule.min_size:
        return _Seen(index, time, face, None, b"")
    (crop,) = crop_faces(image, [face], margin=rule.margin, max_side=rule.max_side)
    return _Seen(index, time, face, crop, encode_crop(crop.image, rule.format))


def _rows(
    item: InputFile,
    rule: CropRule,
    out: Path,
    frames: Sequence[tuple[int, float]],
    seen: Sequence[Sequence[_Seen]],
) -> list[Row]:
    person: dict[tuple[int, int], int] = {}
    for number, track in enumerate(follow([[one.face for one in faces] for faces in seen])):
        person.update(dict.fromkeys(track.positions, number))
    rows: list[Row] = []
    for at, (index, time) in enumerate(frames):
        if not seen[at]:
            rows.append(dropped(item, "no_face", frame=index, time=time))
        for position, one in enumerate(seen[at]):
            who = person[at, position]
            known = _measures(one) | {"frame": index, "time": time, "person": who}
            if one.crop is None:
                rows.append(dropped(item, "face_too_small", **known))
            elif who > 0 and rule.people == "largest":
                rows.append(dropped(item, "other_person", **known))
            else:
                path = Path("crops") / item.dataset / item.video / f"{index:06d}_{who}.{rule.format}"
                write_whole(out / path, one.picture)
                rows.append(_row(item, **known) | {"path": path.as_posix(), "status": "kept"})
    return rows


def _measures(one: _Seen) -> Row:
    known: Row = {
        "box": _pack(one.face.box),
        "face_score": round(float(one.face.score), 4),
        "face_size": round(one.face.size, 1),
    }
    if one.crop is not None:
        known |= {
            "landmarks": _pack(one.crop.landmarks),
            "blur": round(float(one.crop.blur), 2),
            "origin_x": float(one.crop.origin[0]),
            "origin_y": float(one.crop.origin[1]),
            "scale": float(one.crop.scale),
        }
    return known


def _row(item: InputFile, **known: Any) -> Row:
    return {
        "file": name_of(item.path),
        "label": None if item.label is None else int(item.label),
        "dataset": item.dataset,
        "video": item.video,
        "method": item.method,
        "split": item.split,
        "identity": item.identity,
        "source": name_of(item.source) if item.source else None,
        "donor": item.donor,
        "frame": item.frame or 0,
        "time": 0.0,
    } | known


def dropped(item: InputFile, reason: str, **known: Any) -> Row:
    """A row of the manifest that has no crop, and why."""
    return _row(item, **known) | {"status": "dropped", "reason": reason}


def _pack(array: np.ndarray[Any, Any]) -> str:
    """Exact float32 as text: decimal digits would cost twice the bytes and still have to be rounded."""
    return base64.b64encode(np.ascontiguousarray(array, "<f4").tobytes()).decode()


@lru_cache(maxsize=1)
def _finder(name: str) -> FaceFinder:
    """One finder a worker process, with one thread, OpenCV too: the processes already fill the cores."""
    cv2.setNumThreads(1)
    return face_finder(name, threads=1)
