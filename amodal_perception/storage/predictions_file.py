"""Write predictions as amodal COCO, image by image, without holding all in memory.

There are two kinds of predictions, and a file says which it holds (``info.predictions``): ``raw``
is what the network gives, every detection with its own masks; ``scene`` is what the robot is told,
where a pixel is visible of one instance and repetitions are gone.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO

import numpy as np

from amodal_perception import files
from amodal_perception.boxes import xyxy_to_xywh
from amodal_perception.masks import mask_windows
from amodal_perception.raw_masks import PastedDetections
from amodal_perception.runtime.contract import ModelMetadata
from amodal_perception.storage import amodal_coco
from amodal_perception.storage.amodal_coco import Json
from amodal_perception.storage.coco_rle import encode_window
from amodal_perception.structures import Scene

RAW, SCENE = "raw", "scene"
MASK_KEYS = {
    "amodal": "segmentation",
    "visible": "visible_segmentation",
    "occluded": "occluded_segmentation",
}
LISTS = ("images", "annotations", "occlusions")


def predictions_info(kind: str, metadata: ModelMetadata) -> Json:
    """Return a file's ``info``: the kind of predictions (`RAW`, `SCENE`) and the model."""
    info: Json = {"predictions": kind, "model_id": metadata.model_id}
    return info | {"one_mask": True} if metadata.one_mask else info


def raw_to_annotations(
    detections: PastedDetections, *, image_id: int, first_id: int
) -> list[Json]:
    """Convert a network's detections to annotations, each with all masks of its own.

    Args:
        detections: of one image.
        image_id: the image they belong to.
        first_id: id of the first annotation; the others follow by one.
    """
    boxes_xywh = xyxy_to_xywh(detections.boxes_xyxy).tolist()
    windows = detections.windows_xyxy
    visible_xyxy = mask_windows(detections.masks["visible"], windows[:, :2]).astype(np.float32)
    visible_xywh = xyxy_to_xywh(visible_xyxy).tolist()
    annotations = []
    for i, window in enumerate(windows.tolist()):
        amodal, visible = (detections.masks[kind][i] for kind in ("amodal", "visible"))
        amodal_px = int(np.count_nonzero(amodal))
        hidden_px = amodal_px - int(np.count_nonzero(amodal & visible))
        row: Json = {
            "id": first_id + i,
            "image_id": image_id,
            "category_id": int(detections.labels[i]) + 1,
            "score": float(f"{detections.scores[i]:.9g}"),  # all that float32 holds
            "bbox": [round(value, 2) for value in boxes_xywh[i]],
            "visible_bbox": visible_xywh[i],
            "area": amodal_px,
            "occlusion_rate": round(hidden_px / max(amodal_px, 1), 6),
            "iscrowd": 0,
        }
        for kind, crops in detections.masks.items():
            row[MASK_KEYS[kind]] = encode_window(crops[i], window, detections.size_hw)
        annotations.append(row)
    return annotations


class PredictionsFile:
    """Collects scenes and writes them as amodal COCO; use it as a context manager.

    The file is the one that `amodal_coco.write` would write, byte for byte.
    """

    def __init__(self) -> None:
        self._files = ExitStack()
        self._lists: dict[str, IO[str]] = {
            name: self._files.enter_context(
                tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 (the stack closes)
            )
            for name in LISTS
        }
        self._counts = dict.fromkeys(LISTS, 0)

    def add(self, scene: Scene, file_name: str, *, stamped: bool = True) -> int:
        """Add a scene; its image gets the next id, which is returned.

        Args:
            scene: what the robot is told of an image.
            file_name: of the image.
            stamped: the image has the scene's stamp; photographs have none.
        """
        image_id = self._counts["images"] + 1
        stamp = {"stamp_ns": scene.stamp_ns} if stamped else {}
        image = amodal_coco.image_record(image_id, file_name, scene.instances.size_hw, **stamp)
        annotations, occlusions = amodal_coco.scene_to_annotations(
            scene, image_id=image_id, first_id=self._counts["annotations"] + 1
        )
        self._append("images", [image])
        self._append("annotations", annotations)
        self._append("occlusions", occlusions)
        return image_id

    def add_raw(self, detections: PastedDetections, file_name: str) -> None:
        """Add what the network gave for an image, which gets the next id."""
        image_id = self._counts["images"] + 1
        image = amodal_coco.image_record(image_id, file_name, detections.size_hw)
        rows = raw_to_annotations(
            detections, image_id=image_id, first_id=self._counts["annotations"] + 1
        )
        self._append("images", [image])
        self._append("annotations", rows)

    def write(self, path: Path, categories: Sequence[Json], info: Json) -> None:
        """Write the file, whole or not at all."""
        with files.atomic_write(path) as temporary, temporary.open("w", encoding="utf-8") as out:
            out.write(f'{{"info": {json.dumps(info)}')
            self._copy("images", out)
            out.write(f', "categories": {json.dumps(list(categories))}')
            self._copy("annotations", out)
            self._copy("occlusions", out)
            out.write("}\n")

    def __enter__(self) -> PredictionsFile:
        return self

    def __exit__(self, *error: object) -> None:
        self._files.close()

    def _append(self, name: str, rows: Sequence[Json]) -> None:
        for row in rows:
            separator = ", " if self._counts[name] else ""
            self._lists[name].write(separator + json.dumps(row, allow_nan=False))
            self._counts[name] += 1

    def _copy(self, name: str, out: IO[str]) -> None:
        out.write(f', "{name}": [')
        rows = self._lists[name]
        rows.seek(0)
        while block := rows.read(1 << 20):
            out.write(block)
        out.write("]")
