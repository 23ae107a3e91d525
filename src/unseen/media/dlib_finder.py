"""The papers' own face finder, as an option: dlib's HOG detector and its 68-point predictor."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unseen.media.faces import Face, check_picture
from unseen.types import LANDMARKS, InputError

__all__ = ["DlibFinder", "five_points"]


def five_points(landmarks: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return eyes, nose and mouth's corners of iBUG's 68 points: eyes are the means of their six.

    Shape:
        landmarks: (68 or more, 2). Returns: (5, 2) float32.
    """
    eyes = [landmarks[36:42].mean(axis=0), landmarks[42:48].mean(axis=0)]
    return np.stack([*eyes, landmarks[30], landmarks[48], landmarks[54]]).astype(np.float32)


class DlibFinder:
    """Frontal faces with dlib; `pip install 'unseen[dlib]'`.

    Slow, and blind to faces that are turned, small or blurred; meant for repeating published crops. It was
    trained on 300-W, whose images are not for commercial use. The 13 forehead points stay NaN.

    Args:
        upsample: How often the picture is doubled before detection; 1 finds faces from about 40 pixels.
        min_score: Least margin of the detector, which is no probability; 0 is dlib's own.

    Raises:
        InputError: dlib or its weights are not installed.
    """

    name = "dlib"

    def __init__(self, *, upsample: int = 1, min_score: float = 0.0) -> None:
        try:
            import dlib
            import face_recognition_models
        except ImportError as error:
            raise InputError(
                "face finder 'dlib' needs packages that are not installed: pip install 'unseen[dlib]'",
                reason="missing_extra",
            ) from error
        warnings.warn(
            "dlib finds 68 points: the 13 on the forehead are NaN, and masks that need them will refuse. "
            "Its predictor was trained on 300-W and is not for commercial use.",
            stacklevel=2,
        )
        self.upsample, self.min_score = upsample, min_score
        self._detector: Any = dlib.get_frontal_face_detector()
        self._predictor: Any = dlib.shape_predictor(face_recognition_models.pose_predictor_model_location())

    def __call__(self, image: NDArray[np.uint8]) -> list[Face]:
        """Return the faces of one picture, largest first; scores are margins squashed to 0 to 1.

        Shape:
            image: (H, W, 3) uint8 RGB.
        """
        check_picture(image)
        image = np.ascontiguousarray(image)
        boxes, margins, _ = self._detector.run(image, self.upsample, self.min_score)
        faces = []
        for box, margin in zip(boxes, margins, strict=True):
            shape = self._predictor(image, box)
            landmarks = np.full((LANDMARKS, 2), np.nan, np.float32)
            landmarks[:68] = [(shape.part(i).x, shape.part(i).y) for i in range(68)]
            corners = np.array([box.left(), box.top(), box.right(), box.bottom()], np.float32)
            score = float(1 / (1 + np.exp(-margin)))
            faces.append(Face(corners, score, five_points(landmarks), landmarks))
        return sorted(faces, key=lambda face: -face.size)
