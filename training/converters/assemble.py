"""From what a file says to what its masks say: numbers recomputed, repairs counted, written."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pycocotools import mask as coco_mask
from tqdm import tqdm

from amodal_perception import amodal_coco
from amodal_perception.errors import DatasetError
from training.converters.coco_rle import Rle, join, meet, overlap_areas, touching
from training.converters.source import Json, Reading, Source, SourceImage, SourceObject

Edges = Literal["given", "masks"]


@dataclass
class Tables:
    """What the written file will hold, and how the occlusions were found, in images."""

    images: list[Json] = field(default_factory=list)
    annotations: list[Json] = field(default_factory=list)
    occlusions: list[Json] = field(default_factory=list)
    occlusions_from: Counter[str] = field(default_factory=Counter)


def convert(
    source: Source,
    reading: Reading,
    out: Path,
    *,
    images_dir: Path | None = None,
    edges: Edges = "given",
    info: Json | None = None,
) -> Tables:
    """Recompute everything that follows from the masks, and write an amodal COCO file.

    Args:
        source: what was read.
        reading: repairs and omissions are counted here.
        out: the JSON file to write.
        images_dir: folder of the photographs; their names are written relative to `out`. None
            keeps the names of the source.
        edges: take occlusions from the order the file gives where it does, or always from masks.
        info: facts to keep in the file.

    Raises:
        DatasetError: something cannot be understood, and is not to be left out.
    """
    tables = Tables()
    names = _ImageNames(out, images_dir)
    ids = _AnnotationIds()
    for image in tqdm(source.images, total=source.count, unit="image", delay=2):
        image = replace(image, objects=_with_pixels(image, reading.repairs))
        record = amodal_coco.image_record(
            image.id, names(image.file_name), image.size_hw, **image.extra
        )
        image, annotations, pairs, origin = _annotate(image, source, reading.repairs, edges)
        id_of = {}
        for obj, annotation in zip(image.objects, annotations):
            annotation["id"] = id_of[obj.key] = ids.take(obj.id, reading.repairs)
        if source.amodal:
            record["occlusions_from"] = origin
            tables.occlusions_from[origin] += 1
        tables.images.append(record)
        tables.annotations += annotations
        tables.occlusions += [
            {"image_id": image.id, "occluder_id": id_of[front], "occludee_id": id_of[behind]}
            for front, behind in pairs
        ]
    names.check(reading.repairs)
    facts = dict(info or {})
    if source.amodal:
        facts["occlusions_from"] = dict(tables.occlusions_from)
    else:
        facts["amodal_truth"] = False
    facts |= {
        "remarks": list(source.remarks),
        "repairs": dict(sorted((+reading.repairs).items())),
        "left_out": list(reading.left_out),
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
    visible: list[Rle], amodal: list[Rle], overlap: np.ndarray | None = None
) -> list[tuple[int, int]]:
    """Order pairs by their masks, as PCNet's ground truth does (Zhan et al. 2020).

    For every pair whose visible masks touch (one dilated by a 3x3 cross): the one of which more
    visible pixels lie in the other's amodal mask is in front; the first one, when it is as many;
    none, when there are no such pixels.

    Args:
        visible: N masks.
        amodal: N masks.
        overlap: [N, N] pixels of visible_i in amodal_j, where it is known already.

    Returns:
        Pairs (front, behind) of indices, i < j in order of (i, j).
    """
    overlap = overlap_areas(visible, amodal) if overlap is None else overlap
    either = np.triu((overlap > 0) | (overlap.T > 0), k=1)
    candidates = np.argwhere(either)
    return [
        (i, j) if overlap[i, j] >= overlap[j, i] else (j, i)
        for i, j in candidates[touching(visible, candidates)].tolist()
    ]


def _with_pixels(image: SourceImage, repairs: Counter[str]) -> list[SourceObject]:
    """Leave out objects without an amodal pixel: nobody knows where they are."""
    if not image.objects:
        return []
    areas = coco_mask.area([obj.amodal for obj in image.objects])
    kept = [obj for obj, area in zip(image.objects, areas) if area > 0]
    repairs["annotations without an amodal pixel: left out"] += len(image.objects) - len(kept)
    return kept


def _annotate(
    image: SourceImage, source: Source, repairs: Counter[str], edges: Edges
) -> tuple[SourceImage, list[Json], list[tuple[int, int]], str]:
    """Recompute an image's annotations; return them without ids, with pairs of object keys."""
    objects = image.objects
    if not objects:
        return image, [], [], "no objects"
    amodal, visible = _consistent(objects, source.extend, repairs)
    amodal_area, visible_area = coco_mask.area(amodal), coco_mask.area(visible)
    amodal_box, visible_box = coco_mask.toBbox(amodal), coco_mask.toBbox(visible)
    annotations = []
    for i, obj in enumerate(objects):
        annotation = {
            "id": 0,
            "image_id": image.id,
            "category_id": obj.category_id,
            "segmentation": _text(amodal[i]),
            "visible_segmentation": _text(visible[i]),
            "bbox": amodal_box[i].tolist(),
            "visible_bbox": visible_box[i].tolist(),
            "area": int(amodal_area[i]),
            "iscrowd": int(obj.is_crowd),
            **obj.extra,
        }
        if source.amodal:
            rate = 1 - int(visible_area[i]) / int(amodal_area[i])
            annotation["occlusion_rate"] = round(rate, 6)
        annotations.append(annotation)
        _compare(obj.recorded, annotation, repairs)
    if source.amodal and (visible_area == 0).any():
        repairs["objects of which nothing is visible: kept"] += int((visible_area == 0).sum())
    if not source.amodal:
        return image, annotations, [], ""
    if image.order is not None and edges == "given":
        keys = {obj.key for obj in objects}
        pairs = [pair for pair in dict.fromkeys(image.order) if keys.issuperset(pair)]
        return image, annotations, pairs, image.order_from
    solid = [i for i, obj in enumerate(objects) if not obj.is_crowd]
    found = occlusions_from_masks([visible[i] for i in solid], [amodal[i] for i in solid])
    pairs = [(objects[solid[i]].key, objects[solid[j]].key) for i, j in found]
    return image, annotations, pairs, "masks"


def _consistent(
    objects: list[SourceObject], extend: bool, repairs: Counter[str]
) -> tuple[list[Rle], list[Rle]]:
    """Return amodal and visible masks with every visible one inside its amodal one."""
    amodal = [obj.amodal for obj in objects]
    visible = [obj.amodal if obj.visible is None else obj.visible for obj in objects]
    partial = [i for i, obj in enumerate(objects) if obj.visible is not None]
    if not partial:
        return amodal, visible
    inside = [meet(visible[i], amodal[i]) for i in partial]
    stored_px = coco_mask.area([visible[i] for i in partial])
    inside_px = coco_mask.area(inside)
    for i, mask, stored, kept in zip(partial, inside, stored_px, inside_px):
        if stored == kept:
            continue
        if extend:
            repairs["amodal masks without all visible pixels: extended to them"] += 1
            amodal[i] = join([amodal[i], visible[i]])
        else:
            part = "wholly outside" if kept == 0 else "beyond"
            repairs[f"visible masks {part} their amodal masks: cut"] += 1
            visible[i] = mask
    return amodal, visible


def _compare(recorded: Json, annotation: Json, repairs: Counter[str]) -> None:
    """Count what the file has otherwise than its masks do.

    Areas of polygons and of pixels differ by some percent; that is no error.
    """
    area = recorded.get("area")
    if area is not None:
        wrong = not _number(area) or abs(area - annotation["area"]) > 10 + 0.1 * annotation["area"]
        repairs["areas that are not the mask's: recomputed"] += wrong
    for key, name in (("bbox", "boxes"), ("visible_bbox", "visible boxes")):
        box = recorded.get(key)
        if box is not None:
            whole = isinstance(box, list) and len(box) == 4 and all(map(_number, box))
            fits = whole and max(abs(a - b) for a, b in zip(box, annotation[key])) <= 2
            repairs[f"{name} that do not fit their masks: recomputed"] += not fits
    rate = recorded.get("occlusion_rate")
    if rate is not None and "occlusion_rate" in annotation:
        wrong = not _number(rate) or abs(rate - annotation["occlusion_rate"]) > 0.02
        repairs["occlusion rates that are not the masks': recomputed"] += wrong


def _number(value: Any) -> bool:
    return isinstance(value, (int, float))


def _text(rle: Rle) -> Json:
    return {"size": [int(n) for n in rle["size"]], "counts": rle["counts"].decode("ascii")}


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


class _ImageNames:
    """Image names as seen from the written file."""

    def __init__(self, out: Path, images_dir: Path | None) -> None:
        if images_dir is not None and not images_dir.is_dir():
            raise DatasetError(f"{images_dir}: no such folder of images")
        self._out_dir = out.resolve().parent
        self._images_dir = images_dir.resolve() if images_dir else None
        self._missing: list[str] = []
        self._count = 0

    def __call__(self, name: str) -> str:
        name = name.replace("\\", "/")
        if self._images_dir is None:
            return name
        self._count += 1
        for candidate in (self._images_dir / name, self._images_dir / Path(name).name):
            if candidate.is_file():
                return Path(os.path.relpath(candidate, self._out_dir)).as_posix()
        self._missing.append(name)
        return Path(os.path.relpath(self._images_dir / name, self._out_dir)).as_posix()

    def check(self, repairs: Counter[str]) -> None:
        """Refuse a folder that holds none of the images; count the ones it lacks."""
        if self._missing and len(self._missing) == self._count:
            raise DatasetError(
                f"{self._images_dir}: holds none of the {self._count} images, "
                f"such as {self._missing[0]}; point --images at their folder"
            )
        if self._missing:
            repairs["images that are not in the folder: kept in the file"] += len(self._missing)
