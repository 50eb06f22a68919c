"""The on-disk scene format, shared by truth and predictions: "amodal COCO".

COCO JSON. Each annotation has ``segmentation`` (amodal; RLE or polygons), ``visible_segmentation``
(RLE or polygons), ``bbox`` and ``visible_bbox`` (xywh), ``area`` (amodal, px), ``occlusion_rate``
(0..1), ``category_id``, ``image_id``, ``iscrowd``, ``id``, and ``score`` in predictions; what a
network gives may have ``occluded_segmentation``, its own mask of the hidden part. The top
level also has ``occlusions``: ``{image_id, occluder_id, occludee_id, confidence}``, by annotation
ids, and may have ``depth_orders``: ``{closer_id, farther_id, equal, overlap, count}``. What is
``null`` is taken as absent.

`read` checks a file once and for all: ids and numbers are what they say, every mask is a
compressed RLE that covers its image.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amodal_perception import files
from amodal_perception.boxes import xywh_to_xyxy, xyxy_to_xywh
from amodal_perception.errors import DatasetError
from amodal_perception.masks import mask_windows
from amodal_perception.storage.coco_rle import Rle, boxes_xywh, encode_mask, intersection
from amodal_perception.storage.coco_rows import (
    REFERENCES,
    present,
    read_annotations,
    read_categories,
    read_images,
    read_pair,
)
from amodal_perception.storage.decode_strip import decode_strip
from amodal_perception.storage.json_reader import read_json
from amodal_perception.structures import BoolArray, Instances, IntArray, Scene

Json = dict[str, Any]

ANNOTATIONS = "annotations.json"
"""A data set's file in its folder."""


def image_record(image_id: int, file_name: str, size_hw: tuple[int, int], **extra: Any) -> Json:
    """Describe one image; `extra` keys (such as ``stamp_ns``) are kept."""
    height, width = size_hw
    return {"id": image_id, "file_name": file_name, "height": height, "width": width, **extra}


def categories_of(class_names: Sequence[str]) -> list[Json]:
    """List the categories; ids start at 1, in the order of the class names."""
    return [{"id": i, "name": name} for i, name in enumerate(class_names, 1)]


def scene_to_annotations(
    scene: Scene, *, image_id: int, first_id: int, predicted: bool = True
) -> tuple[list[Json], list[Json]]:
    """Convert a scene to annotations and occlusions.

    Args:
        scene: what to store.
        image_id: the image the annotations belong to.
        first_id: id of the first annotation; the others follow by one.
        predicted: store scores and confidences; truth has none.
    """
    instances = scene.instances
    # The network's box of a prediction may differ from its mask's; both are results.
    amodal_xywh = xyxy_to_xywh(instances.boxes_xyxy)
    visible_xywh = xyxy_to_xywh(mask_windows(instances.visible).astype(np.float32))
    annotations = []
    for i in range(len(instances)):
        annotation: Json = {
            "id": first_id + i,
            "image_id": image_id,
            "category_id": int(instances.labels[i]) + 1,
            "segmentation": encode_mask(instances.amodal[i]),
            "visible_segmentation": encode_mask(instances.visible[i]),
            "bbox": [round(float(v), 2) for v in amodal_xywh[i]],
            "visible_bbox": [float(v) for v in visible_xywh[i]],
            "area": int(instances.amodal_area_px[i]),
            "occlusion_rate": round(float(instances.occlusion_rate[i]), 6),
            "iscrowd": 0,
        }
        if predicted:
            annotation["score"] = round(float(instances.scores[i]), 6)
        annotations.append(annotation)
    occlusions = []
    for (occluder, occludee), confidence in zip(scene.graph.edges, scene.graph.confidence):
        occlusion: Json = {
            "image_id": image_id,
            "occluder_id": first_id + int(occluder),
            "occludee_id": first_id + int(occludee),
        }
        if predicted:
            occlusion["confidence"] = round(float(confidence), 6)
        occlusions.append(occlusion)
    return annotations, occlusions


def write(
    path: Path,
    *,
    images: Sequence[Json],
    annotations: Sequence[Json],
    categories: Sequence[Json],
    occlusions: Sequence[Json],
    info: Json | None = None,
) -> None:
    """Write a file of scenes, whole or not at all."""
    content = {
        "info": info or {},
        "images": list(images),
        "categories": list(categories),
        "annotations": list(annotations),
        "occlusions": list(occlusions),
    }
    files.write_json(path, content)


def annotations_file(data: Path) -> Path:
    """Return a data set's file, given the file itself or the folder it is in."""
    data = Path(data)
    is_folder = data.is_dir() or not (data.suffix or data.exists())
    return data / ANNOTATIONS if is_folder else data


def read(path: Path) -> AmodalCoco:
    """Read and check a file of scenes.

    Args:
        path: the file, or the data set's folder: then ``annotations.json`` in it.

    Raises:
        DatasetError: not readable, not JSON, a missing key, a repeated or unknown id, a value or
            a mask that cannot be meant.
    """
    path = annotations_file(path)
    return from_json(read_json(path), path)


def from_json(content: Any, path: Path) -> AmodalCoco:
    """Check what a file of scenes holds; its rows are changed to their checked form.

    Args:
        content: the file's JSON.
        path: of the file, for messages and its photographs.

    Raises:
        DatasetError: as `read`.
    """
    if not isinstance(content, dict):
        raise DatasetError(f"{path}: expected a JSON object with images and annotations")
    for key in ("images", "annotations", "categories"):
        if not isinstance(content.get(key), list):
            raise DatasetError(f"{path}: has no list '{key}'; see the amodal COCO format")
    content = {"info": {}, "occlusions": [], "depth_orders": [], **present(content)}
    if not isinstance(content["info"], dict):
        raise DatasetError(f"{path}: 'info' is no JSON object")
    for key in ("occlusions", "depth_orders"):
        if not isinstance(content[key], list):
            raise DatasetError(f"{path}: '{key}' is no list")
    images = read_images(content["images"], path)
    categories = read_categories(content["categories"], path)
    return AmodalCoco(
        path=path,
        images=images,
        categories=categories,
        annotations=read_annotations(content["annotations"], images, categories, path),
        occlusions=tuple(read_pair(row, path, "occlusion") for row in content["occlusions"]),
        info=content["info"],
        depth_orders=tuple(read_pair(row, path, "depth order") for row in content["depth_orders"]),
    ).check()


def from_results(results: list[Any], path: Path, truth: AmodalCoco) -> AmodalCoco:
    """Check a plain COCO list of results: annotations with scores, without ids.

    Args:
        results: the file's JSON.
        path: of the file, for messages.
        truth: has the images and categories that the results name.

    Raises:
        DatasetError: as `read`.
    """
    for i, result in enumerate(results, 1):
        for key in (*REFERENCES, "score"):
            if not isinstance(result, dict) or result.get(key) is None:
                raise DatasetError(f"{path}: result {i} has no '{key}'")
        result["id"] = i
    return AmodalCoco(
        path=path,
        images=truth.images,
        categories=truth.categories,
        annotations=read_annotations(results, truth.images, truth.categories, path),
        occlusions=(),
        info={},
    )


def visible_rle(row: Json) -> Rle:
    """Return the visible part of an annotation's mask as stored; all of it where none is."""
    return row["visible_segmentation" if "visible_segmentation" in row else "segmentation"]


@dataclass(frozen=True, eq=False)
class AmodalCoco:
    """A file of scenes in memory: the rows by their ids, masks decoded when asked for.

    Every ``segmentation``, ``visible_segmentation`` and ``occluded_segmentation`` is a checked RLE
    of its image's size.
    """

    path: Path
    images: dict[int, Json]
    categories: dict[int, Json]
    annotations: dict[int, Json]
    occlusions: tuple[Json, ...]
    info: Json
    depth_orders: tuple[Json, ...] = ()

    def check(self) -> AmodalCoco:
        """Return self if every pair names two annotations of one image, else DatasetError."""
        for edge in self.occlusions:
            self._check_pair(edge, "occlusion", ("occluder_id", "occludee_id"))
        for order in self.depth_orders:
            self._check_pair(order, "depth order", ("closer_id", "farther_id"))
        return self

    def _check_pair(self, pair: Json, kind: str, keys: tuple[str, str]) -> None:
        for key in keys:
            if pair.get(key) not in self.annotations:
                raise DatasetError(
                    f"{self.path}: {kind} {pair!r:.80}: {key} is {pair.get(key)}, "
                    "which is no annotation"
                )
        ends = [self.annotations[pair[key]] for key in keys]
        if ends[0]["image_id"] != ends[1]["image_id"]:
            raise DatasetError(
                f"{self.path}: {kind} {pair!r:.80} joins annotations {ends[0]['id']} and "
                f"{ends[1]['id']}, which are of different images"
            )

    @property
    def class_names(self) -> tuple[str, ...]:
        """Category names in the order of their ids: what `Instances.labels` index."""
        return tuple(self.categories[i]["name"] for i in sorted(self.categories))

    def size_of(self, image_id: int) -> tuple[int, int]:
        """Return an image's height and width, pixels."""
        row = self.images[image_id]
        return row["height"], row["width"]

    def annotations_of(self, image_id: int) -> list[Json]:
        """List an image's annotations, best score first, file order among equals."""
        return self._by_image.get(image_id, [])

    def instances_of(self, image_id: int) -> Instances:
        """Decode an image's masks; instance i is `annotations_of(image_id)[i]`."""
        size_hw = self.size_of(image_id)
        rows = self.annotations_of(image_id)
        if not rows:
            return Instances.empty(size_hw)
        amodal = [row["segmentation"] for row in rows]
        visible = [visible_inside(row) for row in rows]
        tight_xywh = boxes_xywh(amodal)
        boxes_of_rows = [row.get("bbox", box) for row, box in zip(rows, tight_xywh)]
        corners = np.hstack([tight_xywh[:, :2], tight_xywh[:, :2] + tight_xywh[:, 2:]])
        windows = corners.astype(np.int64)
        label_of = {category: label for label, category in enumerate(sorted(self.categories))}
        return Instances(
            boxes_xyxy=xywh_to_xyxy(np.array(boxes_of_rows, np.float32)),
            scores=np.array([row.get("score", 1.0) for row in rows], np.float32),
            labels=np.array([label_of[row["category_id"]] for row in rows], np.int32),
            size_hw=size_hw,
            windows_xyxy=windows.astype(np.int32),
            amodal_crops=_crops(amodal, windows),
            visible_crops=_crops(visible, windows),
        )

    def occlusions_of(self, image_id: int) -> IntArray:
        """List an image's edges: [E, 2] int32 (occluder, occludee), indices of `instances_of`."""
        index_of = {row["id"]: i for i, row in enumerate(self.annotations_of(image_id))}
        edges = [
            (index_of[edge["occluder_id"]], index_of[edge["occludee_id"]])
            for edge in self._edges_by_image.get(image_id, [])
        ]
        return np.array(edges, np.int32).reshape(-1, 2)

    @cached_property
    def _by_image(self) -> dict[int, list[Json]]:
        grouped = defaultdict(list)
        for row in self.annotations.values():
            grouped[row["image_id"]].append(row)
        return {
            image_id: sorted(rows, key=lambda row: -row.get("score", 1.0))
            for image_id, rows in grouped.items()
        }

    @cached_property
    def _edges_by_image(self) -> dict[int, list[Json]]:
        grouped = defaultdict(list)
        for edge in self.occlusions:
            grouped[self.annotations[edge["occluder_id"]]["image_id"]].append(edge)
        return grouped


def visible_inside(row: Json) -> Rle:
    """Return what of an annotation's visible mask is inside its amodal one."""
    amodal, visible = row["segmentation"], visible_rle(row)
    same = visible["counts"] == amodal["counts"]
    return amodal if same else intersection(amodal, visible)


def _crops(rles: list[Rle], windows_xyxy: NDArray[np.int64]) -> tuple[BoolArray, ...]:
    strip, first = decode_strip(rles, windows_xyxy)
    heights = (windows_xyxy[:, 3] - windows_xyxy[:, 1]).tolist()
    return tuple(
        np.ascontiguousarray(strip[:height, left:right]).view(np.bool_)
        for height, left, right in zip(heights, first[:-1], first[1:])
    )
