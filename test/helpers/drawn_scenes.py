"""Small drawn scenes of ellipses and rectangles over each other, with exact amodal truth."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from amodal_perception.masks import mask_windows
from amodal_perception.ordering import FOR_TRUTH, occlusion_graph
from amodal_perception.storage import amodal_coco
from amodal_perception.structures import Instances, Scene


def draw_scene(
    rng: np.random.Generator, size_hw: tuple[int, int], count: int
) -> tuple[np.ndarray, Instances]:
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
    # Later objects were drawn over earlier ones.
    above = np.cumsum(amodal[::-1], axis=0)[::-1] - amodal
    visible = (amodal > 0) & (above == 0)
    windows = mask_windows(amodal > 0)
    return image, Instances.from_masks(
        boxes_xyxy=windows.astype(np.float32),
        scores=np.ones(count, np.float32),
        labels=np.zeros(count, np.int32),
        amodal=amodal > 0,
        visible=visible,
        windows_xyxy=windows,
    )


def write_scenes(
    folder: Path, *, count: int, size_hw: tuple[int, int] = (120, 160), objects: int = 4
) -> None:
    """Write a data set in the amodal COCO format."""
    rng = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    images, annotations, occlusions = [], [], []
    for image_id in range(1, count + 1):
        picture, instances = draw_scene(rng, size_hw, objects)
        name = f"images/{image_id:04d}.jpg"
        cv2.imwrite(str(folder / name), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        images.append(amodal_coco.image_record(image_id, name, size_hw))
        graph = occlusion_graph(instances, FOR_TRUTH)
        scene = Scene(0, "", instances, graph, "truth", ("object",))
        rows, edges = amodal_coco.scene_to_annotations(
            scene, image_id=image_id, first_id=len(annotations) + 1, predicted=False
        )
        annotations += rows
        occlusions += edges
    amodal_coco.write(
        folder / "annotations.json",
        images=images,
        annotations=annotations,
        categories=amodal_coco.categories_of(["object"]),
        occlusions=occlusions,
    )
