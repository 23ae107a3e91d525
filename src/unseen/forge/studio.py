"""Where synthetic people are photographed: expression, pose, light, background and camera.

Everything is measured in distances between the eyes, from between the eyes, x to the right and y down; depth
towards the camera. The head is a rough ellipsoid with a nose, which is enough for small turns.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["Layers", "Scene", "expose", "express", "mesh_map", "pose"]

_Float = NDArray[np.float32]
_Points = NDArray[np.float64]

CLOSED = ((37, 41), (38, 40), (43, 47), (44, 46))  # upper lids and the lower ones that they fall on
FRAME = 98  # points from here on are the modelled square's border
TEETH, DARK = (168.0, 152.0, 140.0), (48.0, 20.0, 18.0)  # RGB


@dataclass(frozen=True)
class Scene:
    """How a person is seen.

    Args:
        smile: 0 neutral to 1 smiling with teeth.
        mouth: 0 closed to 1 wide open.
        blink: 0 open eyes to 1 closed.
        brows: -1 lowered to 1 raised.
        yaw: Turn of the head in degrees, positive to the picture's right; up to about 12 looks right.
        pitch: Nod in degrees, positive down; up to about 10.
        roll: Lean of the picture in degrees, clockwise.
        shift: Place of the eyes' middle, in eye distances from where it would stand.
        zoom: 1 for eyes a fifth of the picture's side apart.
        light: Strength of a lamp at one side, 0 to 1.
        lamp: Where it stands, degrees clockwise from the right.
        warmth: -1 bluish to 1 yellowish.
        exposure: In stops.
        background: Number of the background.
        sharpness: Standard deviation of the lens's blur in pixels.
        noise: Of the sensor in grey levels, at middle grey.
        grain: Number of the exposure; another number is other noise on the same picture.
    """

    smile: float = 0.0
    mouth: float = 0.0
    blink: float = 0.0
    brows: float = 0.0
    yaw: float = 0.0
    pitch: float = 0.0
    roll: float = 0.0
    shift: tuple[float, float] = (0.0, 0.0)
    zoom: float = 1.0
    light: float = 0.3
    lamp: float = 200.0
    warmth: float = 0.0
    exposure: float = 0.0
    background: int = 0
    sharpness: float = 0.45
    noise: float = 2.0
    grain: int = 0

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Scene:
        """Draw an everyday scene."""
        u = rng.uniform
        return cls(
            smile=float(rng.choice([0.0, u(0, 0.4), u(0.7, 1.0)])),
            mouth=float(rng.choice([0.0, 0.0, u(0.05, 0.25)])),
            blink=float(rng.choice([0.0, u(0, 0.15)])),
            brows=u(-0.4, 0.6),
            yaw=u(-9, 9),
            pitch=u(-5, 5),
            roll=u(-5, 5),
            shift=(u(-0.15, 0.15), u(-0.1, 0.15)),
            zoom=u(0.94, 1.12),
            light=u(0.1, 0.6),
            lamp=u(160, 380),
            warmth=u(-0.8, 0.8),
            exposure=u(-0.3, 0.25),
            background=int(rng.integers(1 << 30)),
            sharpness=u(0.35, 0.6),
            noise=u(1.2, 3.0),
        )


@dataclass(frozen=True, eq=False)
class Layers:
    """What is warped into a picture, on one grid.

    Shape:
        skin: (h, w, 3) float32 RGB, 0 to 255. matte: (h, w), 1 where somebody is. shirt: (h, w), 1 where the
        shirt is. normal: (h, w, 2), how far the surface faces right and down, -1 to 1.
    """

    skin: _Float
    matte: _Float
    shirt: _Float
    normal: _Float


def express(points: _Points, scene: Scene) -> _Points:
    """Move lips, chin, lids and brows of somebody neutral.

    Shape:
        points: (N, 2) in eye distances, the 81 landmarks first. Returns the same.
    """
    own = points.copy()
    if scene.mouth:
        own[[65, 66, 67], 1] += 0.32 * scene.mouth
        own[[55, 56, 57, 58, 59], 1] += np.array([0.22, 0.29, 0.3, 0.29, 0.22]) * scene.mouth
        own[[61, 62, 63], 1] -= 0.03 * scene.mouth
        own[[48, 54, 60, 64], 1] += 0.08 * scene.mouth
        own[[48, 60], 0] += 0.05 * scene.mouth
        own[[54, 64], 0] -= 0.05 * scene.mouth
        own[3:14, 1] += 0.26 * scene.mouth * np.sin(np.linspace(0.15, np.pi - 0.15, 11)) ** 1.5
    for upper, lower in CLOSED:
        own[upper] += 0.94 * scene.blink * (own[lower] - own[upper])
        own[lower, 1] -= 0.01 * scene.blink
    arch = np.array([0.5, 0.9, 1.0, 0.8, 0.5])
    own[17:22, 1] -= 0.09 * scene.brows * arch
    own[22:27, 1] -= 0.09 * scene.brows * arch[::-1]
    return own


def pose(points: _Points, scene: Scene, size: int) -> _Points:
    """Turn the head and place it in a picture.

    Args:
        points: Landmarks, outline and border, in eye distances.
        scene: Expression and pose.
        size: Side of the picture, pixels.

    Shape:
        points: (118, 2). Returns (118, 2) pixels.
    """
    own = express(points, scene)
    x, y = own[:, 0], own[:, 1] - 0.4
    depth = np.sqrt(np.clip(1 - (x / 1.35) ** 2 - (y / 2.0) ** 2, 0, 1))
    depth[27:31] += np.array([0.02, 0.08, 0.16, 0.25])  # down the nose
    depth[31:36] += np.array([0.05, 0.12, 0.16, 0.12, 0.05])
    depth[81:] = 0
    yaw, pitch = np.deg2rad([scene.yaw, scene.pitch])
    own[:FRAME, 0] += np.sin(yaw) * depth[:FRAME] - (1 - np.cos(yaw)) * x[:FRAME]
    own[:FRAME, 1] += np.sin(pitch) * depth[:FRAME] - (1 - np.cos(pitch)) * y[:FRAME]
    own[:FRAME] += scene.shift  # the square stays, and so does what a turn would pull in from outside
    roll, unit = np.deg2rad(scene.roll), scene.zoom * size / 5
    turn = unit * np.array([[np.cos(roll), -np.sin(roll)], [np.sin(roll), np.cos(roll)]])
    return own @ turn.T + [(size - 1) / 2, 0.47 * size]


def mesh_map(
    source: _Points, goal: NDArray[np.floating], triangles: NDArray[np.integer], size: tuple[int, int]
) -> _Float:
    """Return for each pixel of a picture where it lies in another one, by an affine map a triangle.

    Args:
        source: Corners in the picture that the map is for.
        goal: The same corners in the other picture.
        triangles: Rows of three corner numbers; later ones lie in front.
        size: (height, width) of the map. Pixels outside all triangles are far outside in the other too.

    Shape:
        source, goal: (N, 2). triangles: (T, 3). Returns (height, width, 2), x and y.
    """
    height, width = size
    label = np.zeros((height, width), np.int32)
    for number, corners in enumerate(triangles, 1):
        cv2.fillConvexPoly(label, np.round(source[corners] * 16).astype(np.int32), number, shift=4)
    sides = np.concatenate([source[triangles], np.ones((len(triangles), 3, 1))], 2)
    solid = np.abs(np.linalg.det(sides)) > 1e-2  # a closed eye's triangles have no area
    matrices = np.zeros((len(triangles) + 1, 3, 2))
    matrices[:, 2] = -1e4
    matrices[1:][solid] = np.linalg.solve(sides[solid], goal[triangles[solid]])
    own = matrices.astype(np.float32)[label]
    y, x = np.mgrid[:height, :width].astype(np.float32)
    return np.asarray(x[..., None] * own[:, :, 0] + y[..., None] * own[:, :, 1] + own[:, :, 2], np.float32)


def expose(
    layers: Layers,
    place: _Float,
    points: _Points,
    scene: Scene,
    shirt: tuple[float, float, float],
    rng: np.random.Generator,
) -> NDArray[np.uint8]:
    """Light the layers, put them before a background and take the picture.

    Args:
        layers: The person, on the layers' grid.
        place: Where each pixel lies on it.
        points: The person's points, in pixels.
        scene: Light, background and camera.
        shirt: Its colour, RGB, 0 to 1.
        rng: The sensor's noise.

    Shape:
        place: (H, W, 2). points: (118, 2). Returns (H, W, 3) uint8 RGB.
    """
    size = place.shape[:2]
    skin = _read(layers.skin, place)
    matte, worn, right, down = np.moveaxis(
        _read(np.dstack([layers.matte, layers.shirt, layers.normal]), place), 2, 0
    )
    if scene.mouth:
        _open_mouth(skin, points, scene.mouth)
    lamp = np.deg2rad(scene.lamp)
    shade = 1 + scene.light * (0.55 * (right * np.cos(lamp) + down * np.sin(lamp)) - 0.1)
    cloth = np.array(shirt, np.float32) * 235 * (0.92 - 0.1 * down + 0.12 * right)[..., None]
    person = skin + _step(worn, 0.35, 0.65)[..., None] * (cloth - skin)
    person *= np.maximum(shade, 0.15)[..., None].astype(np.float32)
    cover = _step(matte, 0.3, 0.75)[..., None]
    picture = cover * person + (1 - cover) * _background(scene.background, size, scene.light)
    gain = 2.0**scene.exposure * np.array([1 + 0.05 * scene.warmth, 1, 1 - 0.07 * scene.warmth])
    picture = cv2.GaussianBlur(picture * gain.astype(np.float32), (0, 0), max(scene.sharpness, 0.1))
    # Bright parts roll off instead of clipping, as in every camera.
    picture = np.where(picture > 215, 215 + 40 * np.tanh((picture - 215) / 40), np.maximum(picture, 0))
    # Shot noise grows with the root of the light; a mosaic sensor's interpolation makes it a little soft.
    noise = cv2.GaussianBlur(rng.standard_normal((*size, 3)).astype(np.float32), (0, 0), 0.55) * 1.7
    noise = 0.75 * noise.mean(2, keepdims=True) * np.sqrt(3) + 0.4 * noise
    picture += scene.noise * np.sqrt((picture + 12) / 140) * noise
    return np.asarray(np.clip(np.round(picture), 0, 255), np.uint8)


def _read(layer: _Float, place: _Float) -> _Float:
    return np.asarray(
        cv2.remap(layer, place[..., 0], place[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE),
        np.float32,
    )


def _step(x: _Float, low: float, high: float) -> _Float:
    t = np.clip((x - low) / (high - low), 0, 1)
    return np.asarray(t * t * (3 - 2 * t), np.float32)


def _open_mouth(picture: _Float, points: _Points, amount: float) -> None:
    """Paint what is between the lips: the texture has only a stretched line there."""
    unit = float(np.linalg.norm(points[45] - points[36])) / 1.4

    def inside(polygon: _Points) -> _Float:
        mask = np.zeros(picture.shape[:2], np.uint8)
        cv2.fillPoly(mask, [np.round(polygon * 16).astype(np.int32)], 255, lineType=cv2.LINE_AA, shift=4)
        return np.asarray(cv2.GaussianBlur(mask, (0, 0), max(0.02 * unit, 0.5)).astype(np.float32) / 255)

    lips = inside(points[60:68]) * min(1.0, 8 * amount)
    upper = points[60:65]
    down = (points[66] - points[62]) / max(float(np.linalg.norm(points[66] - points[62])), 1e-6)
    arch = 0.1 * np.array([0.0, 0.8, 1.0, 0.8, 0.0])[:, None] * unit
    teeth = inside(np.concatenate([upper - 0.05 * unit * down, (upper + arch * down)[::-1]])) * lips
    for cover, color in ((lips, DARK), (teeth, TEETH)):
        picture += (0.9 * cover)[..., None] * (np.array(color, np.float32) - picture)


@lru_cache(maxsize=4)
def _background(number: int, size: tuple[int, int], light: float) -> _Float:
    """Paint a wall, a studio sweep or a blurred room."""
    rng = np.random.default_rng([number, 3])
    height, width = size
    y, x = np.mgrid[:height, :width].astype(np.float32) / max(size)
    base = rng.uniform(40, 215) + rng.uniform(-13, 13, 3)
    across, along = rng.uniform(-35, 35, 2) * (0.5 + light)
    wall = base + (across * (x - 0.5) + along * (y - 0.5))[..., None]
    kind = rng.integers(3)
    if kind == 1:  # out of focus: lamps, leaves, furniture
        for _ in range(int(rng.integers(8, 22))):
            middle = rng.uniform(0, 1, 2) * [width, height]
            radius = rng.uniform(0.04, 0.22) * max(size)
            color = base + rng.uniform(-60, 70) + rng.uniform(-20, 20, 3)
            layer = np.zeros(size, np.float32)
            cv2.circle(layer, tuple(int(v) for v in middle), int(radius), 1.0, -1, cv2.LINE_AA)
            wall += (rng.uniform(0.2, 0.6) * layer)[..., None] * (color - wall)
        wall = cv2.GaussianBlur(wall, (0, 0), 0.03 * max(size))
    elif kind == 2:  # edges of a door, a shelf, a window
        for _ in range(int(rng.integers(1, 5))):
            edge, depth, upright = rng.uniform(0, 1), rng.uniform(-45, 45), rng.random() < 0.7
            wall += (depth * ((x if upright else y) > edge))[..., None] + rng.uniform(-4, 4, 3)
        wall = cv2.GaussianBlur(wall, (0, 0), rng.uniform(0.004, 0.02) * max(size))
    plaster = cv2.resize(
        rng.standard_normal((height // 3 + 1, width // 3 + 1)).astype(np.float32), (width, height)
    )
    return np.asarray(np.clip(wall + 1.5 * plaster[..., None], 4, 250), np.float32)
