"""The on-disk scene format, shared by truth and predictions: "amodal COCO".

COCO JSON. Each annotation has ``segmentation`` (amodal; RLE or polygons), ``visible_segmentation``
(RLE or polygons), ``bbox`` and ``visible_bbox`` (xywh), ``area`` (amodal, px), ``occlusion_rate``
(0..1), ``category_id``, ``image_id``, ``iscrowd``, ``id``, and ``score`` in predictions. The top
level also has ``occlusions``: ``{image_id, occluder_id, occludee_id, confidence}``, by annotation
ids, and may have ``depth_orders``: ``{closer_id, farther_id, equal, overlap, count}``.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from amodal_perception import files
from amodal_perception.boxes import xywh_to_xyxy, xyxy_to_xywh
from amodal_perception.errors import DatasetError
from amodal_perception.masks import mask_windows
from amodal_perception.storage.coco_rle import checked_rle
from amodal_perception.structures import BoolArray, Instances, IntArray, Scene

Json = dict[str, Any]


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


def read(path: Path) -> AmodalCoco:
    """Read and check a file of scenes.

    Raises:
        DatasetError: not readable, not JSON, a missing key, a repeated or unknown id.
    """
    try:
        content = json.loads(Path(path).read_text())
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise DatasetError(f"{path}: is not JSON ({error})") from None
    if not isinstance(content, dict):
        raise DatasetError(f"{path}: expected a JSON object with images and annotations")
    for key in ("images", "annotations", "categories"):
        if not isinstance(content.get(key), list):
            raise DatasetError(f"{path}: has no list '{key}'; see the amodal COCO format")
    return AmodalCoco(
        path=Path(path),
        images=_by_id(content["images"], path, "image", ("file_name", "height", "width")),
        categories=_by_id(content["categories"], path, "category", ("name",)),
        annotations=_by_id(
            content["annotations"], path, "annotation", ("image_id", "category_id", "segmentation")
        ),
        occlusions=tuple(content.get("occlusions", ())),
        info=content.get("info", {}),
        depth_orders=tuple(content.get("depth_orders", ())),
    ).check()


def _by_id(rows: list[Json], path: Path, kind: str, keys: tuple[str, ...]) -> dict[int, Json]:
    indexed: dict[int, Json] = {}
    for row in rows:
        if not isinstance(row, dict):
            raise DatasetError(f"{path}: {kind} {row!r:.40} is no JSON object")
        missing = [key for key in ("id", *keys) if key not in row]
        if missing:
            raise DatasetError(f"{path}: {kind} {row.get('id', '?')} has no '{missing[0]}'")
        if row["id"] in indexed:
            raise DatasetError(f"{path}: {kind} id {row['id']} occurs twice")
        indexed[row["id"]] = row
    return indexed


@dataclass(frozen=True, eq=False)
class AmodalCoco:
    """A file of scenes in memory: the rows by their ids, masks decoded when asked for."""

    path: Path
    images: dict[int, Json]
    categories: dict[int, Json]
    annotations: dict[int, Json]
    occlusions: tuple[Json, ...]
    info: Json
    depth_orders: tuple[Json, ...] = ()

    def check(self) -> AmodalCoco:
        """Return self if every reference names something that is there, else DatasetError."""
        for row in self.annotations.values():
            if row["image_id"] not in self.images:
                raise DatasetError(
                    f"{self.path}: annotation {row['id']} names image {row['image_id']}, "
                    "which is not in the file"
                )
            if row["category_id"] not in self.categories:
                raise DatasetError(
                    f"{self.path}: annotation {row['id']} names category {row['category_id']}, "
                    "which is not in the file"
                )
        for edge in self.occlusions:
            self._check_pair(edge, "occlusion", ("occluder_id", "occludee_id"))
        for order in self.depth_orders:
            self._check_pair(order, "depth order", ("closer_id", "farther_id"))
        return self

    def _check_pair(self, pair: Any, kind: str, keys: tuple[str, str]) -> None:
        if not isinstance(pair, dict):
            raise DatasetError(f"{self.path}: {kind} {pair!r:.40} is no JSON object")
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

    def annotations_of(self, image_id: int) -> list[Json]:
        """List an image's annotations, best score first, file order among equals."""
        return self._by_image.get(image_id, [])

    def instances_of(self, image_id: int) -> Instances:
        """Decode an image's masks; instance i is `annotations_of(image_id)[i]`."""
        image = self.images[image_id]
        size_hw = (int(image["height"]), int(image["width"]))
        rows = self.annotations_of(image_id)
        if not rows:
            return Instances.empty(size_hw)
        amodal = np.stack([self._mask(row, "segmentation", size_hw) for row in rows])
        visible = np.stack(
            [
                self._mask(
                    row,
                    "visible_segmentation" if "visible_segmentation" in row else "segmentation",
                    size_hw,
                )
                for row in rows
            ]
        )
        windows = mask_windows(amodal)
        boxes = [
            xywh_to_xyxy(np.array([row["bbox"]], np.float32))[0] if "bbox" in row else window
            for row, window in zip(rows, windows)
        ]
        label_of = {category: label for label, category in enumerate(sorted(self.categories))}
        return Instances.from_masks(
            boxes_xyxy=np.array(boxes, np.float32),
            scores=np.array([row.get("score", 1.0) for row in rows], np.float32),
            labels=np.array([label_of[row["category_id"]] for row in rows], np.int32),
            amodal=amodal,
            visible=visible & amodal,
            windows_xyxy=windows,
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

    def _mask(self, row: Json, key: str, size_hw: tuple[int, int]) -> BoolArray:
        try:
            mask = decode_mask(row[key], size_hw)
        except (TypeError, ValueError, KeyError) as error:
            raise DatasetError(f"{self.path}: annotation {row['id']}, '{key}': {error}") from None
        if mask.shape != size_hw:
            raise DatasetError(
                f"{self.path}: annotation {row['id']}, '{key}' is {mask.shape[0]} x "
                f"{mask.shape[1]}, but its image is {size_hw[0]} x {size_hw[1]}"
            )
        return mask


def encode_mask(mask: BoolArray) -> Json:
    """Encode a [H, W] bool mask as COCO's compressed RLE."""
    rle = coco_mask.encode(np.asfortranarray(mask.view(np.uint8)))
    return {"size": [int(n) for n in rle["size"]], "counts": rle["counts"].decode("ascii")}


def decode_mask(segmentation: Any, size_hw: tuple[int, int]) -> BoolArray:
    """Decode COCO's RLE (compressed or not) or polygons to a [H, W] bool mask.

    Raises:
        ValueError: the runs are damaged, or do not cover their size.
    """
    if isinstance(segmentation, list):
        rle = coco_mask.merge(coco_mask.frPyObjects(segmentation, *size_hw))
    else:
        height, width = segmentation["size"]
        rle = checked_rle(segmentation["counts"], (height, width))
    return coco_mask.decode(rle).view(np.bool_)
