"""Families of everyday shapes, each a random generator of meshes and simple colliders.

Bodies stand on the table along +z when upright. What is seen are detailed meshes; what collides
are a few primitives inside them, so that scenes settle quickly. A new family is one function and
one entry below.
"""

from __future__ import annotations

from collections.abc import Callable

from training.sim.shapes.box_shapes import book, carton, device, parcel, soap, toy_brick
from training.sim.shapes.heldout import banana, goblet, hammer, mug, shoe
from training.sim.shapes.parts import Collider, Rng, Shape
from training.sim.shapes.revolved import (
    ball,
    bottle,
    bowl,
    can,
    candle,
    cup,
    fruit,
    jar,
    plate,
    tape,
)
from training.sim.shapes.tools import pan, pen, scissors, screwdriver, spoon, tube, wrench
from training.sim.shapes.toys import animal, blocks, bracket, letter, toy_car

__all__ = ["HELDOUT_FAMILIES", "TRAIN_FAMILIES", "TRAIN_GROUPS", "Collider", "Shape", "family_set"]

TRAIN_GROUPS: dict[str, tuple[Callable[[Rng], Shape], ...]] = {
    "boxes": (carton, parcel, book, device, soap, toy_brick),
    "revolved": (can, bottle, jar, bowl, plate, cup, ball, fruit, tape, candle),
    "tools": (tube, pen, screwdriver, wrench, spoon, scissors, pan),
    "toys": (toy_car, animal, letter, blocks, bracket),
}
"""The families that are trained on, by the kind of their shape."""

TRAIN_FAMILIES: dict[str, Callable[[Rng], Shape]] = {
    f.__name__: f for group in TRAIN_GROUPS.values() for f in group
}

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
