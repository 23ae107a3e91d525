"""Is a forgery one? A picture that no longer holds the face, or hardly differs, is dropped with a reason."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from unseen.forge.family import Forged, eye_distance
from unseen.media.faces import FaceFinder

__all__ = ["Gate", "check_forgery"]

_BUT_THE_JAW = slice(17, 68)


@dataclass(frozen=True)
class Gate:
    """What a forgery must pass.

    Args:
        landmarks: Most mean distance between the landmarks found again and those meant, in eye distances.
        change: Least mean difference from the real picture inside the mask, in grey levels.
        area: Least mask, as a share of the squared eye distance.
    """

    landmarks: float = 0.12
    change: float = 1.0
    area: float = 0.02


def check_forgery(forged: Forged, real: NDArray[np.uint8], finder: FaceFinder, gate: Gate) -> str | None:
    """Return why a forgery is dropped, or None.

    Args:
        forged: What was made.
        real: The picture it was made from, of the same size.
        finder: Looks for the face again.
        gate: What to ask for.

    Returns:
        `no_change`, `face_lost`, `landmarks_off`, or None.

    Shape:
        real: (H, W, 3) uint8.
    """
    unit = eye_distance(forged.landmarks)
    inside = (forged.mask > 0.5).astype(np.uint8)
    if cv2.countNonZero(inside) < gate.area * unit**2:
        return "no_change"
    if float(np.mean(cv2.mean(cv2.absdiff(forged.image, real), inside)[:3])) < gate.change:
        return "no_change"
    faces = finder(forged.image)
    if not faces:
        return "face_lost"
    meant = forged.landmarks[_BUT_THE_JAW]
    off = min(
        float(np.nanmean(np.linalg.norm(face.landmarks[_BUT_THE_JAW] - meant, axis=1))) for face in faces
    )
    return "landmarks_off" if off > gate.landmarks * unit else None
