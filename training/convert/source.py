"""What every format is read into: images with their objects, as their file has them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from amodal_perception.storage.coco_rle import Rle

Json = dict[str, Any]


@dataclass(frozen=True)
class SourceObject:
    """One object as its file has it.

    Attributes:
        key: names the object among those of its image; `SourceImage.order` refers to it.
        category_id: as in `Source.categories`.
        amodal: the complete mask; where the format has none, the visible one.
        visible: the visible mask; None: all of it is in view.
        id: the annotation's id in its file, if it has a whole number there.
        is_crowd: a group of objects under one mask.
        recorded: what the file says of what follows from the masks, in our names (``area``,
            ``bbox``, ``visible_bbox``, ``occlusion_rate``); it is checked, not used.
        extra: kept in the annotation as it is.
    """

    key: int
    category_id: int
    amodal: Rle
    visible: Rle | None
    id: int | None = None
    is_crowd: bool = False
    recorded: Json = field(default_factory=dict)
    extra: Json = field(default_factory=dict)


@dataclass(frozen=True)
class SourceImage:
    """One image and its objects.

    Attributes:
        id: the image's id in its file.
        file_name: as in its file.
        size_hw: height and width, pixels.
        objects: what is in it.
        order: pairs (front, behind) of object keys where the file gives an order, else None.
        order_from: the key of the file that gave `order`.
        extra: kept in the image's record as it is.
    """

    id: int
    file_name: str
    size_hw: tuple[int, int]
    objects: list[SourceObject]
    order: list[tuple[int, int]] | None = None
    order_from: str = ""
    extra: Json = field(default_factory=dict)


@dataclass(frozen=True)
class Source:
    """A file of any format.

    Attributes:
        categories: COCO rows with ``id`` and ``name``.
        images: read while they are walked through.
        count: how many images there are, for the progress bar.
        amodal: whether the complete masks are truth; a modal data set knows only visible ones.
        extend: make the amodal mask hold visible pixels that lie outside it, instead of cutting
            them off; for masks drawn by hand in two layers.
        remarks: what a user should know, said aloud and kept in the file.
    """

    categories: list[Json]
    images: Iterable[SourceImage]
    count: int
    amodal: bool = True
    extend: bool = False
    remarks: list[str] = field(default_factory=list)

    def of_one_class(self, name: str) -> Source:
        """Return the same objects, all of one class of this name."""

        def renamed(image: SourceImage) -> SourceImage:
            objects = [replace(obj, category_id=1) for obj in image.objects]
            return replace(image, objects=objects)

        return replace(
            self, categories=[{"id": 1, "name": name}], images=map(renamed, self.images)
        )
