"""One row of a COCO-like annotation table, and how its masks and numbers are read."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from amodal_perception.errors import DatasetError
from amodal_perception.storage import json_reader
from amodal_perception.storage.coco_rle import Rle, difference
from training.convert.repair_log import RepairLog
from training.convert.row_values import whole_number
from training.convert.source import Json, SourceObject


@dataclass(frozen=True)
class AnnotationRow:
    """One annotation of an image, as its file has it.

    Attributes:
        content: the JSON object.
        key: names the object among those of its image, as in `SourceObject`.
        size_hw: height and width of the image, pixels.
        where: file and annotation, for messages.
        log: repairs are counted here.
    """

    content: Json
    key: int
    size_hw: tuple[int, int]
    where: str
    log: RepairLog = field(repr=False)

    def mask(self, key: str) -> Rle:
        """Read the mask under a key.

        Raises:
            DatasetError: missing, or not understood.
        """
        return self.log.read_mask(self.content, key, self.size_hw, self.where)

    def number(self, key: str, default: int | Literal["required"] = "required") -> int:
        """Read the integer under a key.

        Raises:
            DatasetError: missing without a default, or no whole number.
        """
        return whole_number(self.content, key, self.where, default)

    def is_hidden(self, rate_key: str) -> bool:
        """Tell whether the row's occlusion rate says that a part of the object is hidden.

        Raises:
            DatasetError: the rate is no number.
        """
        rate = self.content.get(rate_key)
        try:
            return rate is not None and float(rate) > 1e-5
        except (TypeError, ValueError, OverflowError):
            raise DatasetError(
                f"{self.where}, '{rate_key}': {repr(rate)[:60]} is no number"
            ) from None

    def stored_visible_mask(
        self,
        amodal: Rle,
        *,
        visible_key: str = "visible_mask",
        hidden_key: str = "invisible_mask",
    ) -> Rle | None:
        """Read the visible mask, or the amodal mask without the hidden one; None: no such mask.

        Raises:
            DatasetError: a mask is not understood.
        """
        if self.content.get(visible_key) not in (None, []):
            return self.mask(visible_key)
        if self.content.get(hidden_key) not in (None, []):
            self.log.repairs["visible masks missing: amodal without hidden mask taken"] += 1
            return difference(amodal, self.mask(hidden_key))
        return None

    def visible_mask(
        self,
        amodal: Rle,
        *,
        visible_key: str = "visible_mask",
        hidden_key: str = "invisible_mask",
        rate_key: str = "occlude_rate",
    ) -> Rle | None:
        """Read the visible mask, or the amodal mask without the hidden one; None: all is in view.

        Raises:
            DatasetError: neither is stored, though the row says that something is hidden.
        """
        visible = self.stored_visible_mask(amodal, visible_key=visible_key, hidden_key=hidden_key)
        if visible is None and self.is_hidden(rate_key):
            raise DatasetError(
                f"{self.where}, '{visible_key}': is missing, "
                f"though '{rate_key}' is {self.content[rate_key]}"
            )
        return visible

    def recorded(self, **keys: str) -> Json:
        """Gather what the row says of its masks; what it lacks stays out.

        Args:
            keys: for each of the names in `SourceObject.recorded`, the file's own.
        """
        return {
            ours: self.content[theirs]
            for ours, theirs in keys.items()
            if self.content.get(theirs) is not None
        }

    def to_object(
        self,
        amodal: Rle,
        visible: Rle | None,
        *,
        recorded: Json | None = None,
        extra: Json | None = None,
    ) -> SourceObject:
        """Make an object of the row's masks, and of its ``category_id``, ``id`` and ``iscrowd``.

        Args:
            amodal: the complete mask.
            visible: the visible mask; None: all of it is in view.
            recorded: as in `SourceObject`.
            extra: as in `SourceObject`.

        Raises:
            DatasetError: ``category_id`` is missing, or it or ``iscrowd`` is no whole number.
        """
        annotation_id = json_reader.whole_number(self.content.get("id"))
        if annotation_id is None:
            repair = "annotation ids that are missing or no whole number: numbered"
            self.log.repairs[repair] += 1
        return SourceObject(
            key=self.key,
            category_id=self.number("category_id"),
            amodal=amodal,
            visible=visible,
            id=annotation_id,
            is_crowd=bool(self.number("iscrowd", 0)),
            recorded=recorded or {},
            extra=extra or {},
        )
