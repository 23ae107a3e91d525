"""The geometry of a face's landmarks: how it is turned, what it does, where its skin is."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "MEAN_FACE",
    "STILL",
    "expression",
    "mouth_opening",
    "move",
    "outline",
    "similarity",
    "tilt",
    "turn",
]

_Points = NDArray[np.floating]

# Points that an expression hardly moves: upper jaw line, nose bridge, corners of the eyes.
STILL = np.array([0, 1, 2, 14, 15, 16, 27, 28, 29, 30, 36, 39, 42, 45])

# The mean of 85 calm faces, made symmetric, in distances between the eyes from the middle between them.
# From the landmarks of the Face Research Lab London Set (DeBruine and Jones, CC BY 4.0), in thousandths.
_MEAN_X = (
    "-1119 -1107 -1079 -1028 -943 -776 -562 -282 0 282 562 776 943 1028 1079 1107 1119 -879 -809 -556 "
    "-345 -216 216 345 556 809 879 0 0 0 0 -204 -117 0 117 204 -700 -566 -439 -276 -427 -592 276 439 566 "
    "700 592 427 -407 -279 -117 0 117 279 407 266 118 0 -118 -266 -353 -89 0 89 353 96 0 -96 -1102 -1051 "
    "-951 -795 -557 -301 0 301 557 795 951 1051 1102 "
)
_MEAN_Y = (
    "106 333 683 931 1157 1399 1565 1704 1747 1704 1565 1399 1157 931 683 333 106 -214 -337 -394 -384 "
    "-306 -306 -384 -394 -337 -214 -35 131 284 470 637 695 692 695 637 5 -65 -68 18 56 53 18 -68 -65 5 53 "
    "56 1051 965 911 926 911 965 1051 1146 1201 1209 1201 1146 1039 1026 1029 1026 1039 1056 1058 1056 "
    "-138 -337 -526 -678 -781 -828 -839 -828 -781 -678 -526 -337 -138 "
)
MEAN_FACE = np.array([_MEAN_X.split(), _MEAN_Y.split()], np.float32).T / np.float32(1000)


def similarity(points: _Points, onto: _Points) -> NDArray[np.float64]:
    """Return the (2, 3) rotation, scale and shift that brings points onto others with least squares.

    Umeyama's closed form, in complex numbers: z -> a z + b.

    Shape:
        points, onto: (N, 2). Returns (2, 3).
    """
    z, w = (p[:, 0].astype(np.float64) + 1j * p[:, 1] for p in (points, onto))
    z_mean, w_mean = z.mean(), w.mean()
    a = np.vdot(z - z_mean, w - w_mean) / max(float(np.vdot(z - z_mean, z - z_mean).real), 1e-12)
    b = w_mean - a * z_mean
    return np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]])


def move(points: _Points, matrix: NDArray[np.floating]) -> NDArray[np.float32]:
    """Apply a (2, 3) matrix to points.

    Shape:
        points: (N, 2). Returns (N, 2) float32.
    """
    return np.asarray(points @ matrix[:, :2].T + matrix[:, 2], np.float32)


def turn(landmarks: _Points) -> float:
    """Return how far the head is turned: 0 towards us, about +-0.5 at 45 degrees, positive to the right.

    The nose's place between the two sides of the jaw, measured along the line of the eyes.
    """
    eyes = landmarks[42:48].mean(0) - landmarks[36:42].mean(0)
    along = eyes / max(float(np.linalg.norm(eyes)), 1e-6)
    left, nose, right = (
        float(p @ along) for p in (landmarks[0:4].mean(0), landmarks[28:31].mean(0), landmarks[13:17].mean(0))
    )
    return float(2 * (nose - left) / max(right - left, 1e-6) - 1)


def tilt(landmarks: _Points) -> float:
    """Return where the nose's tip is between eyes (0) and mouth (1): larger when looking down."""
    eyes, mouth = landmarks[36:48].mean(0), landmarks[48:68].mean(0)
    down = mouth - eyes
    return float((landmarks[30] - eyes) @ down / max(float(down @ down), 1e-6))


def mouth_opening(landmarks: _Points) -> float:
    """Return the gap between the lips over the distance between the eyes."""
    gap = np.linalg.norm(landmarks[61:64] - landmarks[65:68][::-1], axis=1).mean()
    eyes = np.linalg.norm(landmarks[42:48].mean(0) - landmarks[36:42].mean(0))
    return float(gap / max(float(eyes), 1e-6))


def expression(landmarks: _Points) -> NDArray[np.float64]:
    """Return six numbers that say what a face does, in distances between the eyes.

    Mouth opening, mouth width, how high its corners are above its middle, opening of the eyes, height of the
    brows, distance of the brows from each other.
    """
    eyes = landmarks[42:48].mean(0) - landmarks[36:42].mean(0)
    unit = max(float(np.linalg.norm(eyes)), 1e-6)
    along = eyes / unit
    down = np.array([-along[1], along[0]])
    x, y = landmarks @ along / unit, landmarks @ down / unit
    return np.array(
        [
            mouth_opening(landmarks),
            x[54] - x[48],
            y[[51, 57, 62, 66]].mean() - y[[48, 54]].mean(),
            (y[[40, 41, 46, 47]] - y[[38, 37, 44, 43]]).mean(),
            y[36:48].mean() - y[17:27].mean(),
            x[22] - x[21],
        ]
    )


def outline(landmarks: _Points, height: float) -> NDArray[np.float32]:
    """Return the points that bound what is exchanged: jaw, and a line above the brows.

    Args:
        landmarks: The face's.
        height: How high the line lies: 0 on the brows, 1 at the hair line (the forehead's landmarks, or
            about there when they are missing).

    Shape:
        landmarks: (81, 2). Returns (30, 2) float32, once around.
    """
    brows = np.concatenate([landmarks[17:22], landmarks[22:27]])
    knots = np.linspace(0, 1, 10), np.linspace(0, 1, 13)
    low = np.column_stack([np.interp(knots[1], knots[0], brows[:, i]) for i in range(2)])
    high = landmarks[68:81].astype(np.float64)
    if len(high) < 13 or not np.isfinite(high).all():
        up = landmarks[17:27].mean(0) - landmarks[36:48].mean(0)
        arch = np.sin(np.linspace(0.15, np.pi - 0.15, 13))[:, None]
        high = low + up * (0.6 + 1.6 * arch)
    return np.concatenate([landmarks[:17], (low + height * (high - low))[::-1]]).astype(np.float32)
