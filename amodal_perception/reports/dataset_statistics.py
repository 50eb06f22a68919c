"""Statistics of a data set: occlusion rates, classes, and occlusion order."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from amodal_perception.ordering import removal_order
from amodal_perception.storage.amodal_coco import AmodalCoco, Json, visible_inside
from amodal_perception.storage.coco_rle import areas_px
from amodal_perception.structures import BoolArray

RATE_BINS = ("in full view", *(f"{low}-{low + 10} % hidden" for low in range(0, 100, 10)))
"""Occlusion rate 0, then tenths: above the lower bound, up to and with the upper one."""


@dataclass(frozen=True)
class ClassStatistics:
    """The objects of one class.

    Attributes:
        name: of the class.
        objects: how many there are.
        occluded: of how many a part is hidden.
        mean_rate: mean occlusion rate of all, 0..1.
    """

    name: str
    objects: int
    occluded: int
    mean_rate: float


@dataclass(frozen=True)
class OrderStatistics:
    """Statistics of the occlusion order.

    Attributes:
        edges: pairs (occluder, occludee).
        images: images that have one.
        mutual: pairs of objects that hide each other.
        cyclic_images: images in which no order of removal fits all edges.
        longest_chain: most objects that lie one behind the other.
        sources: where the edges of images are from, if the file says so: images by source.
    """

    edges: int
    images: int
    mutual: int
    cyclic_images: int
    longest_chain: int
    sources: dict[str, int]


@dataclass(frozen=True)
class DatasetStatistics:
    """Statistics of a data set: Table 5 of Follmann et al. (WACV 2019), and more.

    An object is occluded when it has a hidden pixel. Crowds are counted, and are no objects.

    Attributes:
        images: how many there are.
        occluded_images: of how many at least one object is occluded.
        objects: how many there are.
        occluded_objects: of how many a part is hidden.
        mean_rate: mean occlusion rate of all objects, 0..1.
        mean_rate_occluded: the same of the occluded ones alone; 0 if there is none.
        unseen_objects: objects of which nothing is visible.
        crowds: annotations that stand for groups.
        stuff: objects labelled as background.
        classes: by class, in the order of the file; those without objects too.
        histogram: objects by `RATE_BINS`.
        order: of the occlusions.
        amodal: whether complete masks are known at all; if not, nothing counts as occluded.
    """

    images: int
    occluded_images: int
    objects: int
    occluded_objects: int
    mean_rate: float
    mean_rate_occluded: float
    unseen_objects: int
    crowds: int
    stuff: int
    classes: tuple[ClassStatistics, ...]
    histogram: tuple[int, ...]
    order: OrderStatistics
    amodal: bool

    @property
    def occluded_image_share(self) -> float:
        """Share of images with an occluded object, 0..1."""
        return self.occluded_images / max(self.images, 1)

    @property
    def occluded_object_share(self) -> float:
        """Share of occluded objects, 0..1."""
        return self.occluded_objects / max(self.objects, 1)


def occlusion_rate(data: AmodalCoco, row: Json) -> float:
    """Return an annotation's occlusion rate: the stored one, or else that of its masks."""
    if "occlusion_rate" in row:
        return float(row["occlusion_rate"])
    if "visible_segmentation" not in row or not has_amodal_truth(data):
        return 0.0
    amodal_px, seen_px = areas_px([row["segmentation"], visible_inside(row)]).tolist()
    return 1 - seen_px / max(amodal_px, 1)


def has_amodal_truth(data: AmodalCoco) -> bool:
    """Return whether amodal masks are stored; converted COCO has visible ones only."""
    return data.info.get("amodal_truth", True) is not False


def summarise(data: AmodalCoco) -> DatasetStatistics:
    """Count a data set."""
    rows = [row for row in data.annotations.values() if not row.get("iscrowd")]
    rates = np.array([occlusion_rate(data, row) for row in rows])
    occluded = rates > 0
    category = np.array([row["category_id"] for row in rows], np.int64)
    classes = []
    for number in sorted(data.categories):
        mine = category == number
        classes.append(
            ClassStatistics(
                str(data.categories[number]["name"]),
                int(mine.sum()),
                int(occluded[mine].sum()),
                _mean(rates[mine]),
            )
        )
    return DatasetStatistics(
        images=len(data.images),
        occluded_images=len({row["image_id"] for row, is_so in zip(rows, occluded) if is_so}),
        objects=len(rows),
        occluded_objects=int(occluded.sum()),
        mean_rate=_mean(rates),
        mean_rate_occluded=_mean(rates[occluded]),
        unseen_objects=int((rates >= 1).sum()),
        crowds=len(data.annotations) - len(rows),
        stuff=sum(bool(row.get("isstuff")) for row in rows),
        classes=tuple(classes),
        histogram=tuple(np.bincount(rate_bins(rates), minlength=len(RATE_BINS)).tolist()),
        order=_order(data),
        amodal=has_amodal_truth(data),
    )


def rate_bins(rates: np.ndarray) -> np.ndarray:
    """Return the index into `RATE_BINS` of each rate."""
    # 0.3 * 10 is a little more than 3; a single hidden pixel is still more than none.
    return np.ceil(np.clip(rates, 0, 1) * 10 - 1e-6).astype(np.int64)


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else 0.0


def _order(data: AmodalCoco) -> OrderStatistics:
    images = mutual = cyclic = longest = 0
    for image_id in data.images:
        edges = data.occlusions_of(image_id)
        if not len(edges):
            continue
        images += 1
        count = int(edges.max()) + 1
        occludes = np.zeros((count, count), np.bool_)
        occludes[edges[:, 0], edges[:, 1]] = True
        np.fill_diagonal(occludes, False)
        mutual += int((occludes & occludes.T).sum()) // 2
        order, cycles = removal_order(occludes, np.zeros(count))
        cyclic += bool(cycles)
        longest = max(longest, _longest_chain(occludes, order, cycles))
    stated = Counter(row["occlusions_from"] for row in data.images.values() if _states(row))
    return OrderStatistics(len(data.occlusions), images, mutual, cyclic, longest, dict(stated))


def _states(row: Json) -> bool:
    return isinstance(row.get("occlusions_from"), str)


def _longest_chain(
    occludes: BoolArray, order: np.ndarray, cycles: tuple[tuple[int, ...], ...]
) -> int:
    """Count the objects of the longest chain of occlusions; edges within a cycle do not count."""
    forward = occludes.copy()
    for group in cycles:
        forward[np.ix_(group, group)] = False
    depth = np.ones(len(order), np.int64)
    for i in order:
        behind = forward[i]
        depth[behind] = np.maximum(depth[behind], depth[i] + 1)
    return int(depth.max())
