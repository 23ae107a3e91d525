"""Self-blended images as a family of forgeries: see `unseen.methods.sbi`."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from unseen.forge.family import Forged, Portrait, Unforgeable, check_portrait
from unseen.methods.sbi import SelfBlend
from unseen.types import FaceRecord, FaceSample, InputError, Label

__all__ = ["SelfBlended"]


class SelfBlended:
    """Blends a face with an altered copy of itself; nobody else's picture is needed.

    Half of the pairs of the method alter the real picture instead, which training wants. A bench shows the
    real picture as it is, so here only the blended part is ever the altered one.

    Args:
        strengths: Keywords of `unseen.methods.sbi.SelfBlend`.
    """

    name = "sbi"
    needs_donor = False

    def __init__(self, strengths: dict[str, Any] | None = None) -> None:
        self.blend = SelfBlend(**(strengths or {}))

    def __call__(self, target: Portrait, donor: Portrait | None, rng: np.random.Generator) -> Forged:
        """Forge one picture; `donor` is not looked at."""
        check_portrait(target)
        record = FaceRecord(target.path, label=Label.REAL)
        sample = FaceSample(target.image, Label.REAL, record, landmarks=target.landmarks)
        for _ in range(12):
            try:
                real, fake = self.blend.pair(sample, rng)
            except InputError as error:
                raise Unforgeable(str(error), reason=error.reason) from error
            if real.image is target.image or np.array_equal(real.image, target.image):
                break
        else:
            raise Unforgeable(f"{target.path}: no self-blend leaves the picture around it as it is")
        return Forged(fake.image, _where(target.image, fake.image), target.landmarks, {})


def _where(real: np.ndarray[Any, Any], fake: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return where two pictures differ, without the pixels in between that happen to be alike."""
    changed = (cv2.absdiff(real, fake).max(axis=2) > 0).astype(np.float32)
    side = max(3, min(changed.shape) // 40)
    share = cv2.blur(changed, (side, side), borderType=cv2.BORDER_CONSTANT)
    return np.asarray((share > 0.5).astype(np.float32))
