"""Learn the small face model of `unseen.forge.synthetic` from photographs of volunteers.

    python scripts/learn_face_model.py FOLDER src/unseen/forge/weights/face_model.npz

FOLDER holds `<person>_neutral.jpg` and `<person>_smiling.jpg`, frontal, on a plain light background, as in
the Face Research Lab London Set (DeBruine & Jones, CC BY 4.0, doi:10.6084/m9.figshare.5047666). What comes
out is an appearance model (Cootes, Edwards & Taylor, PAMI 2001): mean and principal components of 98 points
and of the picture brought to the mean points; no photograph. It takes some minutes, most of them for cutting
the heads out of the background.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import Delaunay

from unseen.forge.studio import mesh_map
from unseen.forge.synthetic import LAYOUT, MOVING, frame_points
from unseen.media.faces import face_finder

Array = NDArray[np.floating]
UNIT = 80  # pixels between the eyes while learning
LEFT, TOP, SIDE = -2.8, -2.6, 5.6  # the square that is looked at, in eye distances from between the eyes
STEP = 1.0  # grey levels; what a component's whole number stands for


def main() -> None:
    """Read the photographs, learn, write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--components", type=int, default=56)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")

    finder = face_finder()
    neutral: dict[str, tuple[Array, Array]] = {}
    smiling: dict[str, tuple[Array, Array]] = {}
    for path in sorted(options.folder.glob("*_*.jpg")):
        image = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
        faces = finder(image)
        person, _, expression = path.stem.partition("_")
        if faces and expression in ("neutral", "smiling"):
            (neutral if expression == "neutral" else smiling)[person] = (image, faces[0].landmarks)
    people = sorted(set(neutral) & set(smiling))
    logging.info("%d people", len(people))

    upright = mean_face([neutral[p][1][:68] for p in people])
    shapes, rest = [], []
    for number, person in enumerate(people):
        head, matrix = straighten(*neutral[person], upright)
        alpha = cut_out(head, to_unit(neutral[person][1], matrix))
        outline = follow_outline(alpha)
        shapes.append(np.concatenate([to_unit(neutral[person][1], matrix), outline]))
        rest.append((head, alpha))
        if number % 10 == 9:
            logging.info("cut out %d of %d", number + 1, len(people))
    shape = np.stack(shapes)  # (P, 98, 2)
    smile = np.stack(
        [to_unit(smiling[p][1], straighten(*smiling[p], upright)[1]) for p in people]
    )  # (P, 81, 2)
    change = smile - shape[:, :81]

    average = shape.mean(0)
    between = average.copy()
    between[:81] += 0.5 * change.mean(0)  # lips a little apart, so that what is between them has room
    points = lay_out(np.concatenate([between, frame_points()]))
    triangles = Delaunay(points).simplices.astype(np.int16)

    textures = []
    for (head, alpha), own in zip(rest, shape, strict=True):
        textures.append(to_texture(head, alpha, own, points, triangles))
    texture = np.stack(textures)
    smiles = []
    for person, own, moved in zip(people, shape, smile, strict=True):
        head, _ = straighten(*smiling[person], upright)
        whole = own.copy()
        whole[:81] = moved
        smiles.append(to_texture(head, np.ones(head.shape[:2], np.float32), whole, points, triangles))
    inside = face_weight(points)
    difference = (np.stack(smiles) - texture) * inside

    # Shape and texture in one vector, so that what goes together in people goes together in samples.
    weight = np.sqrt(texture.var(0).sum() / shape.var(0).sum() / 4)
    joint = np.concatenate(
        [(shape - average).reshape(len(people), -1) * weight, texture - texture.mean(0)], 1
    )
    values, scores = np.linalg.eigh(joint @ joint.T)
    order = np.argsort(values)[::-1][: options.components]
    coordinates = scores[:, order] * np.sqrt(len(people) - 1)  # (P, K), unit variance
    components = coordinates.T @ joint / (len(people) - 1)  # (K, D), one standard deviation each
    kept = values[order].sum() / values.sum()
    logging.info("%d components keep %.1f %% of the variance", options.components, 100 * kept)

    left_out = texture - texture.mean(0) - coordinates @ components[:, 2 * MOVING :]
    detail = np.sqrt((left_out[:, : LAYOUT * LAYOUT] ** 2).mean(0)).reshape(LAYOUT, LAYOUT)
    detail = cv2.resize(cv2.GaussianBlur(detail, (0, 0), 3), (56, 56), interpolation=cv2.INTER_AREA)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(
        options.out,
        points=points.astype(np.float32),
        triangles=triangles,
        mean_shape=average.astype(np.float32),
        shape_components=(components[:, : 2 * MOVING] / weight).reshape(-1, MOVING, 2).astype(np.float16),
        mean_texture=np.clip(np.round(texture.mean(0)), 0, 255).astype(np.uint8),
        texture_components=np.clip(np.round(components[:, 2 * MOVING :] / STEP), -127, 127).astype(np.int8),
        smile_shape=change.mean(0).astype(np.float32),
        smile_texture=np.clip(np.round(difference.mean(0) / STEP), -127, 127).astype(np.int8),
        detail=np.clip(np.round(detail * 8), 0, 255).astype(np.uint8),
        people=np.clip(np.round(coordinates * 32), -127, 127).astype(np.int8),
        step=np.float32(STEP),
    )
    logging.info("%s: %.2f MB", options.out, options.out.stat().st_size / 1e6)


def mean_face(faces: list[Array]) -> Array:
    """Return the Procrustes mean, the eyes at distance 1 about the origin."""
    mean = faces[0].astype(np.float64)
    for _ in range(5):
        mean = np.mean([to_unit(face, similarity(face, mean)) for face in faces], axis=0)
        left, right = mean[36:42].mean(0), mean[42:48].mean(0)
        mean = (mean - (left + right) / 2) / np.linalg.norm(right - left)
    return mean


def similarity(points: Array, goal: Array) -> Array:
    """Return the (2, 3) similarity that brings points to goal, least squares."""
    a, b = (p - p.mean(0) for p in (points.astype(np.float64), goal))
    a, b = a[:, 0] + 1j * a[:, 1], b[:, 0] + 1j * b[:, 1]
    turn = (a.conj() @ b) / (a.conj() @ a).real
    matrix = np.array([[turn.real, -turn.imag], [turn.imag, turn.real]])
    return np.hstack([matrix, (goal.mean(0) - matrix @ points.mean(0))[:, None]])


def to_unit(points: Array, matrix: Array) -> Array:
    """Map points by an affine matrix."""
    return points.astype(np.float64) @ matrix[:, :2].T + matrix[:, 2]


def to_pixels(points: Array) -> Array:
    """Return where points in eye distances lie in a straightened picture."""
    return (points - [LEFT, TOP]) * UNIT


def straighten(image: Array, landmarks: Array, upright: Array) -> tuple[Array, Array]:
    """Return the picture turned upright at `UNIT`, and the matrix from its pixels to eye distances."""
    matrix = similarity(landmarks[:68], upright)
    pixels = matrix.copy()
    pixels[:, 2] -= [LEFT, TOP]
    size = round(SIDE * UNIT)
    head = cv2.warpAffine(
        image, pixels * UNIT, (size, size), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )
    return head, matrix


def cut_out(head: Array, landmarks: Array) -> Array:
    """Return the matte (H, W) of head and shoulders before a plain light background."""
    side = head.shape[0]
    lab = cv2.cvtColor(head, cv2.COLOR_RGB2LAB).astype(np.float32)
    y, x = np.mgrid[:side, :side] / side
    border = np.zeros((side, side), bool)
    border[: side // 20] = border[: side // 2, : side // 8] = border[: side // 2, -side // 8 :] = True
    basis = np.stack([np.ones_like(x), x, y, x * x, y * y, x * y, x**3, y**3], -1)
    distance = np.zeros((side, side))
    for channel, weight in enumerate((1.0, 3.0, 3.0)):
        plain = basis @ np.linalg.lstsq(basis[border], lab[..., channel][border], rcond=None)[0]
        distance += weight * (lab[..., channel] - plain) ** 2
    distance = np.sqrt(distance)
    guess = np.where(distance > 28, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    guess[distance > 60] = cv2.GC_FGD
    guess[border] = cv2.GC_BGD
    hull = cv2.convexHull(np.round(to_pixels(landmarks)).astype(np.int32))
    cv2.fillConvexPoly(guess, hull, cv2.GC_FGD)
    guess[round((2.6 - TOP) * UNIT) :, round((-0.8 - LEFT) * UNIT) : round((0.8 - LEFT) * UNIT)] = cv2.GC_FGD
    bgr = cv2.cvtColor(head, cv2.COLOR_RGB2BGR)
    cv2.setRNGSeed(0)
    cv2.grabCut(bgr, guess, None, np.zeros((1, 65)), np.zeros((1, 65)), 2, cv2.GC_INIT_WITH_MASK)
    solid = np.isin(guess, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.uint8)
    solid = cv2.morphologyEx(solid, cv2.MORPH_OPEN, np.ones((5, 5), np.uint8))
    _, labels, stats, _ = cv2.connectedComponentsWithStats(solid)
    solid = (labels == 1 + stats[1:, cv2.CC_STAT_AREA].argmax()).astype(np.uint8)
    outer, _ = cv2.findContours(solid, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return cv2.GaussianBlur(cv2.drawContours(solid, outer, -1, 1, -1).astype(np.float32), (0, 0), 1.0)


def follow_outline(alpha: Array) -> Array:
    """Return 17 points around the head, from ear over crown to ear, in eye distances."""
    found = []
    inside = np.pad(alpha > 0.5, 2)
    for angle in np.deg2rad(np.linspace(-205, 25, 17)):
        radius = np.arange(1.2 + 0.4 * max(0.0, -np.sin(angle)), 3.2, 0.01)
        line = np.stack([radius * np.cos(angle), 0.5 + radius * np.sin(angle)], 1)
        x, y = np.clip(np.round(to_pixels(line)).astype(int), -2, round(SIDE * UNIT) + 1).T + 2
        outside = np.flatnonzero(~inside[y, x])
        found.append(line[outside[0] if len(outside) else -1])
    return np.array(found)


def lay_out(points: Array) -> Array:
    """Map eye distances to the layout of textures, in which the face is larger than it should be."""
    middle = np.array([LEFT, TOP]) + SIDE / 2
    wide = (points - middle) / (1 + np.abs(points - middle) / 4.0)
    return (wide / (SIDE / 2 / (1 + SIDE / 8)) + 1) * (LAYOUT - 1) / 2


def to_texture(head: Array, alpha: Array, own: Array, points: Array, triangles: Array) -> Array:
    """Return one vector: Y, then Cb, Cr and matte at half size, 0 to 255, in the layout."""
    hue = cv2.cvtColor(head, cv2.COLOR_RGB2HSV).astype(np.float32)
    white = np.clip((hue[..., 2] - 150) / 50, 0, 1) * np.clip((50 - hue[..., 1]) / 25, 0, 1)
    white[: round((1.5 - TOP) * UNIT)] = 0
    white = cv2.medianBlur((white * 255).astype(np.uint8), 5).astype(np.float32) / 255
    skin = ((alpha > 0.95) & (white < 0.1)).astype(np.float32)
    skin = cv2.erode(skin, np.ones((3, 3)))
    color = spread(cv2.cvtColor(head, cv2.COLOR_RGB2YCrCb).astype(np.float32), skin)
    stack = np.dstack([color[..., [0, 2, 1]], alpha * 255]).astype(np.float32)
    source = to_pixels(np.concatenate([own, frame_points()]))
    place = mesh_map(points, source, triangles, (LAYOUT, LAYOUT))
    flat = np.dstack(
        [
            cv2.remap(part, place, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            for part in cv2.split(stack)
        ]
    )
    half = cv2.resize(flat[..., 1:], (LAYOUT // 2, LAYOUT // 2), interpolation=cv2.INTER_AREA)
    return np.concatenate([flat[..., 0].ravel(), half.transpose(2, 0, 1).ravel()])


def spread(image: Array, known: Array) -> Array:
    """Fill what is unknown with the colours nearby, coarser the farther away."""
    result, weight = image * known[..., None], known.copy()
    for sigma in (2, 4, 8, 16, 32, 64):
        color = cv2.GaussianBlur(image * known[..., None], (0, 0), sigma)
        amount = cv2.GaussianBlur(known, (0, 0), sigma)
        new = (weight < 0.5) & (amount > 0.02)
        result[new] = color[new] / amount[new][:, None]
        weight[new] = 1
    return result


def face_weight(points: Array) -> Array:
    """Return how much of each texture value may change with a smile: the face inside its outline."""
    mask = np.zeros((LAYOUT, LAYOUT), np.float32)
    cv2.fillConvexPoly(mask, cv2.convexHull(np.round(points[:68]).astype(np.int32)), 1.0)
    mask = cv2.GaussianBlur(cv2.erode(mask, np.ones((7, 7))), (0, 0), 3)
    half = cv2.resize(mask, (LAYOUT // 2, LAYOUT // 2), interpolation=cv2.INTER_AREA).ravel()
    return np.concatenate([mask.ravel(), half, half, np.zeros_like(half)])


if __name__ == "__main__":
    main()
