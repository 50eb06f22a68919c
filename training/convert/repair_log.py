"""Repairs made while a data set is read, and annotations left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from amodal_perception.errors import DatasetError
from amodal_perception.storage.coco_rle import Rle
from amodal_perception.storage.mask_reader import look_ahead, read_mask
from training.convert.source import Json


@dataclass
class RepairLog:
    """What was repaired while files were read, and which annotations were left out.

    Attributes:
        leave_out: leave out what is not understood, instead of refusing the file.
        repairs: how often each repair was made.
        left_out: one line for each annotation left out.
    """

    leave_out: bool = False
    repairs: Counter[str] = field(default_factory=Counter)
    left_out: list[str] = field(default_factory=list)
    _covered: dict[str, int] = field(default_factory=dict, repr=False)

    def check_run_lengths(self, rows: Iterable[Any]) -> None:
        """Check the run-length codes of an image's rows together, which is faster."""
        solid = (row for row in rows if isinstance(row, dict))
        self._covered = look_ahead(value for row in solid for value in row.values())

    @contextmanager
    def leave_out_unreadable(self) -> Iterator[None]:
        """Note an annotation that cannot be read inside as left out, where that is asked for.

        Raises:
            DatasetError: it cannot be understood, and `leave_out` is not set.
        """
        try:
            yield
        except DatasetError as error:
            if not self.leave_out:
                raise
            self.left_out.append(str(error))

    def read_mask(self, row: Json, key: str, size_hw: tuple[int, int], where: str) -> Rle:
        """Read the mask under a key.

        Args:
            row: the annotation.
            key: of the mask.
            size_hw: of the image, pixels.
            where: file and annotation, for the message.

        Raises:
            DatasetError: missing, or not understood; names `where` and the key.
        """
        try:
            return read_mask(row.get(key), size_hw, self.repairs, self._covered)
        except ValueError as error:
            raise DatasetError(f"{where}, '{key}': {error}") from None
