"""Names of the figures a protocol gives for a data set, without measuring the data set.

Which figures a protocol gives depends on what kind of truth it is given: its classes, and whether
it stores visible masks, order or depth. So the protocol measures a few drawn objects of that kind,
in milliseconds, and the names that come out are those of the data set.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from amodal_perception.evaluation import protocols
from amodal_perception.evaluation.comparison import compare_files
from amodal_perception.storage.amodal_coco import AmodalCoco, Json, image_record
from amodal_perception.storage.coco_rle import encode_mask

HIDDEN_PARTS = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9)
"""One object for each range of occlusion that a protocol tells apart."""
HEIGHT_PX, WIDTH_PX = 200, 8
"""Of a drawn object: tall enough for protocols that leave out small ones."""
SORTING_KEYS = ("isstuff", "foreground_level", "background_level")
"""Keys of annotations by which some protocols sort objects."""


def figure_names(truth: AmodalCoco, protocol: str) -> tuple[list[str], str]:
    """Return the names of a protocol's figures, and what keeps it from measuring, if anything.

    Raises:
        ConfigError: there is no such protocol.
    """
    protocols.check_names([protocol])
    drawn = _drawn_like(truth)
    rows = {number: {**row, "score": 1.0} for number, row in drawn.annotations.items()}
    comparison = compare_files(drawn, replace(drawn, annotations=rows))
    metrics, left_out = protocols.run_protocols(comparison, [protocol])
    return list(metrics), left_out.get(protocol, "")


def _drawn_like(truth: AmodalCoco) -> AmodalCoco:
    """Draw objects of every class and occlusion, with the kinds of rows that the truth has."""
    rows = list(truth.annotations.values())
    has_visible = all("visible_segmentation" in row for row in rows)
    keys = [key for key in SORTING_KEYS if all(key in row for row in rows)]
    kinds = [dict(kind) for kind in dict.fromkeys(tuple((k, r[k]) for k in keys) for r in rows)]
    classes = sorted(truth.categories)
    depths = [
        dict(kind)
        for kind in dict.fromkeys(
            tuple((k, order.get(k, False)) for k in ("equal", "overlap"))
            for order in truth.depth_orders
        )
    ]
    count = len(HIDDEN_PARTS)
    size_hw = HEIGHT_PX, WIDTH_PX * count
    images: dict[int, Json] = {}
    annotations: dict[int, Json] = {}
    occlusions: list[Json] = []
    depth_orders: list[Json] = []
    for image_id in range(max(len(classes), len(kinds))):
        images[image_id] = image_record(image_id, "", size_hw)
        first = count * image_id + 1
        for place, part in enumerate(HIDDEN_PARTS):
            whole = np.zeros(size_hw, np.bool_)
            whole[:, WIDTH_PX * place : WIDTH_PX * (place + 1)] = True
            row = {
                "id": first + place,
                "image_id": image_id,
                "category_id": classes[image_id % len(classes)],
                "segmentation": encode_mask(whole),
                **kinds[image_id % len(kinds)],
            }
            if has_visible:
                whole[: round(part * HEIGHT_PX)] = False
                row["visible_segmentation"] = encode_mask(whole)
            annotations[row["id"]] = row
            if part and truth.occlusions:
                occlusions.append({"occluder_id": first, "occludee_id": row["id"]})
        depth_orders += [{"closer_id": first, "farther_id": first + 1, **kind} for kind in depths]
    return AmodalCoco(
        path=truth.path,
        images=images,
        categories=truth.categories,
        annotations=annotations,
        occlusions=tuple(occlusions),
        info={},
        depth_orders=tuple(depth_orders),
    )
