"""Faces of nobody: people drawn from a small appearance model that this project learned itself.

An active appearance model (Cootes, Edwards & Taylor, "Active appearance models", PAMI 2001): mean and
principal components of where a face's points are and of what it looks like there, learned from volunteers
(`weights/NOTICE.md`; `scripts/learn_face_model.py` is how). A new person is a random mixture of all of them,
drawn again if it comes near a single one. Tests, examples and documents may show these faces freely.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from unseen.forge.family import Portrait
from unseen.forge.studio import Layers, Scene, expose, mesh_map, pose
from unseen.types import LANDMARKS, InputError

__all__ = ["Person", "Scene", "draw_person", "nearest_volunteer", "synthesise"]

LAYOUT = 224  # pixels, the side of the square in which textures are kept
FINE = 2  # pores and strands are drawn at this many times the layout
MOVING = 98  # points that move: 81 landmarks and 17 around the head
REACH = (-2.8, -2.6, 5.6)  # left, top and side of the modelled square, in eye distances from between the eyes
SPREAD = 0.8  # standard deviation of a coordinate; people have 1, and less looks more like one of them
APART = 0.6  # least distance to a volunteer, as a share of what two people are apart on average

_Float = NDArray[np.float32]
_WEIGHTS = Path(__file__).parent / "weights" / "face_model.npz"


@dataclass(frozen=True, eq=False)
class _Model:
    """The learned file, in floats."""

    points: _Float  # (118, 2) layout pixels, the frame's corners last
    triangles: NDArray[np.int16]  # (T, 3)
    mean_shape: _Float  # (98, 2) eye distances
    shape_components: _Float  # (K, 98, 2)
    mean_texture: _Float  # (D,) Y, then Cb, Cr, matte at half size
    texture_components: _Float  # (K, D)
    smile_shape: _Float  # (81, 2)
    smile_texture: _Float  # (D,)
    detail: _Float  # (h, w) standard deviation of what the components do not hold, grey levels
    people: _Float  # (P, K) the volunteers' coordinates, to keep away from


@dataclass(frozen=True, eq=False)
class Person:
    """Somebody who does not exist.

    Shape:
        coordinates: (K,) float32, in standard deviations of the volunteers.
    """

    seed: int
    coordinates: _Float
    shirt: tuple[float, float, float]  # RGB, 0 to 1

    @property
    def name(self) -> str:
        """The identity that manifests carry."""
        return f"synthetic{self.seed:05d}"


def synthesise(seed: int, *, size: int = 320, scene: Scene | None = None, shot: int = 0) -> Portrait:
    """Photograph somebody who does not exist.

    The same seed is the same person whatever the scene; the same arguments give the same picture.

    Args:
        seed: Who, zero or more.
        size: Side of the square picture in pixels, 64 to 1024; the eyes are a fifth of it apart.
        scene: Expression, pose, light, background and camera; drawn from `seed` and `shot` if None.
        shot: Number of the photograph, so that one person can have several.

    Returns:
        Head and shoulders with the landmarks of the model, which no face finder had to find.

    Raises:
        InputError: If the size or the seed is out of range.
    """
    if not 64 <= size <= 1024:
        raise InputError(f"synthesise: size {size}; expected 64 to 1024 pixels", reason="bad_size")
    if scene is None:
        scene = Scene.draw(np.random.default_rng([_seed(seed), 1, shot]))
    person, model = draw_person(seed), _model()
    own = model.mean_shape + np.tensordot(person.coordinates, model.shape_components, 1)
    own[:LANDMARKS] += scene.smile * model.smile_shape
    # A mixture must not bring the ears inside the cheeks, which would fold the picture over.
    own[[81, 82, 83], 0] = np.minimum(own[[81, 82, 83], 0], own[[3, 2, 1], 0] - 0.08)
    own[[97, 96, 95], 0] = np.maximum(own[[97, 96, 95], 0], own[[13, 14, 15], 0] + 0.08)
    points = pose(np.concatenate([own, frame_points()]), scene, size)
    layers = _layers(seed, round(float(np.clip(scene.smile, 0, 1)) * 50))
    place = mesh_map(points, model.points * FINE + (FINE - 1) / 2, model.triangles, (size, size))
    grain = np.random.default_rng([_seed(seed), 2, shot, scene.grain])
    image = expose(layers, place, points, scene, person.shirt, grain)
    return Portrait(
        image=image,
        landmarks=points[:LANDMARKS].astype(np.float32),
        identity=person.name,
        path=f"{person.name}/{shot}",
    )


@cache
def draw_person(seed: int) -> Person:
    """Draw a person who resembles no single volunteer.

    Args:
        seed: Who, zero or more.
    """
    rng, model = np.random.default_rng([_seed(seed), 0]), _model()
    while True:
        # Beyond two standard deviations mixtures look like damage rather than like people.
        draws = np.clip(rng.standard_normal(len(model.texture_components)), -2, 2)
        coordinates = np.asarray(SPREAD * draws, np.float32)
        if nearest_volunteer(coordinates) >= APART:
            break
    lightness, strength = rng.uniform(0.12, 0.9), rng.uniform(0.0, 0.5)
    tint = rng.random(3) * strength + 1 - strength
    red, green, blue = (float(c) for c in lightness * tint / tint.max())
    return Person(seed, coordinates, (red, green, blue))


def nearest_volunteer(coordinates: _Float) -> float:
    """Return how far the nearest volunteer is, as a share of what two volunteers are apart on average.

    Shape:
        coordinates: (K,), in standard deviations.
    """
    people = _model().people
    distance = float(np.sqrt(((people - coordinates) ** 2).sum(1)).min())
    return distance / float(np.sqrt(2 * people.shape[1]))  # unit variance in each of K coordinates


@cache
def _model() -> _Model:
    with np.load(_WEIGHTS, allow_pickle=False) as file:
        step = float(file["step"])
        return _Model(
            points=file["points"],
            triangles=file["triangles"],
            mean_shape=file["mean_shape"],
            shape_components=file["shape_components"].astype(np.float32),
            mean_texture=file["mean_texture"].astype(np.float32),
            texture_components=file["texture_components"].astype(np.float32) * step,
            smile_shape=file["smile_shape"],
            smile_texture=file["smile_texture"].astype(np.float32) * step,
            detail=file["detail"].astype(np.float32) / 8,
            people=file["people"].astype(np.float32) / 32,
        )


@cache
def frame_points() -> NDArray[np.float64]:
    """Return 20 points around the modelled square, in eye distances."""
    along, one, nil = np.arange(5) / 5, np.ones(5), np.zeros(5)
    sides = ((along, nil), (one, along), (1 - along, one), (nil, 1 - along))
    left, top, side = REACH
    return np.concatenate([np.stack(pair, 1) for pair in sides]) * side + [left, top]


def _seed(seed: int) -> int:
    if seed < 0:
        raise InputError(f"synthesise: seed {seed}; expected zero or more", reason="bad_seed")
    return int(seed)


@lru_cache(maxsize=16)
def _layers(seed: int, smile: int) -> Layers:
    """Paint a person on the fine grid; `smile` in fiftieths."""
    model, person = _model(), draw_person(seed)
    texture = model.mean_texture + person.coordinates @ model.texture_components
    texture = texture + (smile / 50) * model.smile_texture
    side = FINE * LAYOUT
    luma = _enlarge(texture[: LAYOUT * LAYOUT].reshape(LAYOUT, LAYOUT), side)
    blue, red, matte = (
        _enlarge(plane, side) for plane in texture[LAYOUT * LAYOUT :].reshape(3, LAYOUT // 2, LAYOUT // 2)
    )
    luma += 0.6 * (luma - cv2.GaussianBlur(luma, (0, 0), 2.0))  # what enlarging has softened
    points = model.points * FINE + (FINE - 1) / 2
    rng = np.random.default_rng([_seed(seed), 4])
    jaw = _fill(np.concatenate([points[:17], points[26:16:-1]]), side, 1.5)
    x, y = np.moveaxis(_unit_grid(side), 2, 0)
    body, shirt = _body(x, y, rng)
    places = np.round((points[[2, 14]] + points[[31, 35]]) / 2).astype(int)
    cheek = np.array([[p[py, px] for p in (luma, blue, red)] for px, py in places]).mean(0)
    hair = _hair((luma, blue, red), cheek) * (1 - _fill(points[np.r_[0:17, 79:69:-1]], side, 6))
    # The neck is whatever hair and collars left of it: most of it is painted anew in the cheeks' colour.
    neck = np.clip((y - 0.9) / 0.5, 0, 1) * (1 - jaw) * 0.8
    shadow = 0.7 + 0.24 * np.clip((y - 1.5) / 1.2, 0, 1) - 0.16 * np.abs(x) ** 2
    for plane, value in (
        (luma, cheek[0] * shadow),
        (blue, 0.8 * cheek[1] + 25.6),
        (red, 0.8 * cheek[2] + 25.6),
    ):
        plane += neck * (value - plane)
    hair *= 1 - np.clip((y - 0.9) / 0.5, 0, 1)
    amount = cv2.resize(model.detail, (side, side), interpolation=cv2.INTER_LINEAR)
    luma *= 1 - 0.15 * hair
    luma += (1 - hair) * 0.35 * amount * _pores(rng, side) + hair * 0.1 * luma * _strands(rng, side)
    skin = np.dstack(
        [
            luma + 1.402 * (red - 128),
            luma - 0.344 * (blue - 128) - 0.714 * (red - 128),
            luma + 1.772 * (blue - 128),
        ]
    )
    head = np.maximum(matte / 255 * np.clip((1.3 - y) / 0.35, 0, 1), jaw)
    above = y < 2.0
    normal = np.dstack([np.where(above, x / 1.4, x / 3), np.where(above, (y - 0.3) / 2.2, (y - 2.9) / 2)])
    return Layers(
        skin=np.clip(skin, 0, 255).astype(np.float32),
        matte=np.maximum(head, body).astype(np.float32),
        shirt=np.asarray(shirt * (1 - head), np.float32),
        normal=cv2.GaussianBlur(np.clip(normal, -1, 1).astype(np.float32), (0, 0), 8),
    )


def _body(x: _Float, y: _Float, rng: np.random.Generator) -> tuple[_Float, _Float]:
    """Draw neck and shoulders, and how much of them the shirt covers.

    Shape:
        x, y: (h, w), eye distances. Returns two (h, w) in [0, 1].
    """
    wide, drop, low, pointed = rng.uniform([0.72, 1.8, 2.05, 0.0], [0.9, 2.05, 2.5, 0.6])
    side = np.abs(x)
    # The neck widens into shoulders that fall off slowly.
    shoulder = drop + 0.16 * np.maximum(side - wide, 0) + 0.1 * np.maximum(side - 1.6, 0) ** 2
    shoulder -= 0.45 * np.exp(-np.maximum(side - wide, 0) / 0.16) * (side < 2)
    inside = np.where(side < wide, 1.0, np.clip((y - shoulder) / 0.04 + 0.5, 0, 1))
    inside *= np.clip((y - 0.8) / 0.1, 0, 1)
    collar = low - (low - drop + 0.15) * (side / (wide + 0.12)) ** (2 - pointed)
    worn = np.clip((y - np.where(side < wide + 0.12, collar, 0)) / 0.03 + 0.5, 0, 1)
    return inside.astype(np.float32), (worn * np.clip((y - 1.4) / 0.02, 0, 1)).astype(np.float32)


def _fill(polygon: NDArray[np.floating], side: int, blur: float) -> _Float:
    mask = np.zeros((side, side), np.uint8)
    cv2.fillPoly(mask, [np.round(polygon).astype(np.int32)], 255, lineType=cv2.LINE_AA)
    return np.asarray(cv2.GaussianBlur(mask, (0, 0), blur).astype(np.float32) / 255, np.float32)


def _enlarge(plane: _Float, side: int) -> _Float:
    return np.asarray(cv2.resize(plane, (side, side), interpolation=cv2.INTER_CUBIC), np.float32)


def _hair(planes: tuple[_Float, _Float, _Float], skin: NDArray[np.floating]) -> _Float:
    """Return how far colours (Y, Cb, Cr) are from the skin's, 0 to 1."""
    weights = (0.7, 2.0, 2.0)
    far = sum(w * np.abs(p - s) for w, p, s in zip(weights, planes, skin, strict=True))
    return np.asarray(np.clip((cv2.GaussianBlur(far, (0, 0), 3) - 25) / 35, 0, 1), np.float32)


def _pores(rng: np.random.Generator, side: int) -> _Float:
    """Return fine grain of unit spread."""
    noise = rng.standard_normal((side, side)).astype(np.float32)
    grain = cv2.GaussianBlur(noise, (0, 0), 1.0) - cv2.GaussianBlur(noise, (0, 0), 3.0)
    return np.asarray(grain / grain.std(), np.float32)


def _strands(rng: np.random.Generator, side: int) -> _Float:
    """Return lines that run from the crown, of unit spread."""
    x, y = np.moveaxis(_unit_grid(side), 2, 0)
    angle = (np.arctan2(y + 1.0, x) / (2 * np.pi) + 0.5) * 1400
    radius = np.hypot(x, y + 1.0) * 10
    noise = rng.standard_normal((64, 1400)).astype(np.float32)
    combed = cv2.GaussianBlur(noise, (0, 0), sigmaX=1.2, sigmaY=2.0)
    wave = 8 * cv2.GaussianBlur(rng.standard_normal((side, side)).astype(np.float32), (0, 0), 25) * 50
    lines = cv2.remap(
        combed,
        (angle + wave).astype(np.float32),
        radius.astype(np.float32),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_WRAP,
    )
    return np.asarray(lines / lines.std(), np.float32)


@cache
def _unit_grid(side: int) -> _Float:
    """Return where each pixel of the layout is in the mean face, in eye distances; undoes `lay_out`."""
    left, top, reach = REACH
    wide = (np.arange(side, dtype=np.float32) + 0.5) / side * 2 - 1
    wide = wide * (reach / 2 / (1 + reach / 8))
    plain = wide / (1 - np.abs(wide) / 4) + reach / 2
    return np.stack(np.meshgrid(plain + left, plain + top), axis=-1)
