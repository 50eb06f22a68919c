"""Tubes, pens, tools, cutlery, pans: long things."""

from __future__ import annotations

import numpy as np

from training.sim.meshes import Mesh, extrude, lathe, merge, rotation_xyz, superellipsoid, sweep
from training.sim.shapes.parts import (
    Collider,
    Rng,
    Shape,
    cylinder,
    pick,
    rounded,
    smoothed,
    wall_ring,
)


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
    facets = int(pick(rng, "16", "16", "6"))
    low = [
        (0, -length / 2),
        (r * rng.uniform(0.3, 1), -length / 2),
        (r, -length * 0.42),
        (r, split),
    ]
    high = [(r, split), (r, length / 2), (0, length / 2)]
    lying = rotation_xyz(x=np.pi / 2)
    finish = pick(rng, "plain", "print", "wood")
    parts = (
        (lathe(low, segments=facets).moved(rotation=lying), finish),
        (
            lathe(high, segments=facets).moved(rotation=lying, scale=(1.05, 1.05, 1)),
            pick(rng, "plain", "dark", "metal"),
        ),
    )
    return Shape(parts, (Collider("cylinder", (r, length / 2), (0, 0, 0), lying),), 1.0)


def screwdriver(rng: Rng) -> Shape:
    """Screwdriver, brush, whisk: grip plus shaft."""
    grip, shaft = rng.uniform(0.06, 0.12), rng.uniform(0.05, 0.16)
    r, thin = rng.uniform(0.01, 0.02), rng.uniform(0.0025, 0.006)
    profile = smoothed(
        [(r * 0.7, 0), (r, grip * 0.2), (r * 0.8, grip * 0.5), (r, grip * 0.8), (r * 0.5, grip)]
    )
    handle = lathe(
        np.vstack([[(0, 0)], profile, [(0, grip)]]), segments=int(pick(rng, "16", "8", "6"))
    )
    rod = lathe([(thin, grip * 0.9), (thin, grip + shaft), (0, grip + shaft)], segments=8)
    parts = [(handle, pick(rng, "plain", "wood", "rings", "dark")), (rod, "metal")]
    if rng.random() < 0.35:
        w = rng.uniform(0.015, 0.06)
        head = superellipsoid((w, rng.uniform(0.008, 0.02), rng.uniform(0.03, 0.08)), 0.5)
        parts.append((head.moved((0, 0, grip + shaft)), pick(rng, "plain", "noise", "metal")))
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
    bar = extrude(rounded(width, length, width * 0.3), thick)
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
                jaw = extrude(rounded(r * 0.65, r * 1.5, r * 0.25), thick * 1.2)
                turn = rotation_xyz(z=side * end * -0.35)
                meshes.append(jaw.moved((side * r * 0.6, end * (length / 2 + r * 0.4), 0), turn))
    finish = pick(rng, "metal", "metal", "plain", "dark")
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
        head = extrude(rounded(r * 1.8, r * 2.6, r * 0.3), 0.003).moved((0, -r * 1.1, 0))
    finish = pick(rng, "metal", "wood", "plain", "dark")
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
        ((merge(blades), "metal"), (merge(grips), pick(rng, "plain", "dark"))), colliders, 1.0
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
        *wall_ring(r * 0.96, -h / 2, h / 2, 0.004),
        cylinder(r * 0.92, -h / 2, -h / 2 + 0.006),
        Collider("box", (length / 2, 0.008, 0.006), (r + length / 2, 0, h * 0.35 + 0.012)),
    )
    return Shape(
        (
            (body, pick(rng, "metal", "dark", "plain")),
            (handle, pick(rng, "dark", "wood", "metal")),
        ),
        colliders,
        0.95,
    )
