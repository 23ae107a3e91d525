"""Boxes and five points of every face in a picture: RetinaFace with a MobileNet-0.25 body.

Source:
    Deng et al., "RetinaFace: Single-stage Dense Face Localisation in the Wild", CVPR 2020. The weights are
    those of the PyTorch re-implementation, see `weights/NOTICE.md`; the code around them is our own.
"""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["RetinaFace", "anchors", "suppress"]

WEIGHTS = Path(__file__).parent / "weights" / "retinaface_mnet025.onnx"
STRIDES = (8, 16, 32)
SIDES = ((16, 32), (64, 128), (256, 512))  # two square anchors a cell and stride, in pixels
MEAN = (104.0, 117.0, 127.0)  # blue, green, red
CENTRE_VARIANCE, SIZE_VARIANCE = 0.1, 0.2  # the scale in which the network states offsets
PAD = 32  # sides are padded to this multiple, so that all three strides fit


@lru_cache(maxsize=16)
def anchors(height: int, width: int) -> NDArray[np.float32]:
    """Anchors of a padded picture: stride 8, 16, 32; rows, columns, small then large.

    Shape:
        (A, 3) float32: centre x, centre y and side, in pixels of the padded picture.
    """
    levels = []
    for stride, sides in zip(STRIDES, SIDES, strict=True):
        rows, columns = -(-height // stride), -(-width // stride)
        y, x, side = np.meshgrid(np.arange(rows), np.arange(columns), np.array(sides), indexing="ij")
        levels.append(np.stack([(x + 0.5) * stride, (y + 0.5) * stride, side], axis=-1).reshape(-1, 3))
    return np.concatenate(levels).astype(np.float32)


def suppress(boxes: NDArray[np.float32], scores: NDArray[np.float32], overlap: float) -> NDArray[np.int64]:
    """Keep the best of boxes that overlap (greedy non-maximum suppression).

    Args:
        boxes: Corners x0 y0 x1 y1, in pixels.
        scores: Higher is better.
        overlap: Intersection over union above which the weaker box goes.

    Shape:
        boxes: (N, 4). scores: (N,). Returns: (K,) int64, indices of those kept, best first.
    """
    order = np.argsort(-scores, kind="stable")
    area = np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0), axis=1)
    kept = []
    while order.size:
        best, rest = order[0], order[1:]
        kept.append(best)
        corner = np.maximum(boxes[best, :2], boxes[rest, :2])
        shared = np.prod(np.maximum(np.minimum(boxes[best, 2:], boxes[rest, 2:]) - corner, 0), axis=1)
        order = rest[shared <= overlap * (area[best] + area[rest] - shared)]
    return np.array(kept, dtype=np.int64)


class RetinaFace:
    """Find faces in a picture at the size it is handed.

    The session starts at the first call, so an instance may be sent to another process.

    Args:
        threads: Threads of one call; None takes the machine's cores, four at most.
        overlap: Intersection over union above which two boxes are one face.
    """

    def __init__(self, *, threads: int | None = None, overlap: float = 0.4) -> None:
        self.threads = threads or min(4, os.cpu_count() or 1)
        self.overlap = overlap
        self._session: Any = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_session": None}  # a session cannot be pickled; the copy starts its own

    def __call__(
        self, image: NDArray[np.uint8], min_score: float
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """Return boxes, scores and five points, best score first, in the picture's pixels.

        Args:
            image: RGB.
            min_score: Least probability of being a face, 0 to 1.

        Shape:
            image: (H, W, 3) uint8. Returns: (N, 4) xyxy, (N,), (N, 5, 2), all float32. The points are the
            eyes, the nose and the mouth's corners, each pair from the picture's left to its right.
        """
        if self._session is None:
            self._session = self._start()
        height, width = image.shape[:2]
        # Mean subtraction, channel swap and layout in one pass; the padding is the mean, that is zero.
        blob = cv2.dnn.blobFromImage(image, 1.0, mean=MEAN, swapRB=True)
        padded = (-(-height // PAD) * PAD, -(-width // PAD) * PAD)
        if padded != (height, width):
            canvas = np.zeros((1, 3, *padded), np.float32)
            canvas[:, :, :height, :width] = blob
            blob = canvas
        offsets, classes, marks = self._session.run(["loc", "conf", "landmarks"], {"input": blob})
        scores = classes[0, :, 1]
        likely = np.flatnonzero(scores >= min_score)
        scores = scores[likely]
        anchor = anchors(*padded)[likely]
        centre, side = anchor[:, :2], anchor[:, 2:]
        middle = centre + offsets[0, likely, :2] * (CENTRE_VARIANCE * side)
        half = side * np.exp(np.minimum(offsets[0, likely, 2:] * SIZE_VARIANCE, 4.0)) / 2
        boxes = np.concatenate([middle - half, middle + half], axis=1)
        points = centre[:, None] + marks[0, likely].reshape(-1, 5, 2) * (CENTRE_VARIANCE * side[:, None])
        kept = suppress(boxes, scores, self.overlap)
        return boxes[kept], scores[kept], points[kept]

    def _start(self) -> Any:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # Idle threads that spin steal the time of the decoder and of the detector between two frames.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        return onnxruntime.InferenceSession(str(WEIGHTS), options, providers=["CPUExecutionProvider"])
