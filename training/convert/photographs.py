"""The photographs that a converted file names: where they lie, and whether they fit its masks."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from amodal_perception.conversions.pictures import size_hw as picture_size_hw
from amodal_perception.errors import DatasetError, ImageError
from training.convert.repair_log import RepairLog

SHOWN = 3
LEAVE_OUT = "; --leave-out leaves these images out"


class Photographs:
    """Finds every photograph, and gathers what is wrong until all were looked at."""

    def __init__(self, out: Path, images_dir: Path | None) -> None:
        """Begin.

        Args:
            out: the file to write; names are relative to it.
            images_dir: folder of the photographs; None keeps the names of the source.

        Raises:
            DatasetError: there is no such folder.
        """
        if images_dir is not None and not images_dir.is_dir():
            raise DatasetError(f"{images_dir}: no such folder of images")
        self._out_dir = out.resolve().parent
        self._images_dir = images_dir.resolve() if images_dir else None
        self._missing: list[str] = []
        self._count = 0
        self._turned: list[str] = []
        self._other_size: list[str] = []
        self._unreadable: list[str] = []

    def name(self, name: str) -> str:
        """Return a photograph's name as seen from the written file."""
        name = name.replace("\\", "/")
        if self._images_dir is None:
            return name
        self._count += 1
        found = self._find(name)
        if found is None:
            self._missing.append(name)
            found = self._images_dir / name
        return Path(os.path.relpath(found, self._out_dir)).as_posix()

    def fits(self, name: str, stated_hw: tuple[int, int]) -> bool:
        """Tell whether a photograph that is there has the size that its masks have, pixels."""
        path = self._find(name.replace("\\", "/"))
        if path is None:
            return True
        try:
            size_hw = picture_size_hw(np.fromfile(path, np.uint8), str(path))
        except (ImageError, OSError) as error:
            self._unreadable.append(str(error))
            return True
        if size_hw != stated_hw:
            sizes = " x ".join(map(str, size_hw[::-1])), " x ".join(map(str, stated_hw[::-1]))
            wrong = f"{name} is {sizes[0]}, stated are {sizes[1]}"
            turned = size_hw[::-1] == stated_hw
            (self._turned if turned else self._other_size).append(wrong)
        return size_hw == stated_hw

    def check_all(self, log: RepairLog, *, any_fits: bool) -> None:
        """Refuse photographs that do not fit; count those that are missing or cannot be read.

        Args:
            log: takes the counts, and the photographs to leave out, where that is asked for.
            any_fits: there are images left.

        Raises:
            DatasetError: of another size than their masks, or the folder holds none of them.
        """
        if log.leave_out and any_fits:
            log.left_out += self._turned + self._other_size
            self._turned, self._other_size = [], []
        if self._missing and len(self._missing) == self._count:
            raise DatasetError(
                f"{self._images_dir}: holds none of the {self._count} images, "
                f"such as {self._missing[0]}; point --images at their folder"
            )
        if self._turned:
            raise DatasetError(
                f"{_first_of(self._turned)} (width x height, pixels): labels and photographs are "
                "turned against each other; here photographs are upright as their EXIF data says. "
                "Label them upright, or give the files that were labelled, without that data "
                f"(exiftool -Orientation= -n){LEAVE_OUT}"
            )
        if self._other_size:
            raise DatasetError(
                f"{_first_of(self._other_size)} (width x height, pixels): masks fit photographs "
                "of their own size only; give those that were labelled, or resize "
                f"them{LEAVE_OUT}"
            )
        if self._missing:
            what = "images that are not in the folder: kept in the file"
            log.repairs[what] += len(self._missing)
        if self._unreadable:
            what = f"photographs that cannot be read: kept ({_first_of(self._unreadable)})"
            log.repairs[what] += len(self._unreadable)

    def _find(self, name: str) -> Path | None:
        if self._images_dir is None:
            candidates = [self._out_dir / name]
        else:
            candidates = [self._images_dir / name, self._images_dir / Path(name).name]
        return next((path for path in candidates if path.is_file()), None)


def _first_of(problems: list[str]) -> str:
    more = "; ..." if len(problems) > SHOWN else ""
    return f"{len(problems)} of the photographs: {'; '.join(problems[:SHOWN])}{more}"
