"""Faces in a picture: where they are, how sure we are, and 81 landmarks each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from unseen.media.mesh import FaceMesh, landmarks_from_mesh
from unseen.media.retinaface import RetinaFace
from unseen.types import InputError

__all__ = ["Face", "FaceFinder", "RetinaFaceMesh", "face_finder"]


@dataclass(frozen=True, eq=False)
class Face:
    """One face in one picture, in the picture's pixels.

    Shape:
        box: (4,) float32, x0 y0 x1 y1; may reach beyond the picture.
        points: (5, 2) float32: left eye, right eye, nose, left and right corner of the mouth, where left is
            the picture's left, not the person's.
        landmarks: (81, 2) float32: iBUG's 68, then 13 on the forehead from left to right; NaN where the
            finder has no such point.
    """

    box: NDArray[np.float32]
    score: float  # probability of being a face, 0 to 1
    points: NDArray[np.float32]
    landmarks: NDArray[np.float32]

    @property
    def size(self) -> float:
        """The box's longer side, in pixels."""
        return float(max(self.box[2] - self.box[0], self.box[3] - self.box[1]))


class FaceFinder(Protocol):
    """Anything that finds faces in a picture."""

    name: str

    def __call__(self, image: NDArray[np.uint8]) -> list[Face]:
        """Return the faces of one picture, largest first.

        Shape:
            image: (H, W, 3) uint8 RGB.
        """
        ...


class RetinaFaceMesh:
    """The default finder: RetinaFace for boxes, the MediaPipe face mesh for landmarks.

    A box must convince both networks: RetinaFace proposes, the mesh's own face flag confirms.
    When a picture seems empty it is looked at again with a border, so that a face that fills the frame gets
    the size the detector knows, and then enlarged, for tiny ones.

    Args:
        max_side: The picture is shrunk to this longer side before detection, in pixels; never enlarged
            in the first look.
        min_score: Least RetinaFace probability.
        min_presence: Least probability of the mesh's face flag.
        min_size: Least longer side of a box, in pixels of the picture.
        threads: Threads of the detector; use 1 in worker processes.
        retry: Whether to look again when nothing was found.
    """

    name = "default"

    def __init__(
        self,
        *,
        max_side: int = 640,
        min_score: float = 0.6,
        min_presence: float = 0.2,
        min_size: float = 16.0,
        threads: int | None = None,
        retry: bool = True,
    ) -> None:
        self.max_side = max_side
        self.min_score = min_score
        self.min_presence = min_presence
        self.min_size = min_size
        self.retry = retry
        self._detector = RetinaFace(threads=threads)
        self._mesh = FaceMesh()

    def __call__(self, image: NDArray[np.uint8]) -> list[Face]:
        """Return the faces of one picture, largest first.

        Shape:
            image: (H, W, 3) uint8 RGB.
        """
        check_picture(image)
        longest = max(image.shape[:2])
        faces = self._find(image, min(1.0, self.max_side / longest), border=0.0)
        if not faces and self.retry:
            faces = self._find(image, self.max_side / (2 * longest), border=0.5)
        if not faces and self.retry:
            faces = self._find(image, 2 * min(1.0, self.max_side / longest), border=0.0)
        return sorted(faces, key=lambda face: -face.size)

    def _find(self, image: NDArray[np.uint8], scale: float, border: float) -> list[Face]:
        """Look at one scale; `border` is a share of each side, added all round in grey."""
        height, width = image.shape[:2]
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        small = image if size == (width, height) else cv2.resize(image, size, interpolation=method)
        x, y = round(border * size[0]), round(border * size[1])
        if border:
            small = cv2.copyMakeBorder(small, y, y, x, x, cv2.BORDER_CONSTANT, value=(127, 117, 104))
        back = np.array([width / size[0], height / size[1]], np.float32)
        shift = np.array([x, y], np.float32)
        faces: list[Face] = []
        for box, score, points in zip(
            *self._detector(small.astype(np.uint8, copy=False), self.min_score), strict=True
        ):
            box = ((box.reshape(2, 2) - shift + 0.5) * back - 0.5).reshape(4)
            points = (points - shift + 0.5) * back - 0.5
            if max(box[2] - box[0], box[3] - box[1]) < self.min_size:
                continue
            mesh, presence = self._mesh(image, box, points)
            landmarks = landmarks_from_mesh(mesh)
            # A mesh may slip from a half-hidden face to its neighbour; the better box came first and owns it.
            taken = any(np.abs(landmarks - face.landmarks).mean() < 0.1 * face.size for face in faces)
            if presence >= self.min_presence and not taken:
                faces.append(Face(box, float(score), points, landmarks))
        return faces


def check_picture(image: NDArray[np.uint8]) -> None:
    """Raise `InputError` unless `image` is (H, W, 3) uint8 with at least one pixel."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise InputError(
            f"face finder: got {image.dtype} of shape {image.shape}; expected (H, W, 3) uint8 RGB. "
            "Convert the picture first, for example with unseen.media.reader.open_media."
        )


def face_finder(name: str = "default", *, threads: int | None = None) -> FaceFinder:
    """Return a face finder by name.

    Args:
        name: `default` (RetinaFace and face mesh), `dlib` (HOG and 68 points, non-commercial weights) or
            `mtcnn`. The last two need their extra, and leave the points they lack NaN.
        threads: Threads of the default finder; use 1 in worker processes.

    Raises:
        InputError: The name is unknown, or the extra is not installed.
    """
    if name == "default":
        return RetinaFaceMesh(threads=threads)
    if name == "dlib":
        from unseen.media.dlib_finder import DlibFinder

        return DlibFinder()
    if name == "mtcnn":
        from unseen.media.mtcnn_finder import MtcnnFinder

        return MtcnnFinder()
    raise InputError(f"face finder {name!r} is unknown; expected default, dlib or mtcnn")
