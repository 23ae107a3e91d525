"""81 landmarks of one face, read from the MediaPipe face mesh.

Source:
    Kartynnik et al., "Real-time Facial Surface Geometry from Monocular Video on Mobile GPUs", 2019, for the
    468-point network; Sagonas et al., "300 Faces in-the-Wild Challenge", 2013, for the 68 points of iBUG.
    Which mesh point stands for which landmark was chosen by us from the points' anatomy, see `docs/faces.md`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["MESH_OF_LANDMARK", "FaceMesh", "landmarks_from_mesh"]

WEIGHTS = Path(__file__).parent / "weights" / "face_landmark.tflite"
SIDE = 192  # pixels of the network's square input
POINTS, PRESENCE = "conv2d_20", "conv2d_30"
FIRST_MARGIN, MARGIN = 1.3, 1.5  # side of the region over the longer side of the box, of the mesh
LEFT_EYE, RIGHT_EYE = (33, 133), (362, 263)  # corners in the mesh, left and right as seen in the picture

# Mesh points whose mean is a landmark. Left and right are the picture's.
MESH_OF_LANDMARK: tuple[tuple[int, ...], ...] = (
    # 0..16 the jaw, from the left ear over the chin (8) to the right ear
    *((127,), (234,), (93, 132), (132, 58), (58, 172), (136,), (150, 149), (176, 148), (152,)),
    *((400, 377), (379, 378), (365,), (288, 397), (361, 288), (323, 361), (454,), (356,)),
    # 17..21 and 22..26 the brows, outer to inner and back: the upper edge, the middle where they taper
    *((70, 46), (63,), (105, 66), (66, 107), (107, 55)),
    *((336, 285), (336, 296), (334, 296), (293,), (300, 276)),
    # 27..30 the bridge of the nose from the eyes to the tip, 31..35 under it from wing to wing
    *((168, 6), (197,), (195, 5), (4,), (75,), (97,), (2,), (326,), (305,)),
    # 36..41 the left eye from its outer corner, 42..47 the right eye from its inner corner, over the top
    *((33, 246, 7), (160, 159), (158,), (133,), (153,), (144,)),
    *((362,), (385,), (387, 386), (263, 466, 249), (373,), (380,)),
    # 48..59 the lips' outer edge from the left corner over the top
    *((61,), (40, 39), (37,), (0,), (267,), (270, 269), (291,), (321, 405), (314,), (17,), (84,), (91, 181)),
    # 60..67 their inner edge; 61, 63, 65 and 67 lie under and over the peaks of the outer edge
    *((78,), (82,), (13,), (312,), (308,), (317,), (14,), (87,)),
    # 68..80 the forehead, from the left temple to the right one
    *((162,), (21,), (54,), (103,), (67,), (109,), (10,), (338,), (297,), (332,), (284,), (251,), (389,)),
)
# One, two or three points repeated to six: the mean stays theirs, and one gather serves all.
_GATHER = np.array([row * (6 // len(row)) for row in MESH_OF_LANDMARK])


def landmarks_from_mesh(mesh: NDArray[np.float32]) -> NDArray[np.float32]:
    """Bring the mesh to 81 landmarks: iBUG's 68 in their order, then 13 on the forehead, left to right.

    Shape:
        mesh: (468, 2) float32, pixels. Returns: (81, 2) float32, same pixels.
    """
    landmarks: NDArray[np.float32] = mesh[_GATHER].mean(axis=1, dtype=np.float32)
    return landmarks


class FaceMesh:
    """Read 468 points from a face whose place is roughly known.

    The first pass looks at a square around the detector's box, turned until the eyes are level. Later passes
    take the square from the mesh itself, which is what the network saw in training.

    Args:
        passes: How often to look; the second look repairs a poor box.
    """

    def __init__(self, *, passes: int = 2) -> None:
        self.passes = passes
        self._net: Any = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_net": None}

    def __call__(
        self, image: NDArray[np.uint8], box: NDArray[np.float32], points: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], float]:
        """Return the mesh in the picture's pixels, and the network's probability that this is a face.

        Args:
            image: RGB.
            box: Corners x0 y0 x1 y1 in pixels.
            points: Left eye, right eye, nose and the mouth's corners in pixels.

        Shape:
            image: (H, W, 3) uint8. box: (4,). points: (5, 2). Returns: (468, 2) float32 and a float.
        """
        eyes = points[1] - points[0]
        down = points[3:].mean(axis=0) - points[:2].mean(axis=0)
        # In profile the eyes nearly meet and their direction is noise; the line to the mouth stays long.
        direction = eyes + np.array([down[1], -down[0]])
        centre = (box[:2] + box[2:]) / 2
        side = FIRST_MARGIN * float(max(box[2:] - box[:2]))
        mesh, presence = np.zeros((468, 2), np.float32), -1.0
        for _ in range(self.passes):
            angle = float(np.arctan2(direction[1], direction[0]))
            seen, sure = self._look(image, centre, side, angle)
            if sure < min(presence, 0.5):  # a face on the edge of recognition: this look lost it
                break
            mesh, presence = seen, sure
            direction = mesh[list(RIGHT_EYE)].mean(axis=0) - mesh[list(LEFT_EYE)].mean(axis=0)
            along = direction / max(float(np.hypot(*direction)), 1e-6)
            upright = mesh @ np.array([[along[0], -along[1]], [along[1], along[0]]], np.float32)
            low, high = upright.min(axis=0), upright.max(axis=0)
            middle = (low + high) / 2
            centre = np.array([[along[0], -along[1]], [along[1], along[0]]]) @ middle
            side = MARGIN * float(max(high - low))
        return mesh, presence

    def _look(
        self, image: NDArray[np.uint8], centre: NDArray[Any], side: float, angle: float
    ) -> tuple[NDArray[np.float32], float]:
        if self._net is None:
            self._net = self._start()
        side = max(side, 2.0)
        cosine, sine = np.cos(angle), np.sin(angle)
        rotation = np.array([[cosine, -sine], [sine, cosine]])  # from the level square to the picture
        scale = SIDE / side
        source: NDArray[Any] = image
        start = np.zeros(2)
        if scale < 0.5:  # bilinear sampling would alias: shrink the neighbourhood by area first
            reach = side * (abs(cosine) + abs(sine)) / 2 + 2
            start = np.floor(np.maximum(centre - reach, 0))
            stop = np.ceil(np.minimum(centre + reach, image.shape[1::-1]))
            if (stop - start < 2).any():
                return np.tile(centre, (468, 1)).astype(np.float32), 0.0
            piece = image[int(start[1]) : int(stop[1]), int(start[0]) : int(stop[0])]
            wanted = [max(1, round(float(length) * scale)) for length in (stop - start)]
            source = cv2.resize(piece, wanted, interpolation=cv2.INTER_AREA)
        shrink = np.array(source.shape[1::-1]) / (image.shape[1::-1] if source is image else stop - start)
        # square = scale * rotation^T (picture - centre) + SIDE / 2, where whole numbers are pixel centres, so
        # picture = (source + 0.5) / shrink - 0.5 + start.
        linear = scale * rotation.T
        matrix = np.empty((2, 3))
        matrix[:, :2] = linear / shrink
        matrix[:, 2] = linear @ (start + 0.5 / shrink - 0.5 - centre) + SIDE / 2
        square = cv2.warpAffine(source, matrix, (SIDE, SIDE), flags=cv2.INTER_LINEAR)
        self._net.setInput(cv2.dnn.blobFromImage(square, 1 / 255))
        outputs = dict(zip(self._names, self._net.forward(self._names), strict=True))
        mesh = outputs[POINTS].reshape(468, 3)[:, :2]
        logit = float(outputs[PRESENCE].ravel()[0]) if PRESENCE in outputs else np.inf
        placed = (mesh - SIDE / 2) / scale @ rotation.T + centre
        return placed.astype(np.float32), float(1 / (1 + np.exp(-logit)))

    def _start(self) -> Any:
        # OpenCV 5's new engine reads only one of the two outputs; its classic engine, all of OpenCV 4, both.
        engine = getattr(cv2.dnn, "ENGINE_CLASSIC", None)
        net = cv2.dnn.readNetFromTFLite(str(WEIGHTS), *(() if engine is None else (engine,)))
        self._names = list(net.getUnconnectedOutLayersNames())
        return net
