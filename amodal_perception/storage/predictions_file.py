"""Write predictions as amodal COCO, scene by scene, without holding all in memory."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO

from amodal_perception import files
from amodal_perception.storage import amodal_coco
from amodal_perception.storage.amodal_coco import Json
from amodal_perception.structures import Scene

LISTS = ("images", "annotations", "occlusions")


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

    def add(self, scene: Scene, file_name: str) -> None:
        """Add a scene; its image gets the next id and keeps its stamp."""
        image_id = self._counts["images"] + 1
        image = amodal_coco.image_record(
            image_id, file_name, scene.instances.size_hw, stamp_ns=scene.stamp_ns
        )
        annotations, occlusions = amodal_coco.scene_to_annotations(
            scene, image_id=image_id, first_id=self._counts["annotations"] + 1
        )
        self._append("images", [image])
        self._append("annotations", annotations)
        self._append("occlusions", occlusions)

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
