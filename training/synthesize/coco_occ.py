"""BCNet's COCO-OCC split: the images of COCO val2017 whose objects overlap (Ke et al. 2021).

The paper says "the overlapping ratio between the bounding boxes of objects is at least 0.2" and
1,005 of 5,000 images, and nothing more; the published code lists images chosen by eye. So the
candidate meanings are all counted, and the one whose count is nearest is taken. Crowds are left
out.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from amodal_perception.boxes import box_area, box_iou, xywh_to_xyxy
from amodal_perception.errors import DatasetError
from amodal_perception.storage.amodal_coco import AmodalCoco

PUBLISHED_IMAGES, PUBLISHED_OF = 1005, 5000
MIN_OVERLAP = 0.2

Matrix = NDArray[np.float32]


def _over_smaller(iou: Matrix, area: Matrix) -> Matrix:
    """Return intersections over the smaller box, from IoUs and areas."""
    intersection = iou / (1 + iou) * np.add.outer(area, area)
    return intersection / np.maximum(np.minimum.outer(area, area), 1e-6)


RULES: dict[str, Callable[[Matrix, Matrix, NDArray[np.bool_]], Matrix]] = {
    "iou": lambda iou, area, same: iou,
    "iou-same-class": lambda iou, area, same: iou * same,
    "smaller": lambda iou, area, same: _over_smaller(iou, area),
    "smaller-same-class": lambda iou, area, same: _over_smaller(iou, area) * same,
}
"""What overlap means: IoU, or the intersection as a part of the smaller box; of any two objects,
or of two of one class."""


def images_by_rule(data: AmodalCoco) -> dict[str, list[int]]:
    """Return the ids of the images with a pair that overlaps by `MIN_OVERLAP`, for every rule.

    Raises:
        DatasetError: an annotation has no box.
    """
    chosen: dict[str, list[int]] = {rule: [] for rule in RULES}
    for image_id in sorted(data.images):
        rows = [row for row in data.annotations_of(image_id) if not row.get("iscrowd")]
        for row in rows:
            if len(row.get("bbox", ())) != 4:
                raise DatasetError(f"{data.path}: annotation {row['id']} has no 'bbox'")
        boxes = xywh_to_xyxy(np.array([row["bbox"] for row in rows], np.float32).reshape(-1, 4))
        label = np.array([row["category_id"] for row in rows])
        iou, area = box_iou(boxes, boxes), box_area(boxes)
        np.fill_diagonal(iou, 0)
        for rule, overlap in RULES.items():
            if (overlap(iou, area, np.equal.outer(label, label)) >= MIN_OVERLAP).any():
                chosen[rule].append(image_id)
    return chosen


def nearest(chosen: dict[str, list[int]], images: int) -> str:
    """Name the rule whose share of the images is nearest to the published one."""
    goal = PUBLISHED_IMAGES / PUBLISHED_OF
    return min(chosen, key=lambda rule: abs(len(chosen[rule]) / max(images, 1) - goal))


def subset(data: AmodalCoco, image_ids: list[int]) -> AmodalCoco:
    """Keep some of the images and what belongs to them."""
    kept = set(image_ids)
    annotations = {k: row for k, row in data.annotations.items() if row["image_id"] in kept}
    return AmodalCoco(
        path=data.path,
        images={id: data.images[id] for id in image_ids},
        categories=data.categories,
        annotations=annotations,
        occlusions=tuple(e for e in data.occlusions if e["occluder_id"] in annotations),
        info=data.info,
    )


def table(chosen: dict[str, list[int]], images: int, taken: str) -> str:
    """Format the counts beside the published one."""
    lines = [f"{'overlap of 0.2':20} {'images':>7} {'share':>7}"]
    for rule, ids in chosen.items():
        mark = "  <- written" if rule == taken else ""
        lines.append(f"{rule:20} {len(ids):7,} {len(ids) / max(images, 1):7.1%}{mark}")
    share = PUBLISHED_IMAGES / PUBLISHED_OF
    lines.append(f"{'published':20} {PUBLISHED_IMAGES:7,} {share:7.1%}")
    return "\n".join(lines)
