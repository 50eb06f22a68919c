"""Families of everyday shapes, each a random generator of meshes and simple colliders.

Bodies stand on the table along +z when upright. What is seen are detailed meshes; what collides
are a few primitives inside them, so that scenes settle quickly.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from training.sim.meshes import (
    Mesh,
    box,
    extrude,
    lathe,
    merge,
    rotation_xyz,
    superellipsoid,
    sweep,
)

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


def _pick(rng: Rng, *options: str) -> str:
    return options[int(rng.integers(len(options)))]


def _cylinder(r: float, z0: float, z1: float) -> Collider:
    return Collider("cylinder", (r, (z1 - z0) / 2), (0, 0, (z0 + z1) / 2))


def _wall_ring(r: float, z0: float, z1: float, wall: float, lean: float = 0.0) -> list[Collider]:
    """Ten boxes around a vessel, so that things can lie inside it."""
    count, ring = 10, []
    for angle in np.arange(count) * 2 * np.pi / count:
        at = (r * np.cos(angle), r * np.sin(angle), (z0 + z1) / 2)
        turn = rotation_xyz(z=angle) @ rotation_xyz(y=lean)
        ring.append(Collider("box", (wall / 2, r * 0.34, (z1 - z0) / 2), at, turn))
    return ring


def _arc(radius: float, start: float, stop: float, count: int = 12) -> Array:
    angle = np.linspace(start, stop, count)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1)


def _rounded(width: float, depth: float, radius: float) -> Array:
    """Counter-clockwise rounded rectangle, [P, 2] metres."""
    w, d = width / 2 - radius, depth / 2 - radius
    corners = [(w, d, 0), (-w, d, 0.5), (-w, -d, 1), (w, -d, 1.5)]
    arcs = [_arc(radius, a * np.pi, (a + 0.5) * np.pi, 5) + (x, y) for x, y, a in corners]
    return np.concatenate(arcs)


def _ladder(points: list[tuple[float, float]], count: int = 5) -> Array:
    """Smooth a profile by Chaikin corner cutting, keeping both ends."""
    curve = np.array(points, float)
    for _ in range(2 if count > 3 else 1):
        near = 0.75 * curve[:-1] + 0.25 * curve[1:]
        far = 0.25 * curve[:-1] + 0.75 * curve[1:]
        curve = np.vstack([curve[:1], np.stack([near, far], 1).reshape(-1, 2), curve[-1:]])
    return curve


# ---- boxes and flat things ----------------------------------------------------------------------


def carton(rng: Rng) -> Shape:
    """Cereal box, tea box, parcel: a printed cuboid, sometimes with a gable top."""
    x, y, z = rng.uniform(0.04, 0.2), rng.uniform(0.025, 0.1), rng.uniform(0.04, 0.26)
    finish = _pick(rng, "print", "print", "print", "pattern", "plain", "paper")
    parts = [(box((x, y, z)), finish)]
    if rng.random() < 0.15:
        x = y = float(rng.uniform(0.06, 0.1))
        gable = extrude([(-y / 2, 0), (y / 2, 0), (0, y * 0.5)], x)
        gable = gable.moved((0, 0, z / 2), rotation_xyz(x=np.pi / 2))
        parts = [(box((y, x, z)), finish), (gable, finish)]
        return Shape(tuple(parts), (Collider("box", (y / 2, x / 2, z / 2)),), 0.6)
    return Shape(tuple(parts), (Collider("box", (x / 2, y / 2, z / 2)),), 0.5)


def parcel(rng: Rng) -> Shape:
    """A lower, wider box, open or taped."""
    x, y, z = rng.uniform(0.08, 0.24), rng.uniform(0.08, 0.2), rng.uniform(0.03, 0.12)
    parts = [(box((x, y, z)), _pick(rng, "paper", "print", "plain", "wood"))]
    if rng.random() < 0.5:
        tape = box((x * 1.004, y * rng.uniform(0.12, 0.3), z * 1.004))
        parts.append((tape, _pick(rng, "plain", "pattern")))
    return Shape(tuple(parts), (Collider("box", (x / 2, y / 2, z / 2)),), 0.9)


def book(rng: Rng) -> Shape:
    """Cover boards around a paler block of pages."""
    x, y, z = rng.uniform(0.1, 0.2), rng.uniform(0.14, 0.27), rng.uniform(0.01, 0.05)
    board = min(0.003, z / 5)
    cover = [box((x, y, board)).moved((0, 0, s * (z - board) / 2)) for s in (-1, 1)]
    cover.append(box((board, y, z)).moved((-x / 2, 0, 0)))
    pages = box((x * 0.96, y * 0.97, z - 2 * board))
    return Shape(
        ((merge(cover), _pick(rng, "print", "plain", "pattern")), (pages, "paper")),
        (Collider("box", (x / 2, y / 2, z / 2)),),
        0.85,
    )


def device(rng: Rng) -> Shape:
    """Phone, remote control, calculator: a rounded slab with screen or keys."""
    x, y, z = rng.uniform(0.04, 0.09), rng.uniform(0.1, 0.2), rng.uniform(0.008, 0.03)
    body = extrude(_rounded(x, y, min(x, y) * rng.uniform(0.1, 0.4)), z)
    parts = [(body, _pick(rng, "dark", "plain", "metal"))]
    if rng.random() < 0.5:
        screen = box((x * 0.86, y * rng.uniform(0.3, 0.85), 0.001)).moved((0, 0, z / 2))
        parts.append((screen, _pick(rng, "dark", "print", "pattern")))
    else:
        keys = [
            box((x * 0.18, y * 0.07, 0.004)).moved((i * x * 0.27, j * y * 0.13, z / 2))
            for i in (-1, 0, 1)
            for j in range(-3, 3)
        ]
        parts.append((merge(keys), "plain"))
    return Shape(tuple(parts), (Collider("box", (x / 2, y / 2, z / 2)),), 0.85)


def soap(rng: Rng) -> Shape:
    """Soap bar, sponge, pillow pack, bag of crisps: a rounded cushion."""
    size = np.sort(rng.uniform(0.03, 0.19, 3))[::-1] * (1, 0.9, 0.6)
    body = superellipsoid(size, rng.uniform(0.25, 0.8))
    wrinkle = rng.normal(0, 0.012, 3) * np.sin(body.vertices @ rng.normal(0, 60, (3, 1)))
    body = body.warped(wrinkle * size.min() * 2)
    finish = _pick(rng, "plain", "print", "pattern", "noise", "print")
    half = tuple(float(s) for s in size / 2 * 0.85)
    return Shape(((body, finish),), (Collider("box", half),), 0.85)


def toy_brick(rng: Rng) -> Shape:
    """A studded building brick or a painted block with raised shapes."""
    pitch = rng.uniform(0.012, 0.03)
    nx, ny = int(rng.integers(1, 4)), int(rng.integers(2, 6))
    height = pitch * rng.uniform(0.6, 1.6)
    stud = lathe([(pitch * 0.3, 0), (pitch * 0.3, pitch * 0.22), (0, pitch * 0.22)], segments=10)
    meshes = [box((nx * pitch, ny * pitch, height))]
    for i in range(nx):
        for j in range(ny):
            at = ((i - (nx - 1) / 2) * pitch, (j - (ny - 1) / 2) * pitch, height / 2)
            meshes.append(stud.moved(at))
    half = (nx * pitch / 2, ny * pitch / 2, height / 2)
    return Shape(
        ((merge(meshes), _pick(rng, "plain", "plain", "wood")),), (Collider("box", half),)
    )


# ---- revolved things ----------------------------------------------------------------------------


def can(rng: Rng) -> Shape:
    """Food can or drink can with rims and a printed side."""
    r, h = rng.uniform(0.025, 0.055), rng.uniform(0.04, 0.17)
    rim, neck = r * rng.uniform(0.01, 0.12), r * rng.uniform(0.02, 0.2)
    low = [(r - rim, -h / 2), (r, -h / 2 + neck)]
    high = [(r, h / 2 - neck), (r - rim, h / 2)]
    lid = [
        (r - rim, h / 2),
        (r - rim - 0.002, h / 2),
        (r - rim - 0.003, h / 2 - 0.004),
        (0, h / 2 - 0.004),
    ]
    base = [(0, -h / 2 + 0.002), (r - rim - 0.003, -h / 2 + 0.002), (r - rim, -h / 2)]
    ends = merge([lathe(lid), lathe(base)])
    return Shape(
        (
            (lathe(low + high), _pick(rng, "print", "print", "pattern", "metal", "plain")),
            (ends, _pick(rng, "metal", "metal", "plain")),
        ),
        (_cylinder(r, -h / 2, h / 2),),
        0.65,
    )


def bottle(rng: Rng) -> Shape:
    """Bottle with shoulder, neck and cap; label or plain; sometimes flattened."""
    r, h = rng.uniform(0.022, 0.05), rng.uniform(0.12, 0.3)
    neck = r * rng.uniform(0.25, 0.6)
    shoulder, top = h * rng.uniform(0.45, 0.75), h * rng.uniform(0.78, 0.95)
    waist = r * rng.uniform(0.8, 1.05)
    squash = rng.uniform(0.5, 0.9) if rng.random() < 0.25 else 1.0
    side = [(r * 0.85, 0), (r, h * 0.03), (waist, shoulder * 0.5), (r, shoulder * 0.95)]
    curve = np.vstack(
        [
            [(0, 0)],
            _ladder([*side, (r * 0.95, shoulder), (neck, top), (neck, top + h * 0.01)]),
            [(neck, top + h * 0.02)],
        ]
    )
    curve[:, 1] -= h / 2
    cap_r = neck * rng.uniform(1.0, 1.4)
    cap = [(cap_r, top), (cap_r, h * 0.99), (cap_r * 0.9, h), (0, h)]
    cap = [(0, top), *cap]
    cap_mesh = lathe(cap, segments=18).moved((0, 0, -h / 2))
    glass = rng.random() < 0.15
    parts = [
        (
            lathe(curve, squash=squash),
            "glass" if glass else _pick(rng, "label", "label", "plain", "print", "pattern"),
        ),
        (cap_mesh, _pick(rng, "plain", "dark", "metal")),
    ]
    if rng.random() < 0.2:  # spray head
        head = box((cap_r * 1.6, cap_r * 3.6, cap_r * 1.4)).moved(
            (0, cap_r * 0.8, h / 2 + cap_r * 0.6)
        )
        parts.append((head, "plain"))
    if glass or rng.random() < 0.3:
        z0, z1 = np.sort(rng.uniform(0.08, 0.9, 2)) * shoulder
        if z1 - z0 > 0.02 and waist > 0.97 * r:
            band = lathe([(r * 1.01, z0 - h / 2), (r * 1.01, z1 - h / 2)], squash=squash)
            parts.append((band, "print"))
    colliders = (
        Collider("cylinder", (r * (1 + squash) / 2, shoulder / 2), (0, 0, shoulder / 2 - h / 2)),
        Collider("cylinder", (cap_r, (h - shoulder) / 2), (0, 0, shoulder / 2)),
    )
    return Shape(tuple(parts), colliders, 0.6)


def jar(rng: Rng) -> Shape:
    """Wide jar or tub with a lid."""
    r, h = rng.uniform(0.03, 0.06), rng.uniform(0.04, 0.14)
    lid = rng.uniform(0.12, 0.25) * h
    body = _ladder(
        [
            (r * 0.8, -h / 2),
            (r, -h / 2 + h * 0.06),
            (r, h / 2 - lid * 1.3),
            (r * 0.85, h / 2 - lid),
        ]
    )
    body = np.vstack([[(0, -h / 2)], body])
    lid_r = r * rng.uniform(0.88, 1.06)
    top = [
        (0, h / 2 - lid),
        (lid_r, h / 2 - lid),
        (lid_r, h / 2 - 0.002),
        (lid_r - 0.003, h / 2),
        (0, h / 2),
    ]
    return Shape(
        (
            (lathe(body), _pick(rng, "label", "print", "plain", "pattern")),
            (lathe(top), _pick(rng, "plain", "metal", "dark", "pattern")),
        ),
        (_cylinder(r, -h / 2, h / 2),),
        0.75,
    )


def bowl(rng: Rng) -> Shape:
    """Bowl with a wall of real thickness; things may fall into it."""
    r, h = rng.uniform(0.05, 0.11), rng.uniform(0.03, 0.08)
    foot, wall = r * rng.uniform(0.4, 0.7), rng.uniform(0.003, 0.006)
    outside = _ladder([(foot, 0), ((foot + r) / 2 + r * rng.uniform(0, 0.15), h * 0.25), (r, h)])
    inside = outside[::-1] - (wall, 0)
    inside = inside[inside[:, 1] > wall]
    profile = np.vstack([[(0, 0)], outside, inside, [(foot * 0.8, wall * 1.2), (0, wall)]])
    mesh = lathe(profile, segments=32).moved((0, 0, -h / 2))
    lean = float(np.arctan2((r - foot) * 0.7, h))
    ring = _wall_ring((r * 0.6 + foot * 0.4), -h / 2, h / 2, wall, lean)
    return Shape(
        ((mesh, _pick(rng, "plain", "plain", "pattern", "noise", "wood", "metal")),),
        (*ring, _cylinder(foot, -h / 2, -h / 2 + 2 * wall)),
        0.85,
    )


def plate(rng: Rng) -> Shape:
    """Flat plate or tray with a raised rim."""
    r, h = rng.uniform(0.06, 0.13), rng.uniform(0.008, 0.025)
    foot, wall = r * rng.uniform(0.55, 0.8), 0.004
    profile = [(0, 0), (foot, 0), (r, h), (r - 0.002, h + 0.001), (foot * 0.98, wall), (0, wall)]
    squash = rng.uniform(0.6, 0.9) if rng.random() < 0.2 else 1.0
    segments = int(_pick(rng, "36", "36", "36", "8", "4"))
    mesh = lathe(profile, segments=segments, squash=squash).moved((0, 0, -h / 2))
    return Shape(
        ((mesh, _pick(rng, "plain", "plain", "pattern", "noise", "rings", "wood")),),
        (
            Collider("cylinder", (foot, 0.0025), (0, 0, -h / 2 + 0.0025)),
            *_wall_ring((r + foot) / 2 * (1 + squash) / 2, -h / 2, h / 2, 0.004, 1.0)[::2],
        ),
        0.93,
    )


def cup(rng: Rng) -> Shape:
    """Beaker, paper cup, glass or flower pot without a handle; hollow."""
    r, h = rng.uniform(0.025, 0.05), rng.uniform(0.05, 0.15)
    foot, wall = r * rng.uniform(0.6, 1.0), rng.uniform(0.0015, 0.004)
    profile = [
        (0, 0), (foot, 0), (r, h), (r - wall, h), (foot - wall, wall * 2), (0, wall * 2),
    ]  # fmt: skip
    mesh = lathe(profile).moved((0, 0, -h / 2))
    finish = _pick(rng, "plain", "print", "pattern", "plain", "glass", "metal", "rings")
    ring = _wall_ring((r + foot) / 2 - wall / 2, -h / 2, h / 2, wall * 2)
    return Shape(((mesh, finish),), (*ring, _cylinder(foot, -h / 2, -h / 2 + 0.006)), 0.7)


def ball(rng: Rng) -> Shape:
    """Tennis ball to football."""
    r = float(rng.uniform(0.015, 0.07))
    mesh = superellipsoid((2 * r,) * 3, segments=28)
    return Shape(
        ((mesh, _pick(rng, "plain", "pattern", "noise", "rings", "print")),),
        (Collider("sphere", (r,)),),
    )


def fruit(rng: Rng) -> Shape:
    """Apple, pear, lemon, potato, egg, onion: a dented body of revolution."""
    r = rng.uniform(0.018, 0.05)
    stretch, dent, pear = rng.uniform(0.8, 1.6), rng.uniform(0, 0.3), rng.uniform(-0.35, 0.35)
    angle = np.linspace(-np.pi / 2, np.pi / 2, 15)
    radius = r * np.cos(angle) * (1 - pear * np.sin(angle))
    height = r * stretch * np.sin(angle) - dent * r * np.sign(angle) * np.exp(
        -((radius / (0.4 * r)) ** 2)
    )
    profile = np.stack([np.maximum(radius, 0), height], 1)
    mesh = lathe(profile, segments=24, crease_deg=90)
    lumps = np.sin(mesh.vertices @ rng.normal(0, 50, (3, 3))).sum(1, keepdims=True)
    mesh = mesh.warped(mesh.normals * lumps * r * rng.uniform(0, 0.04))
    parts = [(mesh, "fruit")]
    if rng.random() < 0.4:
        top = float(height[-1])
        stem = sweep(
            [(0, 0, top - 0.002), (0.001, 0, top + 0.006), (0.004, 0, top + 0.014)], 0.0015
        )
        parts.append((stem, "wood"))
    half = (r * 0.98, r * 0.98, max(r * stretch * (1 - 0.7 * dent), 0.4 * r))
    return Shape(tuple(parts), (Collider("ellipsoid", half),), 0.4)


def tape(rng: Rng) -> Shape:
    """A ring: roll of tape, bracelet, toy ring, toilet roll."""
    r, h = rng.uniform(0.025, 0.06), rng.uniform(0.01, 0.1)
    hole = r * rng.uniform(0.35, 0.88)
    profile = [(hole, -h / 2), (r, -h / 2), (r, h / 2), (hole, h / 2), (hole, -h / 2)]
    return Shape(
        ((lathe(profile), _pick(rng, "plain", "paper", "pattern", "dark", "rings")),),
        tuple(_wall_ring((r + hole) / 2, -h / 2, h / 2, r - hole)),
        0.6,
    )


def candle(rng: Rng) -> Shape:
    """Turned wooden or plastic body with a random profile: chess piece, candle stick, knob, vase."""
    h, count = rng.uniform(0.05, 0.2), int(rng.integers(4, 9))
    radii = rng.uniform(0.25, 1, count) * rng.uniform(0.018, 0.05)
    radii[0] = radii.max()
    z = np.sort(np.concatenate([[0, h], rng.uniform(0, h, count - 2)]))
    curve = np.stack([radii, z], 1)
    if rng.random() < 0.6:
        curve = _ladder([tuple(p) for p in curve])
    profile = np.vstack([[(0, 0)], curve, [(0, h)]]) - (0, h / 2)
    mesh = lathe(profile, segments=24)
    return Shape(
        ((mesh, _pick(rng, "plain", "wood", "metal", "rings", "noise")),),
        (
            Collider("cylinder", (float(radii.max()), h * 0.1), (0, 0, -h * 0.4)),
            Collider("cylinder", (float(radii.mean()), h / 2)),
        ),
        0.75,
    )


# ---- long things and tools ----------------------------------------------------------------------


def tube(rng: Rng) -> Shape:
    """Toothpaste tube: round at the cap, flat at the tail."""
    length, r = rng.uniform(0.08, 0.19), rng.uniform(0.014, 0.028)
    mesh = lathe([(0, 0), (r, 0), (r, 1), (0, 1)], segments=20, crease_deg=60)
    s = mesh.vertices[:, 2].copy()
    vertices = mesh.vertices * (1, 1, length)
    vertices[:, 0] *= 1 + 0.45 * s
    vertices[:, 1] *= 1 - 0.93 * s
    vertices[:, 2] -= length / 2
    body = Mesh(vertices, mesh.normals, mesh.uv, mesh.faces)
    cap = lathe([(0, -0.02), (r * 0.6, -0.02), (r * 0.7, 0), (0, 0)], segments=14)
    cap = cap.moved((0, 0, -length / 2))
    lying = rotation_xyz(x=-np.pi / 2)
    turned = [(body.moved(rotation=lying), "print"), (cap.moved(rotation=lying), "plain")]
    colliders = (
        Collider("box", (r, length * 0.25, r * 0.9), (0, -length * 0.25, 0)),
        Collider("box", (r * 1.3, length * 0.25, r * 0.4), (0, length * 0.25, 0)),
    )
    return Shape(tuple(turned), colliders, 0.9)


def pen(rng: Rng) -> Shape:
    """Marker, pencil, candle, cigar tube: a rod in two colours."""
    r, length = rng.uniform(0.004, 0.013), rng.uniform(0.08, 0.2)
    split = length * rng.uniform(-0.3, 0.3)
    facets = int(_pick(rng, "16", "16", "6"))
    low = [
        (0, -length / 2),
        (r * rng.uniform(0.3, 1), -length / 2),
        (r, -length * 0.42),
        (r, split),
    ]
    high = [(r, split), (r, length / 2), (0, length / 2)]
    lying = rotation_xyz(x=np.pi / 2)
    finish = _pick(rng, "plain", "print", "wood")
    parts = (
        (lathe(low, segments=facets).moved(rotation=lying), finish),
        (
            lathe(high, segments=facets).moved(rotation=lying, scale=(1.05, 1.05, 1)),
            _pick(rng, "plain", "dark", "metal"),
        ),
    )
    return Shape(parts, (Collider("cylinder", (r, length / 2), (0, 0, 0), lying),), 1.0)


def screwdriver(rng: Rng) -> Shape:
    """Screwdriver, brush, whisk: grip plus shaft."""
    grip, shaft = rng.uniform(0.06, 0.12), rng.uniform(0.05, 0.16)
    r, thin = rng.uniform(0.01, 0.02), rng.uniform(0.0025, 0.006)
    profile = _ladder(
        [(r * 0.7, 0), (r, grip * 0.2), (r * 0.8, grip * 0.5), (r, grip * 0.8), (r * 0.5, grip)]
    )
    handle = lathe(
        np.vstack([[(0, 0)], profile, [(0, grip)]]), segments=int(_pick(rng, "16", "8", "6"))
    )
    rod = lathe([(thin, grip * 0.9), (thin, grip + shaft), (0, grip + shaft)], segments=8)
    parts = [(handle, _pick(rng, "plain", "wood", "rings", "dark")), (rod, "metal")]
    if rng.random() < 0.35:
        w = rng.uniform(0.015, 0.06)
        head = superellipsoid((w, rng.uniform(0.008, 0.02), rng.uniform(0.03, 0.08)), 0.5)
        parts.append((head.moved((0, 0, grip + shaft)), _pick(rng, "plain", "noise", "metal")))
    total = grip + shaft
    lying = rotation_xyz(x=np.pi / 2)
    parts = [(m.moved((0, 0, -total / 2)).moved(rotation=lying), f) for m, f in parts]
    colliders = (
        Collider("cylinder", (r, grip / 2), (0, (total - grip) / 2, 0), lying),
        Collider("cylinder", (thin, shaft / 2), (0, -(total - shaft) / 2, 0), lying),
    )
    return Shape(tuple(parts), colliders, 1.0)


def wrench(rng: Rng) -> Shape:
    """Wrench-like flat tool: bar with a round, forked or ring head at the ends."""
    length, width, thick = (
        rng.uniform(0.1, 0.24),
        rng.uniform(0.01, 0.024),
        rng.uniform(0.004, 0.012),
    )
    bar = extrude(_rounded(width, length, width * 0.3), thick)
    meshes = [bar]
    for end in (-1, 1):
        r = width * rng.uniform(0.8, 1.5)
        if rng.random() < 0.5:
            hole = r * 0.55
            profile = [
                (hole, -thick / 2),
                (r, -thick / 2),
                (r, thick / 2),
                (hole, thick / 2),
                (hole, -thick / 2),
            ]
            meshes.append(
                lathe(profile, segments=20).moved(
                    (0, end * (length / 2 + r * 0.8), 0), scale=(1, 1, 1.2)
                )
            )
        else:
            for side in (-1, 1):
                jaw = extrude(_rounded(r * 0.65, r * 1.5, r * 0.25), thick * 1.2)
                turn = rotation_xyz(z=side * end * -0.35)
                meshes.append(jaw.moved((side * r * 0.6, end * (length / 2 + r * 0.4), 0), turn))
    finish = _pick(rng, "metal", "metal", "plain", "dark")
    return Shape(
        ((merge(meshes), finish),),
        (Collider("box", (width * 0.8, length / 2 + width, thick * 0.6)),),
        1.0,
    )


def spoon(rng: Rng) -> Shape:
    """Spoon, ladle, spatula."""
    length, r = rng.uniform(0.1, 0.2), rng.uniform(0.015, 0.04)
    bend = rng.uniform(0.0, 0.02)
    t = np.linspace(0, 1, 9)
    path = np.stack([0 * t, length * t, bend * np.sin(np.pi * t)], 1)
    stem = sweep(path, np.linspace(0.006, 0.004, 9), squash=rng.uniform(0.3, 1))
    if rng.random() < 0.6:
        dish = lathe(
            [
                (0, -r * 0.35),
                (r * 0.6, -r * 0.25),
                (r, 0),
                (r * 0.95, 0),
                (r * 0.55, -r * 0.2),
                (0, -r * 0.3),
            ]
        )
        head = dish.moved((0, -r * 1.1, 0.002), scale=(1, 1.4, 1))
    else:
        head = extrude(_rounded(r * 1.8, r * 2.6, r * 0.3), 0.003).moved((0, -r * 1.1, 0))
    finish = _pick(rng, "metal", "wood", "plain", "dark")
    return Shape(
        ((merge([stem, head]), finish),),
        (
            Collider("box", (0.005, length / 2, 0.004), (0, length / 2, bend / 2)),
            Collider("box", (r * 0.9, r * 1.2, r * 0.15), (0, -r * 1.1, -r * 0.12)),
        ),
        1.0,
    )


def scissors(rng: Rng) -> Shape:
    """Scissors or pliers: two crossing blades, two loops or grips."""
    length, open_angle = rng.uniform(0.08, 0.14), rng.uniform(0.05, 0.4)
    blades, grips = [], []
    r = rng.uniform(0.012, 0.02)
    looped = rng.random() < 0.6
    for side in (-1, 1):
        turn = rotation_xyz(z=side * open_angle)
        blade = extrude(
            [
                (-0.006, 0),
                (0.006, 0),
                (0.006, length * 0.5),
                (0, length * 0.6),
                (-0.006, length * 0.4),
            ],
            0.003,
        )
        blades.append(blade.moved((0, 0, side * 0.0015), turn))
        if looped:
            angle = np.linspace(0, 2 * np.pi, 17)
            path = np.stack([r * np.cos(angle), 1.4 * r * np.sin(angle), 0 * angle], 1)
            loop = sweep(path, 0.004, segments=8).moved((side * r, -length * 0.3, 0))
            grips.append(loop)
        else:
            t = np.linspace(0, 1, 8)
            path = np.stack([side * (0.006 + 0.02 * np.sin(t * 2)), -length * 0.7 * t, 0 * t], 1)
            grips.append(sweep(path, 0.006, segments=8))
    colliders = (
        Collider("box", (0.01, length * 0.3, 0.004), (0, length * 0.3, 0)),
        Collider("box", (r * 1.6, length * 0.25, 0.005), (0, -length * 0.28, 0)),
    )
    return Shape(
        ((merge(blades), "metal"), (merge(grips), _pick(rng, "plain", "dark"))), colliders, 1.0
    )


def pan(rng: Rng) -> Shape:
    """Pan or saucepan with a long handle."""
    r, h = rng.uniform(0.06, 0.1), rng.uniform(0.025, 0.08)
    profile = [(0, 0), (r * 0.92, 0), (r, h), (r - 0.003, h), (r * 0.9, 0.004), (0, 0.004)]
    body = lathe(profile, segments=32).moved((0, 0, -h / 2))
    length = rng.uniform(0.08, 0.15)
    t = np.linspace(0, 1, 6)
    path = np.stack([r * 0.97 + length * t, 0 * t, h * 0.35 + 0.03 * t], 1)
    handle = sweep(path, rng.uniform(0.006, 0.011), squash=0.7)
    colliders = (
        *_wall_ring(r * 0.96, -h / 2, h / 2, 0.004),
        _cylinder(r * 0.92, -h / 2, -h / 2 + 0.006),
        Collider("box", (length / 2, 0.008, 0.006), (r + length / 2, 0, h * 0.35 + 0.012)),
    )
    return Shape(
        (
            (body, _pick(rng, "metal", "dark", "plain")),
            (handle, _pick(rng, "dark", "wood", "metal")),
        ),
        colliders,
        0.95,
    )


# ---- compounds and toys -------------------------------------------------------------------------


def toy_car(rng: Rng) -> Shape:
    """Body, cabin and four wheels."""
    length, width, h = rng.uniform(0.08, 0.18), rng.uniform(0.04, 0.08), rng.uniform(0.015, 0.04)
    r = h * rng.uniform(0.5, 0.8)
    body = extrude(_rounded(width, length, width * 0.2), h)
    cabin = superellipsoid((width * 0.85, length * rng.uniform(0.35, 0.6), h * 2), 0.4)
    cabin = cabin.moved((0, rng.uniform(-0.15, 0.15) * length, h * 0.5))
    wheel = lathe([(0, -0.25 * r), (r, -0.25 * r), (r, 0.25 * r), (0, 0.25 * r)], segments=16)
    wheel = wheel.moved(rotation=rotation_xyz(y=np.pi / 2))
    wheels = [
        wheel.moved((sx * width * 0.5, sy * length * 0.3, -h * 0.45))
        for sx in (-1, 1)
        for sy in (-1, 1)
    ]
    low = -h * 0.45 - r
    return Shape(
        (
            (body, _pick(rng, "plain", "print")),
            (cabin, _pick(rng, "plain", "dark", "glass")),
            (merge(wheels), "dark"),
        ),
        (
            Collider("box", (width / 2, length / 2, (h / 2 - low) / 2), (0, 0, (h / 2 + low) / 2)),
            Collider("box", (width * 0.4, length * 0.2, h * 0.45), (0, 0, h)),
        ),
        0.8,
    )


def animal(rng: Rng) -> Shape:
    """Toy animal or doll: trunk, head, limbs, ears."""
    s = rng.uniform(0.03, 0.06)
    trunk = superellipsoid(
        (s * rng.uniform(1, 1.6), s * rng.uniform(1, 2.2), s * rng.uniform(1, 1.6)), segments=16
    )
    head_r = s * rng.uniform(0.35, 0.65)
    head_at = np.array([0, s * rng.uniform(0.4, 1.0), s * rng.uniform(0.6, 1.1)])
    head = superellipsoid((2 * head_r,) * 3, rng.uniform(0.7, 1), segments=16).moved(head_at)
    snout = superellipsoid((head_r,) * 3, segments=10).moved(head_at + (0, head_r, -head_r * 0.2))
    meshes = [trunk, head]
    extra = [snout]
    for side in (-1, 1):
        ear = superellipsoid(
            (head_r * 0.5, head_r * 0.2, head_r * rng.uniform(0.6, 2)), segments=10
        )
        extra.append(ear.moved(head_at + (side * head_r * 0.6, 0, head_r * 1.0)))
        for y in (-0.5, 0.5):
            leg = superellipsoid((s * 0.45, s * 0.45, s), 0.8, segments=12)
            meshes.append(leg.moved((side * s * 0.4, y * s, -s * 0.5)))
    finish = _pick(rng, "plain", "noise", "pattern")
    colliders = (
        Collider("box", (s * 0.55, s * 0.7, s * 0.75), (0, 0, -s * 0.25)),
        Collider("sphere", (float(head_r),), tuple(head_at)),
    )
    return Shape(
        ((merge(meshes), finish), (merge(extra), _pick(rng, "plain", "noise"))), colliders, 0.7
    )


def letter(rng: Rng) -> Shape:
    """Cookie-cutter prism: star, gear, heart-like blob, polygon."""
    count = int(rng.integers(3, 10))
    fine = 48
    angle = np.arange(fine) * 2 * np.pi / fine
    wave = np.cos(count * angle)
    if rng.random() < 0.5:
        wave = np.sign(wave) * np.abs(wave) ** 0.3
    radius = 1 + rng.uniform(0.05, 0.4) * wave + 0.15 * np.cos(angle + rng.uniform(0, 6))
    polygon = np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1) * rng.uniform(
        0.015, 0.06
    )
    height = rng.uniform(0.008, 0.06)
    mesh = extrude(polygon, height, taper=rng.uniform(0.6, 1.0))
    r = float(np.linalg.norm(polygon, axis=1).mean())
    finish = _pick(rng, "plain", "pattern", "wood", "noise", "print")
    return Shape(((mesh, finish),), (Collider("cylinder", (r, height / 2)),), 0.8)


def blocks(rng: Rng) -> Shape:
    """Random compound of two to four fused solids: the unknown object."""
    parts, colliders = [], []
    at = np.zeros(3)
    for _ in range(int(rng.integers(2, 5))):
        size = rng.uniform(0.02, 0.09, 3)
        kind = _pick(rng, "box", "round", "cylinder")
        half = tuple(float(v) for v in size / 2)
        offset = (float(at[0]), float(at[1]), float(at[2]))
        if kind == "box":
            mesh = box(size)
            colliders.append(Collider("box", half, offset))
        elif kind == "round":
            mesh = superellipsoid(size, rng.uniform(0.3, 1), segments=20)
            colliders.append(Collider("ellipsoid", half, offset))
        else:
            r = half[0]
            mesh = lathe([(0, -half[2]), (r, -half[2]), (r, half[2]), (0, half[2])], segments=20)
            colliders.append(Collider("cylinder", (r, half[2]), offset))
        parts.append(
            (mesh.moved(at), _pick(rng, "plain", "plain", "print", "metal", "wood", "dark"))
        )
        step = np.zeros(3)
        step[int(rng.integers(3))] = rng.choice([-1, 1]) * rng.uniform(0.02, 0.045)
        at = at + step
    return Shape(tuple(parts), tuple(colliders), 0.3)


def bracket(rng: Rng) -> Shape:
    """L, T or U piece of bars: clamp, drill-like body, angle bracket."""
    bar, length = rng.uniform(0.015, 0.04), rng.uniform(0.06, 0.16)
    deep = bar * rng.uniform(0.5, 1.5)
    kind = _pick(rng, "L", "T", "U")
    boxes = [((bar, length, deep), (0.0, 0.0, 0.0))]
    arm = length * rng.uniform(0.35, 0.8)
    ends = {"L": (0.5,), "T": (0.0,), "U": (-0.5, 0.5)}[kind]
    for end in ends:
        y = end * (length - bar)
        boxes.append(((arm, bar, deep), ((arm + bar) / 2, y, 0.0)))
    shaped = [box(size).moved(at) for size, at in boxes]
    finish = _pick(rng, "plain", "metal", "dark", "wood")
    colliders = tuple(Collider("box", tuple(s / 2 for s in size), at) for size, at in boxes)
    parts = [(shaped[0], finish)]
    parts.append(
        (merge(shaped[1:]), finish if rng.random() < 0.5 else _pick(rng, "plain", "dark"))
    )
    return Shape(tuple(parts), colliders, 0.8)


# ---- families held out of training --------------------------------------------------------------


def mug(rng: Rng) -> Shape:
    """Hollow cup with a handle."""
    r, h = rng.uniform(0.033, 0.048), rng.uniform(0.07, 0.115)
    foot, wall = r * rng.uniform(0.75, 1.0), 0.004
    profile = [
        (0, 0),
        (foot, 0),
        (r, h * 0.3),
        (r, h),
        (r - wall, h),
        (foot - wall, wall * 2),
        (0, wall * 2),
    ]
    body = lathe(profile).moved((0, 0, -h / 2))
    reach, tall = r * rng.uniform(0.5, 0.9), h * rng.uniform(0.25, 0.4)
    angle = np.linspace(-np.pi / 2, np.pi / 2, 12)
    path = np.stack([r * 0.95 + reach * np.cos(angle), 0 * angle, tall * np.sin(angle)], 1)
    handle = sweep(path, rng.uniform(0.004, 0.007))
    finish = _pick(rng, "plain", "print", "pattern", "rings", "noise")
    colliders = (
        *_wall_ring(r - wall / 2, -h / 2, h / 2, wall),
        _cylinder(foot, -h / 2, -h / 2 + 0.008),
        Collider("box", (reach / 2, 0.005, tall), (r + reach / 2, 0, 0)),
    )
    return Shape(
        ((body, finish), (handle, finish if rng.random() < 0.5 else "plain")), colliders, 0.75
    )


def shoe(rng: Rng) -> Shape:
    """Shoe-like compound: sole, toe, heel counter, ankle opening."""
    length, width = rng.uniform(0.16, 0.25), rng.uniform(0.06, 0.09)
    t = np.linspace(0, 2 * np.pi, 32, endpoint=False)
    waist = 1 - 0.22 * np.exp(-((np.sin(t) + 0.15) ** 2) * 12)
    outline = np.stack([width / 2 * np.cos(t) * waist, length / 2 * np.sin(t)], 1)
    thick = rng.uniform(0.015, 0.03)
    sole = extrude(outline, thick).moved((0, 0, thick / 2))
    toe = superellipsoid((width * 0.96, length * 0.62, 0.1), 0.8).moved((0, length * 0.18, thick))
    rise = rng.uniform(0.07, 0.12)
    r = width * 0.46
    shaft = [
        (r, 0),
        (r * 1.02, rise * 0.5),
        (r * 0.8, rise),
        (r * 0.72, rise),
        (r * 0.7, rise * 0.35),
        (0, rise * 0.3),
    ]
    ankle = lathe(shaft).moved((0, -length * 0.22, thick), scale=(1, 1.5, 1))
    upper = _pick(rng, "plain", "noise", "pattern", "dark")
    lace = [
        box((width * 0.5, 0.006, 0.004)).moved((0, length * k, thick + 0.052 - 0.12 * (k - 0.02)))
        for k in (0.02, 0.08, 0.14)
    ]
    colliders = (
        Collider("box", (width * 0.42, length * 0.47, thick), (0, 0, thick)),
        Collider("box", (width * 0.3, length * 0.22, 0.02), (0, length * 0.12, thick + 0.025)),
        Collider(
            "box", (width * 0.4, length * 0.17, rise / 2), (0, -length * 0.22, thick + rise / 2)
        ),
    )
    parts = (
        (sole, _pick(rng, "plain", "dark")),
        (merge([toe, ankle]), upper),
        (merge(lace), "plain"),
    )
    return Shape(parts, colliders, 0.75)


def hammer(rng: Rng) -> Shape:
    """Hammer or axe: handle with a crosswise head."""
    length, r = rng.uniform(0.18, 0.3), rng.uniform(0.009, 0.015)
    t = np.linspace(0, 1, 8)
    path = np.stack([0 * t, length * (t - 0.5), 0 * t], 1)
    handle = sweep(path, r * (1 + 0.25 * np.cos(t * 5)), squash=0.75)
    head_r, wide = r * rng.uniform(1.1, 1.8), rng.uniform(0.08, 0.12)
    profile = [
        (0, -wide / 2), (head_r, -wide / 2), (head_r, -wide * 0.3), (head_r * 0.7, -wide * 0.25),
        (head_r * 0.8, wide * 0.1), (head_r * 0.25, wide / 2), (0, wide / 2),
    ]  # fmt: skip
    head = lathe(profile, segments=20).moved((0, length * 0.47, 0), rotation_xyz(y=np.pi / 2))
    colliders = (
        Collider("box", (r, length / 2, r * 0.75)),
        Collider("box", (wide / 2, head_r * 0.9, head_r * 0.8), (0, length * 0.47, 0)),
    )
    return Shape(((handle, _pick(rng, "wood", "plain", "dark")), (head, "metal")), colliders, 1.0)


def banana(rng: Rng) -> Shape:
    """A bent, tapering tube."""
    bend, radius, r = rng.uniform(0.9, 1.6), rng.uniform(0.08, 0.13), rng.uniform(0.014, 0.02)
    angle = np.linspace(-bend / 2, bend / 2, 14)
    path = np.stack([radius * (np.cos(angle) - 1), radius * np.sin(angle), 0 * angle], 1)
    thick = r * np.clip(1.25 - np.abs(np.linspace(-1, 1, 14)) ** 3 * 1.05, 0.2, 1)
    mesh = sweep(path, thick, segments=int(_pick(rng, "5", "6", "12")))
    half = float(radius * np.sin(bend / 2))
    colliders = [
        Collider(
            "capsule", (r * 0.9, half / 5), tuple(path[i]), rotation_xyz(x=-np.pi / 2, z=angle[i])
        )
        for i in (3, 7, 10)
    ]
    return Shape(((mesh, "fruit"),), tuple(colliders), 1.0)


def goblet(rng: Rng) -> Shape:
    """Wine glass or trophy: foot, stem, bowl."""
    r, h = rng.uniform(0.03, 0.045), rng.uniform(0.11, 0.2)
    stem, base = h * rng.uniform(0.3, 0.55), r * rng.uniform(0.7, 1.0)
    outside = _ladder(
        [(0.005, stem), (r, stem + (h - stem) * 0.3), (r * rng.uniform(0.75, 1.1), h)]
    )
    inside = outside[::-1] - (0.002, -0.001)
    inside = inside[inside[:, 0] > 0.003]
    foot = [(0, 0), (base, 0), (base, 0.003), (0.006, 0.01), (0.005, stem * 0.6)]
    profile = np.vstack([foot, outside, inside, [(0, stem + 0.006)]]) - (0, h / 2)
    finish = _pick(rng, "glass", "metal", "plain", "wood")
    colliders = (
        Collider("cylinder", (base, 0.003), (0, 0, -h / 2 + 0.003)),
        Collider("cylinder", (0.006, stem / 2), (0, 0, -h / 2 + stem / 2)),
        Collider("cylinder", (r * 0.9, (h - stem) / 2), (0, 0, stem / 2)),
    )
    return Shape(((lathe(profile), finish),), colliders, 0.7)


TRAIN_FAMILIES: dict[str, Callable[[Rng], Shape]] = {
    f.__name__: f
    for f in (
        carton, parcel, book, device, soap, toy_brick, can, bottle, jar, bowl, plate, cup, ball,
        fruit, tape, candle, tube, pen, screwdriver, wrench, spoon, scissors, pan, toy_car, animal,
        letter, blocks, bracket,
    )
}  # fmt: skip

HELDOUT_FAMILIES: dict[str, Callable[[Rng], Shape]] = {
    f.__name__: f for f in (mug, shoe, hammer, banana, goblet)
}


def family_set(name: str) -> dict[str, Callable[[Rng], Shape]]:
    """Return the families called train, heldout or mixed (both)."""
    return {
        "train": TRAIN_FAMILIES,
        "heldout": HELDOUT_FAMILIES,
        "mixed": {**TRAIN_FAMILIES, **HELDOUT_FAMILIES},
    }[name]
