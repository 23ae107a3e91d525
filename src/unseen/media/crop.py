"""Loose crops of faces: never warped, native resolution up to a cap, landmarks carried along.

`prepare` and `detect` both call `crop_faces`, so a detector sees in use what it saw in training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from unseen.media.faces import Face

__all__ = ["FaceCrop", "crop_faces", "encode_crop", "sharpness"]

SHARPNESS_SIDE = 128  # pixels to which a face is brought before its sharpness is taken


@dataclass(frozen=True, eq=False)
class FaceCrop:
    """One face cut from a frame, with a wide margin.

    Whole numbers are the centres of pixels, as in OpenCV, in the frame and in the crop.

    Shape:
        image: (h, w, 3) uint8 RGB.
        landmarks: (81, 2) float32 in the crop's pixels.
    """

    image: NDArray[np.uint8]
    face: Face  # in the frame's pixels
    landmarks: NDArray[np.float32]
    origin: tuple[int, int]  # x, y of the crop's first pixel in the frame
    scale: float  # crop pixels a frame pixel, at most 1
    blur: float  # `sharpness` of the face: small when blurred

    def to_frame(self, points: NDArray[np.floating]) -> NDArray[np.float32]:
        """Map points of the crop to the frame.

        Shape:
            points: (..., 2), x and y in the crop's pixels. Returns: (..., 2) float32, the frame's pixels.
        """
        moved: NDArray[np.float32] = ((points + 0.5) / self.scale - 0.5 + np.array(self.origin)).astype(
            np.float32
        )
        return moved


def crop_faces(
    image: NDArray[np.uint8], faces: Sequence[Face], *, margin: float = 0.6, max_side: int = 640
) -> list[FaceCrop]:
    """Cut every face from a frame, in the order given.

    Args:
        image: The frame, RGB.
        faces: Faces in the frame's pixels.
        margin: How much to add on each of the four sides, in longer sides of the face's box; clipped to the
            frame, never padded.
        max_side: Crops longer than this are shrunk to it, in pixels.

    Returns:
        One crop a face.

    Shape:
        image: (H, W, 3) uint8.
    """
    height, width = image.shape[:2]
    crops = []
    for face in faces:
        reach = margin * face.size
        # At least one pixel is left even of a box that lies outside the frame.
        x0, y0 = (
            int(np.clip(np.floor(face.box[i] - reach), 0, length - 1))
            for i, length in ((0, width), (1, height))
        )
        x1 = int(np.clip(np.ceil(face.box[2] + reach) + 1, x0 + 1, width))
        y1 = int(np.clip(np.ceil(face.box[3] + reach) + 1, y0 + 1, height))
        piece = image[y0:y1, x0:x1]
        scale = min(1.0, max_side / max(piece.shape[:2]))
        if scale < 1:
            size = [max(1, round(length * scale)) for length in (x1 - x0, y1 - y0)]
            piece = cv2.resize(piece, size, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
        landmarks = (face.landmarks - np.array([x0, y0], np.float32) + 0.5) * np.float32(scale) - 0.5
        crops.append(
            FaceCrop(
                image=np.array(piece, order="C"),  # a copy: a view would keep the whole frame alive
                face=face,
                landmarks=landmarks.astype(np.float32),
                origin=(x0, y0),
                scale=scale,
                blur=sharpness(image, face.box),
            )
        )
    return crops


def sharpness(image: NDArray[np.uint8], box: NDArray[np.float32]) -> float:
    """Return the variance of the Laplacian of the grey face, brought to 128x128 pixels.

    The fixed size makes faces of any size comparable: a tiny face that has to be enlarged counts as blurred,
    because the detail is missing there too. Studio portraits have several hundred, below about 20 eyes and
    mouth are smears.

    Shape:
        image: (H, W, 3) uint8 RGB. box: (4,), x0 y0 x1 y1 in pixels.
    """
    height, width = image.shape[:2]
    x0, y0 = (int(np.clip(box[i], 0, length - 1)) for i, length in ((0, width), (1, height)))
    x1, y1 = int(np.clip(np.ceil(box[2]), x0 + 1, width)), int(np.clip(np.ceil(box[3]), y0 + 1, height))
    grey = cv2.cvtColor(np.ascontiguousarray(image[y0:y1, x0:x1]), cv2.COLOR_RGB2GRAY)
    method = cv2.INTER_AREA if min(grey.shape) > SHARPNESS_SIDE else cv2.INTER_LINEAR
    face = cv2.resize(grey, (SHARPNESS_SIDE, SHARPNESS_SIDE), interpolation=method)
    return float(cv2.Laplacian(face, cv2.CV_32F).var())


def encode_crop(image: NDArray[np.uint8], kind: str = "jpg") -> bytes:
    """Encode a crop as every stored crop is: the one path that real and forged faces, training and use share.

    Args:
        image: The crop, RGB.
        kind: `jpg` (quality 95, no chroma subsampling) or `png` (lossless).

    Shape:
        image: (h, w, 3) uint8.
    """
    options = [
        cv2.IMWRITE_JPEG_QUALITY,
        95,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
    ]
    done, content = cv2.imencode(
        f".{kind}", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options if kind == "jpg" else []
    )
    if not done:
        raise ValueError(f"crop of shape {image.shape} could not be encoded as {kind}; expected jpg or png")
    return bytes(content)
