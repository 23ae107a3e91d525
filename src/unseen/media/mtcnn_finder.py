"""MTCNN boxes and five points, as an option; the 81 landmarks come from the face mesh inside them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from unseen.media.faces import Face, check_picture
from unseen.media.mesh import FaceMesh, landmarks_from_mesh
from unseen.types import InputError

__all__ = ["MtcnnFinder"]

KEYPOINTS = ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")


class MtcnnFinder:
    """Faces with the `mtcnn` package; `pip install 'unseen[mtcnn]'` (it brings TensorFlow).

    Source:
        Zhang et al., "Joint Face Detection and Alignment Using Multitask Cascaded Convolutional Networks",
        IEEE Signal Processing Letters, 2016. CADDM's crops were made with it.

    Args:
        min_score: Least probability of the last of the three networks.

    Raises:
        InputError: mtcnn or TensorFlow is not installed.
    """

    name = "mtcnn"

    def __init__(self, *, min_score: float = 0.9) -> None:
        try:
            from mtcnn import MTCNN

            self._detector: Any = MTCNN(device="CPU:0")
        except ImportError as error:
            raise InputError(
                "face finder 'mtcnn' needs packages that are not installed: pip install 'unseen[mtcnn]'",
                reason="missing_extra",
            ) from error
        self.min_score = min_score
        self._mesh = FaceMesh()

    def __call__(self, image: NDArray[np.uint8]) -> list[Face]:
        """Return the faces of one picture, largest first.

        Shape:
            image: (H, W, 3) uint8 RGB.
        """
        check_picture(image)
        faces = []
        for found in self._detector.detect_faces(image) or []:
            if found["confidence"] < self.min_score:
                continue
            x, y, width, height = found["box"]
            box = np.array([x, y, x + width, y + height], np.float32)
            points = np.array([found["keypoints"][key] for key in KEYPOINTS], np.float32)
            mesh, _ = self._mesh(image, box, points)
            faces.append(Face(box, float(found["confidence"]), points, landmarks_from_mesh(mesh)))
        return sorted(faces, key=lambda face: -face.size)
