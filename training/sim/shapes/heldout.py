"""Families held out of training, to measure what a model does with shapes it never saw."""

from __future__ import annotations

import numpy as np

from training.sim.meshes import box, extrude, lathe, merge, rotation_xyz, superellipsoid, sweep
from training.sim.shapes.parts import Collider, Rng, Shape, cylinder, pick, smoothed, wall_ring


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
    finish = pick(rng, "plain", "print", "pattern", "rings", "noise")
    colliders = (
        *wall_ring(r - wall / 2, -h / 2, h / 2, wall),
        cylinder(foot, -h / 2, -h / 2 + 0.008),
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
    upper = pick(rng, "plain", "noise", "pattern", "dark")
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
        (sole, pick(rng, "plain", "dark")),
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
    return Shape(((handle, pick(rng, "wood", "plain", "dark")), (head, "metal")), colliders, 1.0)


def banana(rng: Rng) -> Shape:
    """A bent, tapering tube."""
    bend, radius, r = rng.uniform(0.9, 1.6), rng.uniform(0.08, 0.13), rng.uniform(0.014, 0.02)
    angle = np.linspace(-bend / 2, bend / 2, 14)
    path = np.stack([radius * (np.cos(angle) - 1), radius * np.sin(angle), 0 * angle], 1)
    thick = r * np.clip(1.25 - np.abs(np.linspace(-1, 1, 14)) ** 3 * 1.05, 0.2, 1)
    mesh = sweep(path, thick, segments=int(pick(rng, "5", "6", "12")))
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
    outside = smoothed(
        [(0.005, stem), (r, stem + (h - stem) * 0.3), (r * rng.uniform(0.75, 1.1), h)]
    )
    inside = outside[::-1] - (0.002, -0.001)
    inside = inside[inside[:, 0] > 0.003]
    foot = [(0, 0), (base, 0), (base, 0.003), (0.006, 0.01), (0.005, stem * 0.6)]
    profile = np.vstack([foot, outside, inside, [(0, stem + 0.006)]]) - (0, h / 2)
    finish = pick(rng, "glass", "metal", "plain", "wood")
    colliders = (
        Collider("cylinder", (base, 0.003), (0, 0, -h / 2 + 0.003)),
        Collider("cylinder", (0.006, stem / 2), (0, 0, -h / 2 + stem / 2)),
        Collider("cylinder", (r * 0.9, (h - stem) / 2), (0, 0, stem / 2)),
    )
    return Shape(((lathe(profile), finish),), colliders, 0.7)
