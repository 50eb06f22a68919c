"""Recompute boxes and occlusion rates, and areas that disagree; write amodal COCO."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from amodal_perception.storage import amodal_coco
from amodal_perception.storage.coco_rle import (
    Rle,
    areas_px,
    boxes_xywh,
    intersection,
    overlap_areas,
    touching,
    union,
)
from amodal_perception.storage.json_reader import is_number
from training.convert.photographs import Photographs
from training.convert.repair_log import RepairLog
from training.convert.source import Json, Source, SourceImage, SourceObject

Edges = Literal["given", "masks"]
Pixels = NDArray[np.int64]


@dataclass
class Tables:
    """What the written file will hold, and how the occlusions were found, in images."""

    images: list[Json] = field(default_factory=list)
    annotations: list[Json] = field(default_factory=list)
    occlusions: list[Json] = field(default_factory=list)
    occlusions_from: Counter[str] = field(default_factory=Counter)


def convert(
    source: Source,
    log: RepairLog,
    out: Path,
    *,
    images_dir: Path | None = None,
    edges: Edges = "given",
    info: Json | None = None,
) -> Tables:
    """Recompute everything that follows from the masks, and write an amodal COCO file.

    Args:
        source: what was read.
        log: repairs and omissions are counted here.
        out: the JSON file to write.
        images_dir: folder of the photographs; their names are written relative to `out`. None
            keeps the names of the source.
        edges: take occlusions from the order the file gives where it does, or always from masks.
        info: facts to keep in the file.

    Raises:
        DatasetError: something cannot be understood, and is not to be left out.
    """
    tables = Tables()
    photographs = Photographs(out, images_dir)
    ids = _AnnotationIds()
    for image in tqdm(source.images, total=source.count, unit="image", delay=2):
        if not photographs.fits(image.file_name, image.size_hw) and log.leave_out:
            continue
        masks = _measure(image.objects, source.extend, log.repairs)
        record = amodal_coco.image_record(
            image.id, photographs.name(image.file_name), image.size_hw, **image.extra
        )
        annotations = _annotate(image.id, masks, source.amodal, log.repairs)
        id_of = {}
        for obj, annotation in zip(masks.objects, annotations):
            annotation["id"] = id_of[obj.key] = ids.take(obj.id, log.repairs)
        if source.amodal:
            pairs, origin = _order(image, masks, edges)
            record["occlusions_from"] = origin
            tables.occlusions_from[origin] += 1
            tables.occlusions += [
                {"image_id": image.id, "occluder_id": id_of[front], "occludee_id": id_of[behind]}
                for front, behind in pairs
            ]
        tables.images.append(record)
        tables.annotations += annotations
    photographs.check_all(log, any_fits=bool(tables.images))
    facts = dict(info or {})
    if source.amodal:
        facts["occlusions_from"] = dict(tables.occlusions_from)
    else:
        facts["amodal_truth"] = False
    facts |= {
        "remarks": list(source.remarks),
        "repairs": dict(sorted((+log.repairs).items())),
        "left_out": list(log.left_out),
    }
    amodal_coco.write(
        out,
        images=tables.images,
        annotations=tables.annotations,
        categories=source.categories,
        occlusions=tables.occlusions,
        info=facts,
    )
    return tables


def occlusions_from_masks(
    visible: list[Rle], amodal: list[Rle], visible_px: Pixels
) -> list[tuple[int, int]]:
    """Order pairs by their masks, as PCNet's ground truth does (Zhan et al. 2020).

    For every pair whose visible masks touch (one dilated by a 3x3 cross): the one of which more
    visible pixels lie in the other's amodal mask is in front; the first one, when it is as many;
    none, when there are no such pixels.

    Args:
        visible: N masks.
        amodal: N masks.
        visible_px: [N] pixels of the visible masks.

    Returns:
        Pairs (front, behind) of indices, i < j in order of (i, j).
    """
    overlap = overlap_areas(visible, amodal, visible_px)
    candidates = np.argwhere(np.triu((overlap > 0) | (overlap.T > 0), k=1))
    return [
        (i, j) if overlap[i, j] >= overlap[j, i] else (j, i)
        for i, j in candidates[touching(visible, candidates)].tolist()
    ]


@dataclass(frozen=True)
class _Masks:
    """The objects of an image that have a pixel, their masks made consistent, and measured."""

    objects: list[SourceObject]
    amodal: list[Rle]
    visible: list[Rle]
    amodal_px: Pixels
    visible_px: Pixels


def _measure(objects: list[SourceObject], extend: bool, repairs: Counter[str]) -> _Masks:
    """Put every visible mask inside its amodal one; leave out objects without an amodal pixel."""
    amodal = [obj.amodal for obj in objects]
    amodal_px = areas_px(amodal)
    if not amodal_px.all():
        kept = amodal_px.nonzero()[0].tolist()
        repairs["annotations without an amodal pixel: left out"] += len(objects) - len(kept)
        return _measure([objects[i] for i in kept], extend, repairs)
    visible, visible_px = list(amodal), amodal_px.copy()
    partial = [i for i, obj in enumerate(objects) if obj.visible is not None]
    if not partial:
        return _Masks(objects, amodal, visible, amodal_px, visible_px)
    stored = [obj.visible for obj in objects if obj.visible is not None]
    inside = [intersection(mask, amodal[i]) for i, mask in zip(partial, stored)]
    stored_px, inside_px = areas_px(stored), areas_px(inside)
    for i, mask, cut, mask_px, cut_px in zip(partial, stored, inside, stored_px, inside_px):
        if cut_px == mask_px:
            visible[i], visible_px[i] = mask, mask_px
        elif extend:
            repairs["amodal masks without all visible pixels: extended to them"] += 1
            visible[i], visible_px[i] = mask, mask_px
            amodal[i] = union([amodal[i], mask])
            amodal_px[i] = areas_px([amodal[i]])[0]
        else:
            part = "wholly outside" if cut_px == 0 else "beyond"
            repairs[f"visible masks {part} their amodal masks: cut"] += 1
            visible[i], visible_px[i] = cut, cut_px
    return _Masks(objects, amodal, visible, amodal_px, visible_px)


def _annotate(
    image_id: int, masks: _Masks, has_amodal_truth: bool, repairs: Counter[str]
) -> list[Json]:
    """Make an image's annotations, with ids still to be given."""
    if not masks.objects:
        return []
    rates = 1 - masks.visible_px / masks.amodal_px
    amodal_box, visible_box = boxes_xywh(masks.amodal), boxes_xywh(masks.visible)
    annotations = []
    for i, obj in enumerate(masks.objects):
        annotation = {
            "id": 0,
            "image_id": image_id,
            "category_id": obj.category_id,
            "segmentation": masks.amodal[i],
            "visible_segmentation": masks.visible[i],
            "bbox": amodal_box[i].tolist(),
            "visible_bbox": visible_box[i].tolist(),
            "area": int(masks.amodal_px[i]),
            "iscrowd": int(obj.is_crowd),
            **obj.extra,
        }
        if has_amodal_truth:
            annotation["occlusion_rate"] = round(float(rates[i]), 6)
        annotations.append(annotation)
        _compare(obj.recorded, annotation, repairs)
    unseen = int(np.count_nonzero(masks.visible_px == 0))
    repairs["objects of which nothing is visible: kept"] += unseen
    return annotations


def _order(image: SourceImage, masks: _Masks, edges: Edges) -> tuple[list[tuple[int, int]], str]:
    """Return pairs (front, behind) of object keys, and where they are from."""
    objects = masks.objects
    if not objects:
        return [], "no objects"
    if image.order is not None and edges == "given":
        keys = {obj.key for obj in objects}
        return [p for p in dict.fromkeys(image.order) if keys.issuperset(p)], image.order_from
    solid = [i for i, obj in enumerate(objects) if not obj.is_crowd]
    found = occlusions_from_masks(
        [masks.visible[i] for i in solid],
        [masks.amodal[i] for i in solid],
        masks.visible_px[solid],
    )
    return [(objects[solid[i]].key, objects[solid[j]].key) for i, j in found], "masks"


def _compare(recorded: Json, annotation: Json, repairs: Counter[str]) -> None:
    """Count what the file has otherwise than its masks do, and keep its area where it agrees.

    Areas of polygons and of pixels differ by some percent; that is no error. COCO sorts objects
    into small, medium and large ones by the file's area, so its published figures need that.
    """
    area = recorded.get("area")
    if area is not None:
        if is_number(area) and abs(area - annotation["area"]) <= 10 + 0.1 * annotation["area"]:
            annotation["area"] = area
        else:
            repairs["areas that are not the mask's: recomputed"] += 1
    for key, name in (("bbox", "boxes"), ("visible_bbox", "visible boxes")):
        box = recorded.get(key)
        if box is not None:
            whole = isinstance(box, list) and len(box) == 4 and all(map(is_number, box))
            fits = whole and max(abs(a - b) for a, b in zip(box, annotation[key])) <= 2
            repairs[f"{name} that do not fit their masks: recomputed"] += not fits
    rate = recorded.get("occlusion_rate")
    if rate is not None and "occlusion_rate" in annotation:
        wrong = not is_number(rate) or abs(rate - annotation["occlusion_rate"]) > 0.02
        repairs["occlusion rates that are not the masks': recomputed"] += wrong


class _AnnotationIds:
    """Keeps ids that are whole and new; gives the others the next free ones above all seen."""

    def __init__(self) -> None:
        self._taken: set[int] = set()
        self._next = 1

    def take(self, wanted: int | None, repairs: Counter[str]) -> int:
        if wanted is None or wanted in self._taken:
            if wanted is not None:
                repairs["annotation ids used twice: renumbered"] += 1
            wanted = self._next
        self._taken.add(wanted)
        self._next = max(self._next, wanted + 1)
        return wanted
