"""A shape (meshes, materials, colliders), and helpers that every family of shapes uses."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from training.sim.meshes import Mesh, rotation_xyz

Array = NDArray[np.float64]
Rng = np.random.Generator


@dataclass(frozen=True, eq=False)
class Collider:
    """A primitive used for contact only.

    Attributes:
        kind: box, cylinder, capsule, ellipsoid or sphere.
        size: MuJoCo half sizes, metres.
        offset: centre, metres.
        rotation: [3, 3].
    """

    kind: str
    size: tuple[float, ...]
    offset: tuple[float, float, float] = (0.0, 0.0, 0.0)
    rotation: Array = field(default_factory=lambda: np.eye(3))


@dataclass(frozen=True, eq=False)
class Shape:
    """One object.

    Attributes:
        parts: (mesh, finish) pairs; a finish names a kind of surface in `textures.FINISHES`.
        colliders: primitives that approximate the body.
        upright: probability of being put down the right way up.
    """

    parts: tuple[tuple[Mesh, str], ...]
    colliders: tuple[Collider, ...]
    upright: float = 0.6

    @property
    def bounds(self) -> Array:
        """[2, 3] lowest and highest vertex coordinates, metres."""
        points = np.concatenate([mesh.vertices for mesh, _ in self.parts])
        return np.stack([points.min(0), points.max(0)])


def pick(rng: Rng, *options: str) -> str:
    """Choose one of the options; a repeated one is likelier."""
    return options[int(rng.integers(len(options)))]


def cylinder(r: float, z0: float, z1: float) -> Collider:
    """Upright cylinder from height z0 to z1, metres."""
    return Collider("cylinder", (r, (z1 - z0) / 2), (0, 0, (z0 + z1) / 2))


def wall_ring(r: float, z0: float, z1: float, wall: float, lean: float = 0.0) -> list[Collider]:
    """Ten boxes around a vessel, so that things can lie inside it."""
    count, ring = 10, []
    for angle in np.arange(count) * 2 * np.pi / count:
        at = (r * np.cos(angle), r * np.sin(angle), (z0 + z1) / 2)
        turn = rotation_xyz(z=angle) @ rotation_xyz(y=lean)
        ring.append(Collider("box", (wall / 2, r * 0.34, (z1 - z0) / 2), at, turn))
    return ring


def arc(radius: float, start: float, stop: float, count: int) -> Array:
    """Points on a circle about the origin, [count, 2]; angles in radians."""
    angle = np.linspace(start, stop, count)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1)


def rounded(width: float, depth: float, radius: float) -> Array:
    """Counter-clockwise rounded rectangle, [P, 2] metres."""
    w, d = width / 2 - radius, depth / 2 - radius
    corners = [(w, d, 0), (-w, d, 0.5), (-w, -d, 1), (w, -d, 1.5)]
    arcs = [arc(radius, a * np.pi, (a + 0.5) * np.pi, 5) + np.array([x, y]) for x, y, a in corners]
    return np.concatenate(arcs)


def smoothed(points: list[tuple[float, float]]) -> Array:
    """Smooth a profile by Chaikin corner cutting, keeping both ends."""
    curve = np.array(points, float)
    for _ in range(2):
        near = 0.75 * curve[:-1] + 0.25 * curve[1:]
        far = 0.25 * curve[:-1] + 0.75 * curve[1:]
        curve = np.vstack([curve[:1], np.stack([near, far], 1).reshape(-1, 2), curve[-1:]])
    return curve
