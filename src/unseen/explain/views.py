"""Faces as a detector sees them, each with the way back to the picture it came from."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from unseen.data.masks import read_mask
from unseen.explain.draw import fit_affine
from unseen.types import FaceRecord, FaceSample, InputError

if TYPE_CHECKING:
    from unseen.data.manifest import Manifest
    from unseen.data.transforms import Transform
    from unseen.media.faces import FaceFinder
    from unseen.media.reader import Limits

__all__ = ["View", "forged_regions", "view_file", "view_records"]

Picture = NDArray[np.uint8]
log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class View:
    """One face: the picture it came from, and what the detector is shown of it.

    Args:
        name: To tell it from others: file, frame and number of the face, or the crop's path.
        frame: The original picture: a frame of the file, or the crop of a manifest.
        image: The detector's input.
        matrix: Maps a point (x, y) of `frame` to `image`.
        record: Its row; of a file what is known of it.
        box: Of the face in the frame; None if the row does not say.
        mask: What is forged, in the input's pixels, in [0, 1]; None if nobody says.

    Shape:
        frame: (H, W, 3) uint8 RGB. image: (h, w, 3) uint8 RGB. matrix: (2, 3). box: (4,). mask: (h, w).
    """

    name: str
    frame: Picture
    image: Picture
    matrix: NDArray[np.float64]
    record: FaceRecord
    box: NDArray[np.float32] | None = None
    mask: NDArray[np.float32] | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the input."""
        return self.image.shape[0], self.image.shape[1]


def view_file(
    path: str | Path,
    transforms: Sequence[Transform] = (),
    *,
    frames: int = 4,
    finder: str | FaceFinder = "default",
    limits: Limits | None = None,
) -> list[View]:
    """Find the faces of a picture or a video and bring them to a detector, as `unseen detect` does.

    A face that the transforms cannot use is left out, and logged.

    Args:
        path: The file.
        transforms: The recipe's.
        frames: Of a video, at equal intervals.
        finder: A face finder, or the name of one.
        limits: What a file may ask for.

    Raises:
        InputError: The file cannot be read, or shows no face that can be used.
    """
    from unseen.data.transforms import for_evaluation
    from unseen.media.crop import crop_faces, encode_crop
    from unseen.media.faces import face_finder
    from unseen.media.reader import open_media

    media = open_media(path, limits)
    find = face_finder(finder) if isinstance(finder, str) else finder
    steps = for_evaluation(transforms)
    views: list[View] = []
    for frame in media.frames(1 if media.kind == "image" else frames):
        for number, crop in enumerate(crop_faces(frame.image, find(frame.image)), 1):
            name = f"{Path(path).name}, face {number}"
            if media.kind != "image":
                name = f"{Path(path).name} at {frame.time:.2f} s, face {number}"
            record = FaceRecord(
                str(path), frame=frame.index, time=frame.time, landmarks=crop.landmarks, box=crop.face.box
            )
            # Encoded and read again, as `prepare` and `detect` do: the same file has one score everywhere.
            stored = cv2.imdecode(np.frombuffer(encode_crop(crop.image), np.uint8), cv2.IMREAD_COLOR_RGB)
            sample = FaceSample(np.asarray(stored, np.uint8), None, record, landmarks=crop.landmarks)
            try:
                moved = _through(sample, steps)
            except InputError as error:
                log.warning("%s left out: %s", name, error)
                continue
            assert moved.landmarks is not None  # they move with the picture
            matrix = fit_affine(crop.to_frame(crop.landmarks), moved.landmarks)
            views.append(View(name, frame.image, moved.image, matrix, record, crop.face.box))
    if not views:
        raise InputError(f"{path}: no face that can be used", reason="no_face")
    return views


def view_records(
    records: Sequence[FaceRecord],
    transforms: Sequence[Transform] = (),
    *,
    regions: Mapping[str, str | tuple[float, float, float, float]] | None = None,
) -> list[View]:
    """Bring the crops of a manifest to a detector.

    A crop that cannot be used is left out, and logged.

    Args:
        records: The rows.
        transforms: The recipe's.
        regions: From `forged_regions`: what is forged in the crop of a path.

    Raises:
        InputError: None of the crops can be used, or a mask cannot be read.
    """
    from unseen.data.dataset import FaceDataset, read_crop

    faces = FaceDataset(records, transforms, training=False)
    views: list[View] = []
    first: InputError | None = None
    for index, record in enumerate(records):
        try:
            crop, moved = read_crop(record), faces.load(index)
            matrix = _way(crop, moved)
        except InputError as error:
            log.warning("left out: %s", error)
            first = first or error
            continue
        mask = None
        told = (regions or {}).get(record.path)
        if told is not None:
            height, width = moved.image.shape[:2]
            whole = _mask(told, (crop.image.shape[0], crop.image.shape[1]))
            mask = np.asarray(cv2.warpAffine(whole, matrix, (width, height)), np.float32)
        image = np.ascontiguousarray(moved.image)
        views.append(View(record.path, crop.image, image, matrix, record, None, mask))
    if not views:
        raise InputError(f"none of {len(records)} faces can be used, such as {first}", reason="empty")
    return views


def forged_regions(manifest: Manifest) -> dict[str, str | tuple[float, float, float, float]]:
    """Return what is forged in each crop of a manifest that says so, by the crop's path.

    Columns `mask` (a picture of the crop's size, white where forged), as `unseen forge` writes it, or else
    `region_x0` to `region_y1` in the crop's pixels.
    """
    columns = manifest.frame.columns
    found: dict[str, str | tuple[float, float, float, float]] = {}
    corners = ["region_x0", "region_y0", "region_x1", "region_y1"]
    for row in manifest.frame.iter_rows(named=True):
        if not row["path"]:
            continue
        if "mask" in columns and row["mask"]:
            found[manifest.absolute(row["path"])] = manifest.absolute(row["mask"])
        elif set(corners) <= set(columns) and all(row[name] is not None for name in corners):
            x0, y0, x1, y1 = (float(row[name]) for name in corners)
            found[manifest.absolute(row["path"])] = (x0, y0, x1, y1)
    return found


def _through(sample: FaceSample, transforms: Sequence[Transform]) -> FaceSample:
    for transform in transforms:
        sample = transform(sample, np.random.default_rng(0))
    return sample


def _way(before: FaceSample, after: FaceSample) -> NDArray[np.float64]:
    """Return how a crop's pixels came to the input."""
    if before.landmarks is not None and after.landmarks is not None:
        return fit_affine(before.landmarks, after.landmarks)
    if before.image.shape == after.image.shape:
        return np.eye(2, 3)
    raise InputError(
        f"{before.record.path}: no landmarks, so nobody knows where the detector's view lies in the crop; "
        "run `unseen prepare`, which finds them",
        reason="no_landmarks",
    )


def _mask(told: str | tuple[float, float, float, float], size: tuple[int, int]) -> NDArray[np.float32]:
    """Return what is forged in a crop. Shape: (H, W), in [0, 1]."""
    mask: NDArray[Any]
    if isinstance(told, tuple):
        x0, y0, x1, y1 = (round(value) for value in told)
        mask = np.zeros(size, np.float32)
        mask[max(0, y0) : y1, max(0, x0) : x1] = 1
        return mask
    read = read_mask(told)
    if read.shape != size:
        raise InputError(
            f"{told}: {read.shape[1]} x {read.shape[0]} pixels; expected the crop's {size[1]} x {size[0]}",
            reason="size",
        )
    return np.asarray(np.asarray(read, np.float32) / np.float32(255), np.float32)
