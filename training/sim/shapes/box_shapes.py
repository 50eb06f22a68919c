"""Cartons, books, devices, bricks: flat faces."""

from __future__ import annotations

import numpy as np

from training.sim.meshes import box, extrude, lathe, merge, rotation_xyz, superellipsoid
from training.sim.shapes.parts import Collider, Rng, Shape, pick, rounded


def carton(rng: Rng) -> Shape:
    """Cereal box, tea box, parcel: a printed cuboid, sometimes with a gable top."""
    x, y, z = rng.uniform(0.04, 0.2), rng.uniform(0.025, 0.1), rng.uniform(0.04, 0.26)
    finish = pick(rng, "print", "print", "print", "pattern", "plain", "paper")
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
    parts = [(box((x, y, z)), pick(rng, "paper", "print", "plain", "wood"))]
    if rng.random() < 0.5:
        tape = box((x * 1.004, y * rng.uniform(0.12, 0.3), z * 1.004))
        parts.append((tape, pick(rng, "plain", "pattern")))
    return Shape(tuple(parts), (Collider("box", (x / 2, y / 2, z / 2)),), 0.9)


def book(rng: Rng) -> Shape:
    """Cover boards around a paler block of pages."""
    x, y, z = rng.uniform(0.1, 0.2), rng.uniform(0.14, 0.27), rng.uniform(0.01, 0.05)
    board = min(0.003, z / 5)
    cover = [box((x, y, board)).moved((0, 0, s * (z - board) / 2)) for s in (-1, 1)]
    cover.append(box((board, y, z)).moved((-x / 2, 0, 0)))
    pages = box((x * 0.96, y * 0.97, z - 2 * board))
    return Shape(
        ((merge(cover), pick(rng, "print", "plain", "pattern")), (pages, "paper")),
        (Collider("box", (x / 2, y / 2, z / 2)),),
        0.85,
    )


def device(rng: Rng) -> Shape:
    """Phone, remote control, calculator: a rounded slab with screen or keys."""
    x, y, z = rng.uniform(0.04, 0.09), rng.uniform(0.1, 0.2), rng.uniform(0.008, 0.03)
    body = extrude(rounded(x, y, min(x, y) * rng.uniform(0.1, 0.4)), z)
    parts = [(body, pick(rng, "dark", "plain", "metal"))]
    if rng.random() < 0.5:
        screen = box((x * 0.86, y * rng.uniform(0.3, 0.85), 0.001)).moved((0, 0, z / 2))
        parts.append((screen, pick(rng, "dark", "print", "pattern")))
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
    finish = pick(rng, "plain", "print", "pattern", "noise", "print")
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
    return Shape(((merge(meshes), pick(rng, "plain", "plain", "wood")),), (Collider("box", half),))
