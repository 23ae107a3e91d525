"""What is seen in one frame: its faces, which of them can be judged, and why the others cannot.

Full frames are let go at once. What stays is compressed: a crop a face, encoded exactly as `unseen prepare`
stores crops, so that a file and a data set made from it get the same scores; and a small copy of the frame.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from unseen.detect.verdict import Sighting
from unseen.explain.draw import encode_jpeg, shrink, thumbnail
from unseen.media.crop import crop_faces, encode_crop

if TYPE_CHECKING:
    from unseen.media.faces import Face, FaceFinder
    from unseen.media.reader import Frame

__all__ = ["Gate", "Look", "Sight", "look", "look_ahead"]

PREVIEW = 960  # pixels, longer side of the copy of a frame


@dataclass(frozen=True)
class Gate:
    """Which faces can be judged.

    Attributes:
        min_face: Least longer side of the face's box, in pixels of the frame.
        min_blur: Least `unseen.media.crop.sharpness`.
    """

    min_face: float = 48.0
    min_blur: float = 15.0

    def reason(self, size: float, blur: float) -> str | None:
        """Return why a face cannot be judged, or None if it can.

        >>> Gate().reason(30, 200), Gate().reason(90, 3), Gate().reason(90, 200)
        ('face_too_small', 'face_too_blurred', None)
        """
        if size < self.min_face:
            return "face_too_small"
        return "face_too_blurred" if blur < self.min_blur else None


@dataclass(eq=False)
class Sight:
    """A face that can be judged.

    Shape:
        landmarks: (81, 2) float32 in the crop's pixels.
        to_crop: (2, 3), maps a point of the frame to the crop.
    """

    sighting: Sighting
    crop: bytes  # JPEG as `unseen prepare` writes it
    landmarks: NDArray[np.float32]
    to_crop: NDArray[np.float64]

    def image(self) -> NDArray[np.uint8]:
        """The crop.

        Shape:
            (h, w, 3) uint8 RGB.
        """
        picture = cv2.imdecode(np.frombuffer(self.crop, np.uint8), cv2.IMREAD_COLOR)
        assert picture is not None  # we wrote it
        return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), np.uint8)


@dataclass(eq=False)
class Look:
    """One frame after it was looked at. `sightings` and `faces` go side by side."""

    frame: int
    time: float
    faces: list[Face]
    sightings: list[Sighting]
    sights: list[Sight] = field(default_factory=list)  # the sightings that can be judged
    preview: bytes = b""  # JPEG, the frame at no more than PREVIEW pixels
    preview_scale: float = 1.0  # preview pixels a frame pixel


def look(frame: Frame, finder: FaceFinder, gate: Gate) -> Look:
    """Find and sort the faces of a frame."""
    image = frame.image
    faces = finder(image)
    seen = Look(frame.index, frame.time, faces, [])
    for crop in crop_faces(image, faces):
        face = crop.face
        size = float(max(face.box[2] - face.box[0], face.box[3] - face.box[1]))
        reason = gate.reason(size, crop.blur)
        x0, y0, x1, y1 = (float(value) for value in face.box)
        sighting = Sighting(
            frame=frame.index,
            time=float(frame.time),
            box=(x0, y0, x1, y1),
            status="scored" if reason is None else "dropped",
            reason=reason,
            size=size,
            blur=float(crop.blur),
            face_score=float(face.score),
            thumbnail=encode_jpeg(thumbnail(image, face.box), quality=80),
        )
        seen.sightings.append(sighting)
        if reason is None:
            scale, origin = crop.scale, np.array(crop.origin, np.float64)
            shift = (0.5 - origin) * scale - 0.5  # whole numbers are centres of pixels, before and after
            to_crop = np.column_stack([np.eye(2) * scale, shift])
            seen.sights.append(Sight(sighting, encode_crop(crop.image), crop.landmarks, to_crop))
    if seen.sights:
        small = shrink(image, PREVIEW)
        seen.preview = encode_jpeg(small)
        seen.preview_scale = small.shape[1] / image.shape[1]
    return seen


def look_ahead(
    frames: Iterable[Frame], see: Callable[[Frame], Look], *, threads: int = 1, ahead: int = 3
) -> Iterator[Look]:
    """Look at frames in threads while the caller decodes and judges; results come in the frames' order.

    At most `ahead` + 1 full frames are alive at a time.
    """
    waiting: deque[Future[Look]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="unseen-look") as pool:
        for frame in frames:
            waiting.append(pool.submit(see, frame))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
