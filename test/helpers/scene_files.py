"""Small amodal COCO files made of arrays, in memory, for tests of the evaluation."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from amodal_perception.storage import amodal_coco, coco_rle
from amodal_perception.storage.amodal_coco import AmodalCoco


def mask(*rows: str) -> np.ndarray:
    """Draw a mask: one string a row, any character but '.' is in it."""
    return np.array([[cell != "." for cell in row] for row in rows], np.bool_)


def thing(amodal, visible=None, *, image=1, category=1, score=None, **extra):
    """Describe one annotation; what is not given as visible is all visible."""
    visible = amodal if visible is None else visible
    row = {
        "image_id": image,
        "category_id": category,
        "segmentation": coco_rle.encode_mask(amodal),
        "visible_segmentation": coco_rle.encode_mask(visible),
        "iscrowd": 0,
        **extra,
    }
    if score is not None:
        row["score"] = score
    return row


def scenes(
    *rows, occlusions=(), depth_orders=(), classes=("cup", "box"), images=1, name="truth.json"
) -> AmodalCoco:
    """Make a file of annotations, numbered from 1 in the order given."""
    height, width = rows[0]["segmentation"]["size"] if rows else (6, 6)
    annotations = {i: {"id": i, **row} for i, row in enumerate(rows, 1)}
    return AmodalCoco(
        path=Path(name),
        images={
            i: amodal_coco.image_record(i, f"{i}.png", (height, width))
            for i in range(1, images + 1)
        },
        categories={row["id"]: row for row in amodal_coco.categories_of(classes)},
        annotations=annotations,
        occlusions=tuple(
            {"image_id": annotations[i]["image_id"], "occluder_id": i, "occludee_id": j}
            for i, j in occlusions
        ),
        info={},
        depth_orders=tuple(depth_orders),
    ).check()


def random_scenes(rng: np.random.Generator, *, images=4, classes=3, crowds=True):
    """Return truth and predictions of rectangles with occlusion, ties and mistakes.

    Every class and image may have none; scores repeat; boxes of predictions are not their masks'.
    """
    size_hw = height, width = 30, 40
    rows, guesses = [], []

    def rectangle():
        m = np.zeros(size_hw, np.bool_)
        x, y = rng.integers(0, width - 4), rng.integers(0, height - 4)
        m[y : y + rng.integers(3, 16), x : x + rng.integers(3, 18)] = True
        return m

    for image in range(1, images + 1):
        front = np.zeros(size_hw, np.bool_)
        for _ in range(rng.integers(0, 7)):
            amodal = rectangle()
            visible = amodal & ~front
            if not visible.any():
                continue
            category = int(rng.integers(1, classes + 1))
            crowd = int(crowds and rng.random() < 0.1)
            rows.append(thing(amodal, visible, image=image, category=category, iscrowd=crowd))
            for _ in range(rng.integers(0, 3)):
                guess = np.roll(amodal, rng.integers(-2, 3, 2), (0, 1)) | (
                    rectangle() if rng.random() < 0.2 else False
                )
                if rng.random() < 0.2:
                    category = int(rng.integers(1, classes + 1))
                score = float(rng.integers(0, 6)) / 5
                seen = guess & ~front if rng.random() < 0.8 else rectangle()
                guesses.append(thing(guess, seen, image=image, category=category, score=score))
            front |= amodal
        for _ in range(rng.integers(0, 3)):
            guesses.append(
                thing(rectangle(), image=image, category=1, score=float(rng.integers(0, 11)) / 10)
            )
    names = [f"class {i}" for i in range(classes)]
    truth = scenes(*rows, classes=names, images=images)
    return truth, scenes(*guesses, classes=names, images=images, name="predictions.json")
