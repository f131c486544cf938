"""Coloured polygons in 3D, seen by a pinhole camera.

`rasterize` stores the number of the visible polygon at every pixel. Colour, class, instance and depth are looked up by
that number, so image and label agree at every pixel.

Coordinates are metres: x to the right, y up from the road surface, z ahead of the camera.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

import cv2
import numpy as np

from clan.datasets.labels import CITYSCAPES

TRAIN_ID = {name: train_id for train_id, name in enumerate(CITYSCAPES.names)}

Range = tuple[float, float]
Point = np.ndarray | tuple[float, float, float]

NEAR, FAR = 1.2, 500.0  # metres; depth is clipped to this range
SUBPIXEL_BITS = 4


class Material(IntEnum):
    """Selects the texture of a polygon."""

    SKY = 0
    ROAD = 1
    PAVING = 2
    MASONRY = 3
    LEAVES = 4
    PLAIN = 5


class Part(NamedTuple):
    """One flat polygon with its surface."""

    corners: np.ndarray  # float64 [N, 3], metres
    train_id: int
    color: np.ndarray
    material: Material
    instance: int


def rgb(color: str) -> np.ndarray:
    """Converts "#rrggbb" to float32 [3], 0…1."""
    return np.frombuffer(bytes.fromhex(color[1:]), np.uint8).astype(np.float32) / 255


@dataclass(frozen=True)
class Camera:
    """A pinhole camera along the street; small pitch and pan are approximated by moving the vanishing point."""

    eye: tuple[float, float, float]  # position, metres
    focal: float  # focal length, pixels
    vanishing: tuple[float, float]  # (u, v) of the street's vanishing point, pixels

    def project(self, points: np.ndarray) -> np.ndarray:
        """Projects points in front of the camera: metres [N, 3] → pixels [N, 2]."""
        x, y, z = (points - self.eye).T
        u0, v0 = self.vanishing
        return np.stack([u0 + self.focal * x / z, v0 - self.focal * y / z], axis=1)

    def rays(self, width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns the slopes x/z of every column, float32 [1, W], and y/z of every row, float32 [H, 1]."""
        u0, v0 = self.vanishing
        across = (np.arange(width, dtype=np.float32) - u0) / self.focal
        up = (v0 - np.arange(height, dtype=np.float32)) / self.focal
        return across[None, :], up[:, None]


@dataclass
class Thing:
    """An object in the street, drawn in the order of its parts.

    Local coordinates are (right, up, forward) from the foot point; `yaw` rotates forward from z to x, in radians.
    """

    eye: tuple[float, float, float]
    position: tuple[float, float] = (0.0, 0.0)
    yaw: float = 0.0
    instance: int = 0
    parts: list[Part] = field(default_factory=list)

    def __post_init__(self) -> None:
        cos, sin = math.cos(self.yaw), math.sin(self.yaw)
        self._turn = np.array([[cos, 0, -sin], [0, 1, 0], [sin, 0, cos]])
        self._foot = np.array([self.position[0], 0.0, self.position[1]])
        self._seen_from = self._turn @ (np.array(self.eye) - self._foot)
        self.near_side, _, self.near_end = np.where(self._seen_from < 0, -1, 1)

    def face(
        self, corners: np.ndarray | Sequence[Point], name: str, color: np.ndarray, material: Material = Material.PLAIN
    ) -> None:
        """Adds a flat polygon with corners [N, 3] of class `name`."""
        placed = np.asarray(corners, np.float64) @ self._turn + self._foot
        self.parts.append(Part(placed, TRAIN_ID[name], color, material, self.instance))

    def limb(self, start: Point, end: Point, widths: tuple[float, float], name: str, color: np.ndarray) -> None:
        """Adds a bar between two points that always faces the camera; `widths` are those at start and end."""
        ends = np.array([start, end]) @ self._turn
        x, y, _ = ends[1] - ends[0]
        across = np.array([-y, x, 0.0]) / max(math.hypot(x, y), 1e-6) / 2
        first, last = widths
        corners = ends[[0, 0, 1, 1]] + np.array([[-first], [first], [last], [-last]]) * across
        self.parts.append(Part(corners + self._foot, TRAIN_ID[name], color, Material.PLAIN, self.instance))

    def blob(
        self,
        center: Point,
        radii: np.ndarray | float,
        name: str,
        color: np.ndarray,
        material: Material = Material.PLAIN,
    ) -> None:
        """Adds a disc that faces the camera, or a polygon with one radius per corner."""
        radius = np.atleast_1d(radii)[:, None]
        circle = _circle(16 if len(radius) == 1 else len(radius)) * radius
        corners = circle + (np.array(center) @ self._turn + self._foot)
        self.parts.append(Part(corners, TRAIN_ID[name], color, material, self.instance))

    def wheel(self, right: float, forward: float, radius: float, name: str, color: np.ndarray) -> None:
        """Adds a wheel on the ground."""
        disc = _circle(14)[:, [2, 1, 0]] * radius
        self.face(disc + np.array([right, radius, forward]), name, color)

    def prism(
        self, profile: Sequence[tuple[float, float]], width: float, name: str, colors: Sequence[np.ndarray]
    ) -> None:
        """Adds the visible faces of a convex (forward, up) profile extruded to `width`.

        Args:
            profile: corners; edge i connects corner i to corner i + 1.
            width: total extent across, metres.
            name: class of all faces.
            colors: colour of the two sides, then one per edge of the profile.
        """
        outline = np.array(profile, np.float64)
        following = np.roll(outline, -1, axis=0)
        for right in (-width / 2, width / 2):
            if self._seen_from[0] / right > 1:
                self.face(np.insert(outline[:, ::-1], 0, right, axis=1), name, colors[0])
        # An edge is visible if the eye and the profile's centre are on opposite sides of it.
        eye_side = _side_of(self._seen_from[[2, 1]], outline, following)
        inner_side = _side_of(outline.mean(axis=0), outline, following)
        for edge in np.flatnonzero(eye_side * inner_side < 0):
            (ahead, up), (next_ahead, next_up) = outline[edge], following[edge]
            x = width / 2
            corners = [(-x, up, ahead), (x, up, ahead), (x, next_up, next_ahead), (-x, next_up, next_ahead)]
            self.face(corners, name, colors[edge + 1])


@dataclass(frozen=True)
class Wall:
    """A vertical plane; panels on it are placed by distance along the wall and height."""

    thing: Thing  # receives the panels
    name: str  # class of the panels
    corner: tuple[float, float]  # (x, z) of the origin
    direction: tuple[float, float]  # unit vector (x, z) along the wall

    def panel(self, along: Range, up: Range, color: np.ndarray, material: Material = Material.PLAIN) -> None:
        """Adds a rectangle on top of earlier ones."""
        (x, z), (dx, dz) = self.corner, self.direction
        (x0, z0), (x1, z1) = ((x + distance * dx, z + distance * dz) for distance in along)
        corners = [(x0, up[0], z0), (x1, up[0], z1), (x1, up[1], z1), (x0, up[1], z0)]
        self.thing.face(corners, self.name, color, material)


def _side_of(point: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Returns float [N] whose sign is the side of each line (start → end, [N, 2] each) that a point is on."""
    (dx, dy), (px, py) = (ends - starts).T, (point - starts).T
    return dx * py - dy * px


@lru_cache
def _circle(corners: int) -> np.ndarray:
    """Returns the unit circle in x and y as a polygon, float64 [corners, 3]."""
    angles = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    return np.stack([np.cos(angles), np.sin(angles), np.zeros(corners)], axis=1)


@dataclass
class Scene:
    """Objects with their distances, the camera and the shadows on the ground."""

    camera: Camera
    things: list[tuple[float, Thing]] = field(default_factory=list)
    shadows: list[np.ndarray] = field(default_factory=list)

    def add(
        self, distance: float, position: tuple[float, float] = (0.0, 0.0), yaw: float = 0.0, instance: int = 0
    ) -> Thing:
        """Adds an empty object, which nearer objects occlude."""
        thing = Thing(self.camera.eye, position, yaw, instance)
        self.things.append((distance, thing))
        return thing

    def parts(self) -> list[Part]:
        """Returns all parts, farthest object first."""
        ordered = sorted(self.things, key=lambda entry: -entry[0])
        return [part for _, thing in ordered for part in thing.parts]


class Surfaces(NamedTuple):
    """Visible surfaces: `number` [H, W] indexes the other arrays, which have one row per part."""

    number: np.ndarray
    train_id: np.ndarray
    color: np.ndarray
    material: np.ndarray
    instance: np.ndarray
    normal: np.ndarray
    inverse_depth: np.ndarray


def rasterize(camera: Camera, parts: Sequence[Part], width: int, height: int) -> Surfaces:
    """Draws parts in order and computes the plane of each.

    On a plane, 1/z is linear in the ray's slopes: a·across + b·up + c. `inverse_depth` holds (a, b, c) of each part.

    Args:
        camera: the camera.
        parts: polygons; edges that begin behind the camera must be parallel to z.
        width: of the map, pixels.
        height: of the map, pixels.

    Returns:
        The map and the tables it indexes; normals face the camera.
    """
    starts = np.cumsum([0] + [len(part.corners) for part in parts])
    corners = np.concatenate([part.corners for part in parts])
    # Clamping is exact clipping for walls and ground, whose edges are parallel to z.
    corners[:, 2] = np.maximum(corners[:, 2], NEAR)
    pixels = (camera.project(corners) * (1 << SUBPIXEL_BITS)).clip(-1e6, 1e6).round().astype(np.int32)

    number = np.zeros((height, width), np.int32)
    for index, (start, end) in enumerate(pairwise(starts)):
        cv2.fillPoly(number, [pixels[start:end]], index, shift=SUBPIXEL_BITS)

    origin = corners[starts[:-1]]
    second, third = corners[starts[:-1] + 1], corners[starts[:-1] + 2]
    normal = np.cross(second - origin, third - origin)
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-9)
    offset = np.sum(normal * (origin - camera.eye), axis=1, keepdims=True)
    normal = np.where(offset > 0, -normal, normal)
    distance = np.minimum(-np.abs(offset), -1e-6)
    return Surfaces(
        number,
        np.array([part.train_id for part in parts], np.uint8),
        np.array([part.color for part in parts], np.float32),
        np.array([part.material for part in parts], np.uint8),
        np.array([part.instance for part in parts], np.uint8),
        normal.astype(np.float32),
        (normal / distance).astype(np.float32),
    )
