from __future__ import annotations
import cv2, numpy as np
from numpy.typing import NDArray

LAYOUT = 224
MOVING = 106


def frame_points():
    a = np.linspace(0, 1, 6)[:-1]
    o, z = np.ones(5), np.zeros(5)
    p = np.concatenate([np.stack(c, 1) for c in ((a, z), (o, a), (1 - a, o), (z, 1 - a))])
    return p * 5.6 + [-2.8, -2.6]


def warp_between(image, source, target, triangles, size, *, smooth=0.0):
    height, width = size
    index = np.full((height, width), -1, np.int32)
    label = np.zeros((height, width), np.int32)
    target = np.asarray(target, np.float64)
    for n, corners in enumerate(triangles):
        cv2.fillConvexPoly(label, np.round(target[corners] * 16).astype(np.int32), n + 1, shift=4)
    corners = np.concatenate([target[triangles], np.ones((len(triangles), 3, 1))], 2)
    area = np.abs(np.linalg.det(corners)) > 1e-3
    matrices = np.zeros((len(triangles) + 1, 3, 2))
    matrices[1:][area] = np.linalg.solve(corners[area], np.asarray(source, np.float64)[triangles[area]])
    y, x = np.mgrid[:height, :width]
    own = matrices[label]
    place = x[..., None] * own[..., 0, :] + y[..., None] * own[..., 1, :] + own[..., 2, :]
    place = place.astype(np.float32)
    return cv2.remap(image, place[..., 0], place[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
