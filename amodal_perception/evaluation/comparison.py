"""Truth and predictions side by side, in flat arrays that every protocol shares.

Everything expensive happens here and once: one call per image counts what the amodal, visible and
hidden parts of every predicted and true object share.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from amodal_perception.errors import DatasetError
from amodal_perception.storage.amodal_coco import AmodalCoco, Json, visible_inside, visible_rle
from amodal_perception.storage.coco_rle import (
    Rle,
    areas_px,
    box_iou_matrix,
    boxes_xywh,
    difference,
    intersection,
    iou_matrix,
)
from amodal_perception.storage.predictions_file import RAW, SCENE
from amodal_perception.structures import BoolArray, IntArray

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

UNSTATED = "unstated"
PREDICTIONS_AT_ONCE = 500
"""Compared with all true objects of an image: thousands at once would need gigabytes."""

TARGETS = ("amodal_mask", "visible_mask", "amodal_box", "visible_box")
"""What a prediction and an object can be compared by."""


@dataclass(frozen=True, eq=False)
class Objects:
    """The N objects of a file, by image, then score (best first), class and place in the file.

    Attributes:
        ids: [N] int64, annotation ids.
        image: [N] int32, index into `Comparison.image_ids`.
        label: [N] int32, index of the class.
        score: [N] float64; 1 in truth.
        amodal: N complete regions.
        visible: N visible parts as stored, which need not lie inside the complete regions.
        occluded: the hidden parts that a network predicts by a mask of their own; None: it does
            not.
        amodal_px, visible_px: [N] int64, their areas.
        hidden_px: [N] int64, area of the complete region less its visible part.
        area: [N] float64, COCO's ``area`` where stored, else `amodal_px`.
        amodal_box_xywh, visible_box_xywh: [N, 4] float64, pixels.
        is_crowd: [N] bool, COCO's ``iscrowd``.
        rows: N annotations as stored.
        first_of_image: [I + 1] int64, index of the first object of each image, then N.
    """

    ids: Int64
    image: IntArray
    label: IntArray
    score: Float64
    amodal: list[Rle]
    visible: list[Rle]
    occluded: list[Rle] | None
    amodal_px: Int64
    visible_px: Int64
    hidden_px: Int64
    area: Float64
    amodal_box_xywh: Float64
    visible_box_xywh: Float64
    is_crowd: BoolArray
    rows: list[Json]
    first_of_image: Int64

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def occlusion_rate(self) -> Float64:
        """[N] share of the complete region that is hidden, 0..1; 0 for an empty region."""
        return self.hidden_px / np.maximum(self.amodal_px, 1)


@dataclass(frozen=True, eq=False)
class Overlaps:
    """The n pairs of a predicted and a true object of one image whose regions or boxes meet.

    Attributes:
        predicted, true: [n] int64, indices of `Objects`; ascending by `predicted`, then `true`.
        iou: by target (`TARGETS`, ``hidden_mask`` and ``occluded_mask``) [n] float64, 0..1; for a
            crowd, over the prediction's area instead of the union, as in COCO. 0 where nothing of
            both is hidden. ``occluded_mask`` is the hidden part as the network predicts it by a
            mask of its own, and the same as ``hidden_mask`` where there is none.
        shared_px: by ``amodal_mask``, ``visible_mask`` and ``hidden_mask`` [n] int64.
    """

    predicted: Int64
    true: Int64
    iou: dict[str, Float64]
    shared_px: dict[str, Int64]


@dataclass(frozen=True, eq=False)
class Comparison:
    """What the protocols measure.

    Attributes:
        truth_path, predictions_path: where the two come from, for messages.
        kind: of predictions: ``raw`` (what the network gives), ``scene`` (what the robot is told)
            or ``unstated``, see `amodal_perception.storage.predictions_file`.
        one_mask: the predictions are of a network with one mask, amodal and visible in one.
        image_ids: I image ids of the truth, ascending.
        class_names: names by label.
        truth, predictions: the objects.
        overlaps: the pairs that meet.
        truth_has_visible, predictions_have_visible: visible regions are stored.
        truth_has_order: occlusions are stored.
        ignored: [T] bool, true objects that are neither asked for nor, when found, a false alarm:
            crowds, and those of which nothing is visible (unless these are counted).
        true_edges, predicted_edges: [E, 2] int64 (occluder, occludee), indices of objects.
        depth_orders: rows of the truth and of the predictions, see `protocols.order`.
    """

    truth_path: str
    predictions_path: str
    kind: str
    one_mask: bool
    image_ids: list[int]
    class_names: list[str]
    truth: Objects
    predictions: Objects
    overlaps: Overlaps
    truth_has_visible: bool
    predictions_have_visible: bool
    truth_has_order: bool
    ignored: BoolArray
    true_edges: Int64
    predicted_edges: Int64
    depth_orders: tuple[list[Json], list[Json]]

    @property
    def claims_hidden(self) -> bool:
        """Whether predictions say what is hidden: a network with one mask says nothing."""
        return self.predictions_have_visible and not (self.one_mask and self.kind == RAW)

    def sum_by_image(self, image: IntArray, values: NDArray | None = None) -> Float64:
        """Sum [N] values (or count) of objects by the image each is in: [I] float64."""
        return np.bincount(image, values, minlength=len(self.image_ids)).astype(np.float64)


def compare_files(
    truth: AmodalCoco, predictions: AmodalCoco, *, count_fully_hidden: bool = False
) -> Comparison:
    """Put aligned truth and predictions side by side.

    Args:
        truth: what is there.
        predictions: what was found, with the truth's ids (see `alignment.align`).
        count_fully_hidden: ask for objects of which nothing is visible, too.

    Raises:
        DatasetError: a truth without objects to find.
    """
    image_ids = sorted(truth.images)
    labels = {category: label for label, category in enumerate(sorted(truth.categories))}
    true = _objects(truth, image_ids, labels)
    predicted = _objects(predictions, image_ids, labels)
    ignored = true.is_crowd.copy()
    if not count_fully_hidden:
        ignored |= true.visible_px == 0
    if ignored.all():
        raise DatasetError(f"{truth.path}: holds no object to measure against")
    has_visible = [
        bool(scenes.annotations)
        and all("visible_segmentation" in row for row in scenes.annotations.values())
        for scenes in (truth, predictions)
    ]
    kind = predictions.info.get("predictions")
    return Comparison(
        truth_path=str(truth.path),
        predictions_path=str(predictions.path),
        kind=kind if kind in (RAW, SCENE) else UNSTATED,
        one_mask=predictions.info.get("one_mask") is True,
        image_ids=image_ids,
        class_names=[truth.categories[category]["name"] for category in labels],
        truth=true,
        predictions=predicted,
        overlaps=_overlaps(predicted, true),
        truth_has_visible=has_visible[0],
        predictions_have_visible=has_visible[1] or not predictions.annotations,
        truth_has_order=bool(truth.occlusions),
        ignored=ignored,
        true_edges=_edges(truth, true),
        predicted_edges=_edges(predictions, predicted),
        depth_orders=(_depth_orders(truth), _depth_orders(predictions)),
    )


def _objects(scenes: AmodalCoco, image_ids: Sequence[int], labels: dict[int, int]) -> Objects:
    rows = list(scenes.annotations.values())
    image_of = {image_id: i for i, image_id in enumerate(image_ids)}
    image = np.array([image_of[row["image_id"]] for row in rows], np.int32)
    label = np.array([labels[row["category_id"]] for row in rows], np.int32)
    score = np.array([row.get("score", 1.0) for row in rows], np.float64)
    # lexsort is stable, so the file decides last: the order in which COCO's own code meets them.
    order = np.lexsort((label, -score, image))
    rows = [rows[i] for i in order]
    amodal = [row["segmentation"] for row in rows]
    visible = [visible_rle(row) for row in rows]
    amodal_px, visible_px = areas_px(amodal), areas_px(visible)
    occluded = [row["occluded_segmentation"] for row in rows if "occluded_segmentation" in row]
    seen_px = areas_px([visible_inside(row) for row in rows])
    regions_xywh = boxes_xywh(amodal), boxes_xywh(visible)
    return Objects(
        ids=np.array([row["id"] for row in rows], np.int64),
        image=image[order],
        label=label[order],
        score=score[order],
        amodal=amodal,
        visible=visible,
        occluded=occluded if rows and len(occluded) == len(rows) else None,
        amodal_px=amodal_px,
        visible_px=visible_px,
        hidden_px=amodal_px - seen_px,
        area=np.array([row.get("area", px) for row, px in zip(rows, amodal_px)], np.float64),
        amodal_box_xywh=_boxes(rows, "bbox", regions_xywh[0]),
        visible_box_xywh=_boxes(rows, "visible_bbox", regions_xywh[1]),
        is_crowd=np.array([bool(row.get("iscrowd", 0)) for row in rows], np.bool_),
        rows=rows,
        first_of_image=np.searchsorted(image[order], np.arange(len(image_ids) + 1)),
    )


def _boxes(rows: list[Json], key: str, of_regions: Float64) -> Float64:
    """Take the stored boxes, and those of the regions where none are."""
    boxes = [row.get(key, box) for row, box in zip(rows, of_regions)]
    return np.array(boxes, np.float64).reshape(-1, 4)


def _overlaps(predicted: Objects, true: Objects) -> Overlaps:
    starts = predicted.first_of_image, true.first_of_image
    parts: list[tuple[NDArray, ...]] = []
    images = np.flatnonzero(np.diff(starts[0]) * np.diff(starts[1]))
    for image in tqdm(images, "comparing", unit="image", delay=2, leave=False):
        p = slice(starts[0][image], starts[0][image + 1])
        t = slice(starts[1][image], starts[1][image + 1])
        for first in range(p.start, p.stop, PREDICTIONS_AT_ONCE):
            some = slice(first, min(first + PREDICTIONS_AT_ONCE, p.stop))
            parts.append(_image_overlaps(predicted, true, some, t))
    columns = [np.concatenate(column) for column in zip(*parts)] if parts else [np.zeros(0)] * 11
    pair_p, pair_t = (column.astype(np.int64) for column in columns[:2])
    return Overlaps(
        predicted=pair_p,
        true=pair_t,
        iou=dict(zip((*TARGETS, "hidden_mask", "occluded_mask"), columns[2:8])),
        shared_px={
            name: column.astype(np.int64)
            for name, column in zip(("amodal_mask", "visible_mask", "hidden_mask"), columns[8:])
        },
    )


def _image_overlaps(predicted: Objects, true: Objects, p: slice, t: slice) -> tuple[NDArray, ...]:
    """Compare all objects of one image; return the columns of `Overlaps` for those that meet."""
    crowd = true.is_crowd[t].tolist()
    amodal_box = box_iou_matrix(predicted.amodal_box_xywh[p], true.amodal_box_xywh[t], crowd)
    visible_box = box_iou_matrix(predicted.visible_box_xywh[p], true.visible_box_xywh[t], crowd)
    n, m = amodal_box.shape
    iou = iou_matrix(
        predicted.amodal[p] + predicted.visible[p], true.amodal[t] + true.visible[t], crowd * 2
    )
    px_p = np.concatenate([predicted.amodal_px[p], predicted.visible_px[p]])
    px_t = np.concatenate([true.amodal_px[t], true.visible_px[t]])
    shared = _shared_px(iou, px_p, px_t, crowd * 2)
    amodal_iou, visible_iou = iou[:n, :m], iou[n:, m:]
    amodal_px, visible_px = shared[:n, :m], shared[n:, m:]
    seen_p, seen_t = (o.amodal_px[s] - o.hidden_px[s] for o, s in ((predicted, p), (true, t)))
    if (seen_p < predicted.visible_px[p]).any() or (seen_t < true.visible_px[t]).any():
        # Visible pixels outside the complete region are no part of what is not hidden.
        clipped_p, clipped_t = _clipped(predicted, p), _clipped(true, t)
        px_p = np.concatenate([predicted.amodal_px[p], seen_p])
        px_t = np.concatenate([true.amodal_px[t], seen_t])
        iou = iou_matrix(predicted.amodal[p] + clipped_p, true.amodal[t] + clipped_t, crowd * 2)
        shared = _shared_px(iou, px_p, px_t, crowd * 2)
    # With V inside A: |(A - V) and (B - W)| = |AB| - |AW| - |VB| + |VW|.
    hidden_px = shared[:n, :m] - shared[:n, m:] - shared[n:, :m] + shared[n:, m:]
    hidden_p, hidden_t = predicted.hidden_px[p][:, None], true.hidden_px[t][None, :]
    union = np.where(crowd, hidden_p, hidden_p + hidden_t - hidden_px)
    hidden_iou = hidden_px / np.maximum(union, 1)
    occluded_iou = hidden_iou
    if predicted.occluded is not None:
        occluded_iou = iou_matrix(predicted.occluded[p], _hidden(true, t), crowd)
    rows, columns = np.nonzero((amodal_box > 0) | (visible_box > 0) | (amodal_px > 0))
    values = amodal_iou, visible_iou, amodal_box, visible_box, hidden_iou, occluded_iou
    shared_px = amodal_px, visible_px, hidden_px
    return (
        rows + p.start,
        columns + t.start,
        *(value[rows, columns] for value in values + shared_px),
    )


def _shared_px(
    iou: Float64, px_p: Int64, px_t: Int64, crowd: Sequence[int]
) -> NDArray[np.float64]:
    """Turn IoUs back into whole numbers of shared pixels: i / (a + b - i) gives i, exactly."""
    a, b = px_p[:, None].astype(np.float64), px_t[None, :].astype(np.float64)
    return np.rint(np.where(np.array(crowd, np.bool_), iou * a, iou * (a + b) / (1 + iou)))


def _clipped(objects: Objects, part: slice) -> list[Rle]:
    return [intersection(*pair) for pair in zip(objects.amodal[part], objects.visible[part])]


def _hidden(objects: Objects, part: slice) -> list[Rle]:
    return [difference(*pair) for pair in zip(objects.amodal[part], objects.visible[part])]


def _edges(scenes: AmodalCoco, objects: Objects) -> Int64:
    index_of = {int(number): i for i, number in enumerate(objects.ids)}
    edges = [(index_of[e["occluder_id"]], index_of[e["occludee_id"]]) for e in scenes.occlusions]
    unique = np.array(sorted(set(edges)), np.int64).reshape(-1, 2)
    return unique[unique[:, 0] != unique[:, 1]]


def _depth_orders(scenes: AmodalCoco) -> list[Json]:
    return list(scenes.depth_orders)


def shared_px(a: Rle, b: Rle) -> int:
    """Count the pixels that two regions share."""
    return int(areas_px([intersection(a, b)])[0])
