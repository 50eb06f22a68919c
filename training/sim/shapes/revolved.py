"""Cans, bottles, bowls, plates, balls, fruit: bodies of revolution."""

from __future__ import annotations

import numpy as np

from training.sim.meshes import box, lathe, merge, superellipsoid, sweep
from training.sim.shapes.parts import Collider, Rng, Shape, cylinder, pick, smoothed, wall_ring


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
            (lathe(low + high), pick(rng, "print", "print", "pattern", "metal", "plain")),
            (ends, pick(rng, "metal", "metal", "plain")),
        ),
        (cylinder(r, -h / 2, h / 2),),
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
            smoothed([*side, (r * 0.95, shoulder), (neck, top), (neck, top + h * 0.01)]),
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
            "glass" if glass else pick(rng, "label", "label", "plain", "print", "pattern"),
        ),
        (cap_mesh, pick(rng, "plain", "dark", "metal")),
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
    body = smoothed(
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
            (lathe(body), pick(rng, "label", "print", "plain", "pattern")),
            (lathe(top), pick(rng, "plain", "metal", "dark", "pattern")),
        ),
        (cylinder(r, -h / 2, h / 2),),
        0.75,
    )


def bowl(rng: Rng) -> Shape:
    """Bowl with a wall of real thickness; things may fall into it."""
    r, h = rng.uniform(0.05, 0.11), rng.uniform(0.03, 0.08)
    foot, wall = r * rng.uniform(0.4, 0.7), rng.uniform(0.003, 0.006)
    outside = smoothed([(foot, 0), ((foot + r) / 2 + r * rng.uniform(0, 0.15), h * 0.25), (r, h)])
    inside = outside[::-1] - (wall, 0)
    inside = inside[inside[:, 1] > wall]
    profile = np.vstack([[(0, 0)], outside, inside, [(foot * 0.8, wall * 1.2), (0, wall)]])
    mesh = lathe(profile, segments=32).moved((0, 0, -h / 2))
    lean = float(np.arctan2((r - foot) * 0.7, h))
    ring = wall_ring((r * 0.6 + foot * 0.4), -h / 2, h / 2, wall, lean)
    return Shape(
        ((mesh, pick(rng, "plain", "plain", "pattern", "noise", "wood", "metal")),),
        (*ring, cylinder(foot, -h / 2, -h / 2 + 2 * wall)),
        0.85,
    )


def plate(rng: Rng) -> Shape:
    """Flat plate or tray with a raised rim."""
    r, h = rng.uniform(0.06, 0.13), rng.uniform(0.008, 0.025)
    foot, wall = r * rng.uniform(0.55, 0.8), 0.004
    profile = [(0, 0), (foot, 0), (r, h), (r - 0.002, h + 0.001), (foot * 0.98, wall), (0, wall)]
    squash = rng.uniform(0.6, 0.9) if rng.random() < 0.2 else 1.0
    segments = int(pick(rng, "36", "36", "36", "8", "4"))
    mesh = lathe(profile, segments=segments, squash=squash).moved((0, 0, -h / 2))
    return Shape(
        ((mesh, pick(rng, "plain", "plain", "pattern", "noise", "rings", "wood")),),
        (
            Collider("cylinder", (foot, 0.0025), (0, 0, -h / 2 + 0.0025)),
            *wall_ring((r + foot) / 2 * (1 + squash) / 2, -h / 2, h / 2, 0.004, 1.0)[::2],
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
    finish = pick(rng, "plain", "print", "pattern", "plain", "glass", "metal", "rings")
    ring = wall_ring((r + foot) / 2 - wall / 2, -h / 2, h / 2, wall * 2)
    return Shape(((mesh, finish),), (*ring, cylinder(foot, -h / 2, -h / 2 + 0.006)), 0.7)


def ball(rng: Rng) -> Shape:
    """Tennis ball to football."""
    r = float(rng.uniform(0.015, 0.07))
    mesh = superellipsoid((2 * r,) * 3, segments=28)
    return Shape(
        ((mesh, pick(rng, "plain", "pattern", "noise", "rings", "print")),),
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
        ((lathe(profile), pick(rng, "plain", "paper", "pattern", "dark", "rings")),),
        tuple(wall_ring((r + hole) / 2, -h / 2, h / 2, r - hole)),
        0.6,
    )


def candle(rng: Rng) -> Shape:
    """Turned wooden or plastic body with a random profile: chess piece, candlestick, vase."""
    h, count = rng.uniform(0.05, 0.2), int(rng.integers(4, 9))
    radii = rng.uniform(0.25, 1, count) * rng.uniform(0.018, 0.05)
    radii[0] = radii.max()
    z = np.sort(np.concatenate([[0, h], rng.uniform(0, h, count - 2)]))
    curve = np.stack([radii, z], 1)
    if rng.random() < 0.6:
        curve = smoothed([tuple(p) for p in curve])
    profile = np.vstack([[(0, 0)], curve, [(0, h)]]) - (0, h / 2)
    mesh = lathe(profile, segments=24)
    return Shape(
        ((mesh, pick(rng, "plain", "wood", "metal", "rings", "noise")),),
        (
            Collider("cylinder", (float(radii.max()), h * 0.1), (0, 0, -h * 0.4)),
            Collider("cylinder", (float(radii.mean()), h / 2)),
        ),
        0.75,
    )
