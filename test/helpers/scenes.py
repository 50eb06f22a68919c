"""Drawn scenes with exact amodal truth: masks as text, instances, amodal COCO, photographs.

What a test needs grows from what is above it: `mask` draws one mask, `instances` and `stacked`
make objects of masks, `scene_of` a scene of objects, `annotation` and `amodal_file` an amodal
COCO file in memory, and `write_scenes` a data set with photographs on disk.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from amodal_perception.masks import mask_windows
from amodal_perception.ordering import TRUTH_CONFIG, OrderingConfig, occlusion_graph
from amodal_perception.storage import amodal_coco, coco_rle
from amodal_perception.storage.amodal_coco import AmodalCoco
from amodal_perception.structures import BoolArray, Instances, Scene

COCO_SIZE_HW = (96, 128)
ORDERING = OrderingConfig()


def mask(*rows: str) -> BoolArray:
    """Turn rows of text into a mask: '.' is False, anything else True."""
    return np.array([[c != "." for c in row] for row in rows], np.bool_)


def instances(
    amodal: Sequence[BoolArray] | BoolArray,
    visible: Sequence[BoolArray] | BoolArray | None = None,
    scores: Sequence[float] | None = None,
    labels: Sequence[int] | None = None,
) -> Instances:
    """Build instances from masks [N][H, W]; by default all is visible, certain, and class 0."""
    masks = np.asarray(amodal, np.bool_)
    windows = mask_windows(masks)
    return Instances.from_masks(
        boxes_xyxy=windows.astype(np.float32),
        scores=np.array(scores or [1.0] * len(masks), np.float32),
        labels=np.array(labels or [0] * len(masks), np.int32),
        amodal=masks,
        visible=masks.copy() if visible is None else np.asarray(visible, np.bool_),
        windows_xyxy=windows,
    )


def stacked(*amodal: BoolArray, **options) -> Instances:
    """Build instances that lie on each other, the first on top; options as of `instances`."""
    masks = np.asarray(amodal, np.bool_)
    covered = np.cumsum(masks, axis=0) - masks > 0
    return instances(masks, masks & ~covered, **options)


def scene_of(objects: Instances, ordering: OrderingConfig = ORDERING, **fields) -> Scene:
    """Build a scene of objects and the occlusion graph that follows from their masks."""
    defaults = {"stamp_ns": 0, "frame_id": "", "model_id": "m", "class_names": ("object",)}
    graph = occlusion_graph(objects, ordering)
    return Scene(**{**defaults, "instances": objects, "graph": graph, **fields})


def annotation(amodal, visible=None, *, image=1, category=1, score=None, **extra) -> dict:
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


def amodal_file(
    *rows,
    occlusions=(),
    depth_orders=(),
    classes=("cup", "box"),
    images: int | list[dict] = 1,
    size_hw: tuple[int, int] | None = None,
    name="truth.json",
) -> AmodalCoco:
    """Make an amodal COCO file in memory.

    Args:
        rows: annotations; those without an id are numbered from 1 in the order given.
        occlusions: pairs of annotation ids (occluder, occludee).
        depth_orders: as the file has them.
        classes: names of the categories, from 1.
        images: records, or how many there are.
        size_hw: of the images, by default that of the first annotation's mask, or 6 x 6.
        name: of the file, for messages.
    """
    if isinstance(images, int):
        size_hw = size_hw or (rows[0]["segmentation"]["size"] if rows else (6, 6))
        images = [amodal_coco.image_record(i + 1, f"{i + 1}.png", size_hw) for i in range(images)]
    numbered = [{"id": i, **row} for i, row in enumerate(rows, 1)]
    annotations = {row["id"]: row for row in numbered}
    return AmodalCoco(
        path=Path(name),
        images={record["id"]: record for record in images},
        categories={row["id"]: row for row in amodal_coco.categories_of(classes)},
        annotations=annotations,
        occlusions=tuple(
            {"image_id": annotations[i]["image_id"], "occluder_id": i, "occludee_id": j}
            for i, j in occlusions
        ),
        info={},
        depth_orders=tuple(depth_orders),
    ).check()


def write_file(path: Path, data: AmodalCoco) -> Path:
    """Write an amodal COCO file that was made in memory."""
    amodal_coco.write(
        path,
        images=list(data.images.values()),
        annotations=list(data.annotations.values()),
        categories=list(data.categories.values()),
        occlusions=data.occlusions,
        info=data.info,
    )
    return path


def truth_content(
    scenes: Sequence[Scene], classes=("object",), file_name="images/{:04d}.jpg"
) -> dict[str, list]:
    """List what `amodal_coco.write` takes, for scenes that are truth, one an image."""
    images, annotations, occlusions = [], [], []
    for image_id, scene in enumerate(scenes, 1):
        name = file_name.format(image_id)
        images.append(amodal_coco.image_record(image_id, name, scene.instances.size_hw))
        rows, edges = amodal_coco.scene_to_annotations(
            scene, image_id=image_id, first_id=len(annotations) + 1, predicted=False
        )
        annotations += rows
        occlusions += edges
    return {
        "images": images,
        "annotations": annotations,
        "categories": amodal_coco.categories_of(classes),
        "occlusions": occlusions,
    }


def random_files(
    rng: np.random.Generator, *, images=4, classes=3, crowds=True
) -> tuple[AmodalCoco, AmodalCoco]:
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
            rows.append(annotation(amodal, visible, image=image, category=category, iscrowd=crowd))
            for _ in range(rng.integers(0, 3)):
                guess = np.roll(amodal, rng.integers(-2, 3, 2), (0, 1)) | (
                    rectangle() if rng.random() < 0.2 else False
                )
                if rng.random() < 0.2:
                    category = int(rng.integers(1, classes + 1))
                score = float(rng.integers(0, 6)) / 5
                seen = guess & ~front if rng.random() < 0.8 else rectangle()
                guesses.append(
                    annotation(guess, seen, image=image, category=category, score=score)
                )
            front |= amodal
        for _ in range(rng.integers(0, 3)):
            seen, score = rectangle(), float(rng.integers(0, 11)) / 10
            guesses.append(annotation(seen, image=image, score=score))
    names = [f"class {i}" for i in range(classes)]
    truth = amodal_file(*rows, classes=names, images=images)
    return truth, amodal_file(*guesses, classes=names, images=images, name="predictions.json")


def draw_scene(
    rng: np.random.Generator, size_hw: tuple[int, int], count: int
) -> tuple[np.ndarray, Instances]:
    """Draw a photograph of ellipses and rectangles, later ones over earlier ones."""
    height, width = size_hw
    image = np.full((height, width, 3), rng.integers(0, 256, 3), np.uint8)
    amodal = np.zeros((count, height, width), np.uint8)
    for i in range(count):
        centre = (int(rng.integers(width)), int(rng.integers(height)))
        half = (int(rng.integers(width // 16, width // 5)), int(rng.integers(8, height // 4)))
        if rng.random() < 0.5:
            cv2.ellipse(amodal[i], centre, half, float(rng.uniform(0, 180)), 0, 360, 1, -1)
        else:
            low = (centre[0] - half[0], centre[1] - half[1])
            high = (centre[0] + half[0], centre[1] + half[1])
            cv2.rectangle(amodal[i], low, high, 1, -1)
        image[amodal[i] > 0] = rng.integers(0, 256, 3)
    return image, stacked(*amodal[::-1])[np.arange(count)[::-1]]


def write_scenes(
    folder: Path, *, count: int, size_hw: tuple[int, int] = (120, 160), objects: int = 4
) -> None:
    """Write a data set of drawn photographs in the amodal COCO format."""
    rng = np.random.default_rng(0)
    drawn = [draw_scene(rng, size_hw, objects) for _ in range(count)]
    content = truth_content([scene_of(truth, TRUTH_CONFIG) for _, truth in drawn])
    (folder / "images").mkdir(parents=True)
    for record, (picture, _) in zip(content["images"], drawn):
        path = str(folder / record["file_name"])
        cv2.imwrite(path, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    amodal_coco.write(folder / "annotations.json", **content)


def ellipse(centre_xy: tuple[int, int], half_xy: tuple[int, int]) -> BoolArray:
    """Draw the mask of an ellipse, for `write_coco`."""
    drawn = np.zeros(COCO_SIZE_HW, np.uint8)
    cv2.ellipse(drawn, centre_xy, half_xy, 0, 0, 360, 1, -1)
    return drawn.astype(np.bool_)


def write_coco(folder: Path, images: list[list[tuple[np.ndarray, int, dict]]]) -> Path:
    """Write noise with coloured objects as modal COCO: lists of (mask, category, other keys)."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    rows, records = [], []
    for number, objects in enumerate(images, 1):
        picture = rng.integers(0, 60, (*COCO_SIZE_HW, 3), np.uint8)
        for seen, category, extra in objects:
            picture[seen] = rng.integers(100, 256, 3)
            row = {"id": len(rows) + 11, "image_id": number, "category_id": category, "iscrowd": 0}
            rows.append({**row, "segmentation": coco_rle.encode_mask(seen), **extra})
        name = f"{number:04d}.png"
        cv2.imwrite(str(folder / name), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        records.append(amodal_coco.image_record(number, name, COCO_SIZE_HW))
    categories = [{"id": 5, "name": "disc"}, {"id": 9, "name": "plate"}, {"id": 7, "name": "bar"}]
    path = folder / "instances.json"
    content = {"images": records, "annotations": rows, "categories": categories}
    path.write_text(json.dumps(content))
    return path
