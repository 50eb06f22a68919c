"""Cars, animals, cut-outs, brackets and random compounds."""

from __future__ import annotations

import numpy as np

from training.sim.meshes import Array, box, extrude, lathe, merge, rotation_xyz, superellipsoid
from training.sim.shapes.parts import Collider, Rng, Shape, pick, rounded


def toy_car(rng: Rng) -> Shape:
    """Body, cabin and four wheels."""
    length, width, h = rng.uniform(0.08, 0.18), rng.uniform(0.04, 0.08), rng.uniform(0.015, 0.04)
    r = h * rng.uniform(0.5, 0.8)
    body = extrude(rounded(width, length, width * 0.2), h)
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
            (body, pick(rng, "plain", "print")),
            (cabin, pick(rng, "plain", "dark", "glass")),
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
    snout = superellipsoid((head_r,) * 3, segments=10).moved(
        head_at + np.array([0, head_r, -head_r * 0.2])
    )
    meshes = [trunk, head]
    extra = [snout]
    for side in (-1, 1):
        ear = superellipsoid(
            (head_r * 0.5, head_r * 0.2, head_r * rng.uniform(0.6, 2)), segments=10
        )
        extra.append(ear.moved(head_at + np.array([side * head_r * 0.6, 0, head_r])))
        for y in (-0.5, 0.5):
            leg = superellipsoid((s * 0.45, s * 0.45, s), 0.8, segments=12)
            meshes.append(leg.moved((side * s * 0.4, y * s, -s * 0.5)))
    finish = pick(rng, "plain", "noise", "pattern")
    colliders = (
        Collider("box", (s * 0.55, s * 0.7, s * 0.75), (0, 0, -s * 0.25)),
        Collider("sphere", (float(head_r),), tuple(head_at)),
    )
    return Shape(
        ((merge(meshes), finish), (merge(extra), pick(rng, "plain", "noise"))), colliders, 0.7
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
    finish = pick(rng, "plain", "pattern", "wood", "noise", "print")
    return Shape(((mesh, finish),), (Collider("cylinder", (r, height / 2)),), 0.8)


def blocks(rng: Rng) -> Shape:
    """Random compound of two to four fused solids: the unknown object."""
    parts, colliders = [], []
    at: Array = np.zeros(3)
    for _ in range(int(rng.integers(2, 5))):
        size = rng.uniform(0.02, 0.09, 3)
        kind = pick(rng, "box", "round", "cylinder")
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
            (mesh.moved(at), pick(rng, "plain", "plain", "print", "metal", "wood", "dark"))
        )
        step = np.zeros(3)
        step[int(rng.integers(3))] = rng.choice([-1, 1]) * rng.uniform(0.02, 0.045)
        at = at + step
    return Shape(tuple(parts), tuple(colliders), 0.3)


def bracket(rng: Rng) -> Shape:
    """L, T or U piece of bars: clamp, drill-like body, angle bracket."""
    bar, length = rng.uniform(0.015, 0.04), rng.uniform(0.06, 0.16)
    deep = bar * rng.uniform(0.5, 1.5)
    kind = pick(rng, "L", "T", "U")
    boxes = [((bar, length, deep), (0.0, 0.0, 0.0))]
    arm = length * rng.uniform(0.35, 0.8)
    ends = {"L": (0.5,), "T": (0.0,), "U": (-0.5, 0.5)}[kind]
    for end in ends:
        y = end * (length - bar)
        boxes.append(((arm, bar, deep), ((arm + bar) / 2, y, 0.0)))
    shaped = [box(size).moved(at) for size, at in boxes]
    finish = pick(rng, "plain", "metal", "dark", "wood")
    colliders = tuple(Collider("box", tuple(s / 2 for s in size), at) for size, at in boxes)
    parts = [(shaped[0], finish)]
    parts.append((merge(shaped[1:]), finish if rng.random() < 0.5 else pick(rng, "plain", "dark")))
    return Shape(tuple(parts), colliders, 0.8)
