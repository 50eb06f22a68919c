"""ORCNN's copy-paste augmentation of D2S amodal (Follmann et al. 2019, section 4.3).

Products are cut out of the training images, turned, and pasted over each other on another
training image, whose own products stay. `augmented` uses complete masks, of products that are
whole and in full view; `modal-augmented` needs modal masks only, and takes what it sees for the
complete product. Where a complete mask leaves the picture, the picture is padded with zeros, so
that every complete mask lies inside.

The paper leaves open how many products are pasted, where, and how they are turned; it publishes
what comes out (Table 5). So here 3 to 13 products lie in a picture, of every class as often and
turned by any angle; some come on top of one that is still in full view, the others anywhere. Two
numbers are fitted to the table: how often a product comes on top of another decides how many are
occluded, and how much of a product may be hidden at most decides how much of them is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from amodal_perception.errors import DatasetError
from amodal_perception.reports.dataset_statistics import DatasetStatistics
from amodal_perception.storage.amodal_coco import Json
from amodal_perception.storage.coco_rle import (
    Rle,
    areas_px,
    decode_mask,
    difference,
    encode_mask,
    intersection,
    union,
)
from amodal_perception.structures import BoolArray
from training.packed_objects import Objects
from training.synthesize.parallel import Picture
from training.synthesize.pasting import Cutout, cut_out, paste, place
from training.synthesize.truth import annotation

COUNTS = {"augmented": 1562, "modal-augmented": 2000}
"""The published number of pictures, by variant."""
OBJECTS = (3, 13)
"""Fewest and most products in a picture; the mean is the published 7.9."""
OCCLUDED_SHARE, MEAN_RATE_OCCLUDED = 0.71, 0.33
"""What is fitted: Table 5, columns *aug* and *modal aug* alike."""
PUBLISHED = {
    "augmented": (1562, 1507, 0.96, 12376, 8798, 0.71, 0.23, 0.33),
    "modal-augmented": (2000, 1930, 0.96, 15851, 11302, 0.71, 0.23, 0.33),
}
TRIES = 20
PLAN_SIDE_PX = 180
FIT_PICTURES = 120


class Layout(NamedTuple):
    """How densely products overlap.

    Attributes:
        on_top: how often a product is put over one in full view, 0..1.
        max_hidden: largest part of a product that is hidden or outside the picture, 0..1.
    """

    on_top: float
    max_hidden: float


class Placed(NamedTuple):
    """A product to paste: which, turned how, and where its middle comes, pixels."""

    index: int  # type: ignore[assignment]  # a tuple has a method index()
    angle_rad: float
    centre_xy: tuple[float, float]


@dataclass(frozen=True)
class Plan:
    """One picture before it is painted.

    Attributes:
        image: the photograph below.
        placed: bottom first.
        hidden: hidden part of each product, those of the photograph first, 0..1.
    """

    image: int
    placed: list[Placed]
    hidden: list[float]


class D2saRecipe:
    """ORCNN's copy-paste recipe: draws picture number n of one data set."""

    def __init__(self, objects: Objects, variant: str, seed: int) -> None:
        """Choose products and photographs, and fit the layout.

        Raises:
            DatasetError: the file holds none that can be used.
        """
        self.objects = objects
        self.seed = seed
        self.complete = variant == "augmented"
        usable = ~objects.crowd & (objects.area_px > objects.hidden_px)
        if self.complete:
            usable &= (objects.hidden_px == 0) & objects.within(1)
        labels = np.where(usable, objects.label, -1)
        self.by_class = [np.flatnonzero(labels == label) for label in np.unique(labels[usable])]
        unusable = np.bincount(objects.image[~usable], minlength=len(objects.file_names))
        filled = np.bincount(objects.image[usable], minlength=len(objects.file_names))
        self.images = np.flatnonzero((unusable == 0) & (filled > 0))
        if not len(self.images):
            raise DatasetError(
                f"no photograph of {len(objects.file_names)} shows nothing but products that are "
                f"{'whole and in full view' if self.complete else 'labelled one by one'}"
            )
        self.layout = fit(self._rates_of)

    def facts(self) -> Json:
        """Return what decides the pictures, but for the photographs."""
        return {"seed": self.seed, "objects": OBJECTS, **self.layout._asdict()}

    def draw(self, number: int) -> Picture:
        """Make a picture."""
        plan = self.plan(np.random.default_rng([self.seed, number]), self.layout)
        photograph = self.objects.read_image(plan.image)
        cutouts = [self._cut_out(placed) for placed in plan.placed]
        corners = [
            (round(p.centre_xy[0] - c.size_hw[1] / 2), round(p.centre_xy[1] - c.size_hw[0] / 2))
            for p, c in zip(plan.placed, cutouts)
        ]
        image, (left, top), inside = pad(photograph, corners, cutouts)
        frame = image[inside]
        size_hw = image.shape[0], image.shape[1]
        masks = []
        for index in self.objects.of_image(plan.image):
            padded = np.zeros(size_hw, np.bool_)
            padded[inside] = decode_mask(self.mask(index))
            masks.append((int(self.objects.label[index]), encode_mask(padded)))
        for placed, cutout, (x, y) in zip(plan.placed, cutouts, corners):
            paste(frame, cutout, (x, y))
            mask = place(cutout.mask, (x + left, y + top), size_hw)
            masks.append((int(self.objects.label[placed.index]), encode_mask(mask)))
        seen = np.zeros(size_hw, np.bool_)
        seen[inside] = True
        rows, edges = layers_to_rows(masks, encode_mask(seen))
        return Picture(image, rows, edges, {"photograph": int(self.objects.image_ids[plan.image])})

    def mask(self, index: int) -> Rle:
        """Return what counts as a product's complete mask."""
        return self.objects.amodal(index) if self.complete else self.objects.visible(index)

    def plan(self, rng: np.random.Generator, layout: Layout) -> Plan:
        """Choose products and places for one picture, on masks reduced in size."""
        objects = self.objects
        image = int(self.images[rng.integers(len(self.images))])
        height, width = objects.size_of(image)
        step = max(1, min(height, width) // PLAN_SIDE_PX)
        layers = _LayeredMasks((height // step, width // step), layout.max_hidden)
        for index in objects.of_image(image):
            layers.add(*self._small(index, step))
        count = int(rng.integers(OBJECTS[0], OBJECTS[1] + 1))
        placed = []
        for _ in range(count - len(layers)):
            index = self._choose(rng)
            angle = float(rng.uniform(0, 2 * np.pi))
            small = self._small(index, step)[0]
            blank = np.zeros((*small.shape, 3), np.uint8)
            small = cut_out(blank, small, angle_rad=angle).mask
            # One that fits on top of nothing lies somewhere.
            for on_top in (True, False) if rng.random() < layout.on_top else (False,):
                corner = layers.add_at_random(small, rng, on_top=on_top)
                if corner is not None:
                    middle = np.array(corner) + np.array(small.shape[::-1]) / 2
                    placed.append(Placed(index, angle, (middle[0] * step, middle[1] * step)))
                    break
        return Plan(image, placed, layers.occlusion_rates())

    def _choose(self, rng: np.random.Generator) -> int:
        """Draw a class, then one of its products."""
        pool = self.by_class[rng.integers(len(self.by_class))]
        return int(pool[rng.integers(len(pool))])

    def _cut_out(self, placed: Placed) -> Cutout:
        photograph = self.objects.read_image(int(self.objects.image[placed.index]))
        mask = decode_mask(self.mask(placed.index))
        return cut_out(photograph, mask, angle_rad=placed.angle_rad)

    @lru_cache(maxsize=4096)  # noqa: B019 - there is one recipe a run
    def _small(self, index: int, step: int) -> tuple[BoolArray, tuple[int, int]]:
        mask = decode_mask(self.mask(index)).view(np.uint8)
        size = (max(1, mask.shape[1] // step), max(1, mask.shape[0] // step))
        small = cv2.resize(mask * np.uint8(255), size, interpolation=cv2.INTER_AREA) >= 128
        if not small.any():  # smaller than a pixel of the plan
            return np.ones((1, 1), np.bool_), (0, 0)
        x, y, width, height = cv2.boundingRect(small.view(np.uint8))
        return small[y : y + height, x : x + width], (x, y)

    def _rates_of(self, layout: Layout) -> NDArray[np.float64]:
        rates = []
        for number in range(FIT_PICTURES):
            # The same draws for every layout: the figures then change with the layout alone.
            rates += self.plan(np.random.default_rng([self.seed, 1, number]), layout).hidden
        return np.array(rates)


class _LayeredMasks:
    """Masks of products on one picture, bottom first, with the visible part of each."""

    def __init__(self, size_hw: tuple[int, int], max_hidden: float) -> None:
        self._size_hw = size_hw
        self._max_hidden = max_hidden
        self._visible: list[tuple[BoolArray, int, int]] = []
        self._area: list[int] = []
        self._left: list[int] = []

    def __len__(self) -> int:
        return len(self._area)

    def occlusion_rates(self) -> list[float]:
        """Return the hidden share of each product, 0..1."""
        return [1 - left / max(area, 1) for left, area in zip(self._left, self._area)]

    def add_at_random(
        self, mask: BoolArray, rng: np.random.Generator, *, on_top: bool
    ) -> tuple[int, int] | None:
        """Add a product at a random place where it fits; return its corner, x and y.

        Args:
            mask: of the product, tight.
            rng: draws the places.
            on_top: over a product of which nothing is hidden yet; else anywhere.
        """
        height, width = self._size_hw
        windows = [(0, 0, width, height)]
        if on_top:
            windows = [
                (x, y, visible.shape[1], visible.shape[0])
                for (visible, x, y), left, area in zip(self._visible, self._left, self._area)
                if left == area
            ]
        for _ in range(TRIES if windows else 0):
            corner = _random_corner(windows[rng.integers(len(windows))], mask, rng, overlap=on_top)
            if self.add(mask, corner, hiding=on_top):
                return corner
        return None

    def add(self, mask: BoolArray, corner_xy: tuple[int, int], *, hiding: bool = False) -> bool:
        """Put a product on top, unless it would hide too much of one, or leave the picture.

        With `hiding`, it must hide something.
        """
        x, y = corner_xy
        height, width = self._size_hw
        visible = mask.copy()
        visible[: max(0, -y)] = False
        visible[:, : max(0, -x)] = False
        visible[max(0, height - y) :] = False
        visible[:, max(0, width - x) :] = False
        area, left = np.count_nonzero(mask), np.count_nonzero(visible)
        if left < (1 - self._max_hidden) * area:
            return False
        losses = []
        for i, (other, ox, oy) in enumerate(self._visible):
            x0, x1 = max(x, ox), min(x + mask.shape[1], ox + other.shape[1])
            y0, y1 = max(y, oy), min(y + mask.shape[0], oy + other.shape[0])
            if x0 >= x1 or y0 >= y1:
                continue
            above = visible[y0 - y : y1 - y, x0 - x : x1 - x]
            below = other[y0 - oy : y1 - oy, x0 - ox : x1 - ox]
            lost = np.count_nonzero(above & below)
            if self._left[i] - lost < (1 - self._max_hidden) * self._area[i]:
                return False
            if lost:
                losses.append((i, lost, below, above))
        if hiding and not losses:
            return False
        for i, lost, below, above in losses:
            below &= ~above
            self._left[i] -= lost
        self._visible.append((visible, x, y))
        self._area.append(area)
        self._left.append(left)
        return True


def _random_corner(
    window: tuple[int, int, int, int], mask: BoolArray, rng: np.random.Generator, *, overlap: bool
) -> tuple[int, int]:
    """Draw a mask's corner: so that it meets the window (x, y, w, h), or its middle lies in it."""
    x, y, width, height = window
    h, w = mask.shape
    across, down = (w, h) if overlap else (0, 0)
    centre_x = x - across / 2 + rng.random() * (width + across)
    centre_y = y - down / 2 + rng.random() * (height + down)
    return round(centre_x - w / 2), round(centre_y - h / 2)


def fit(rates_of: Callable[[Layout], NDArray[np.float64]]) -> Layout:
    """Find the layout whose products are occluded as often and as much as the published ones.

    Args:
        rates_of: occlusion rates of the products of a layout.
    """
    layout = Layout(on_top=0.5, max_hidden=0.7)
    for _ in range(2):  # each number hardly depends on the other

        def share(on_top: float, fixed: Layout = layout) -> float:
            return float((rates_of(fixed._replace(on_top=on_top)) > 0).mean())

        layout = layout._replace(on_top=_bisect(OCCLUDED_SHARE, share, low=0))

        def mean(max_hidden: float, fixed: Layout = layout) -> float:
            return _mean_occluded(rates_of(fixed._replace(max_hidden=max_hidden)))

        layout = layout._replace(max_hidden=_bisect(MEAN_RATE_OCCLUDED, mean, low=0.2))
    return layout


def _mean_occluded(rates: NDArray[np.float64]) -> float:
    return float(rates[rates > 0].mean()) if rates.any() else 0.0


def _bisect(goal: float, rising: Callable[[float], float], low: float, high: float = 1.0) -> float:
    """Bisect for where a rising function reaches a goal in [low, high], to 0.01; else an end."""
    while high - low > 0.01:
        middle = (low + high) / 2
        low, high = (middle, high) if rising(middle) < goal else (low, middle)
    return round((low + high) / 2, 4)


def pad(
    photograph: NDArray[np.uint8], corners: list[tuple[int, int]], cutouts: list[Cutout]
) -> tuple[NDArray[np.uint8], tuple[int, int], tuple[slice, slice]]:
    """Add zeros around a photograph until all cutouts lie inside.

    Returns:
        The padded picture, how far the photograph moved (x, y), and where it lies in the picture.
    """
    height, width = photograph.shape[:2]
    ends = [(x + c.size_hw[1], y + c.size_hw[0]) for (x, y), c in zip(corners, cutouts)]
    left = -min([0, *(x for x, _ in corners)])
    top = -min([0, *(y for _, y in corners)])
    right = max([width, *(x for x, _ in ends)]) - width
    bottom = max([height, *(y for _, y in ends)]) - height
    padded = np.pad(photograph, ((top, bottom), (left, right), (0, 0)))
    return padded, (left, top), (slice(top, top + height), slice(left, left + width))


def layers_to_rows(
    masks: list[tuple[int, Rle]], frame: Rle
) -> tuple[list[Json], list[tuple[int, int]]]:
    """Describe objects that lie over each other.

    Args:
        masks: label and complete mask of each, bottom first.
        frame: what of the picture was photographed.

    Returns:
        The rows, with ids in the order of `masks`, and (occluder, occludee) ids: which visible
        pixels lie in which hidden part.
    """
    visible: list[Rle] = []
    above: list[Rle] = []
    for _, mask in reversed(masks):
        seen = intersection(mask, frame)
        visible.append(difference(seen, union(above)) if above else seen)
        above = [union([*above, mask])]
    visible.reverse()
    rows = [
        annotation(i + 1, label, masks[i][1], visible[i]) for i, (label, _) in enumerate(masks)
    ]
    edges = [
        (above + 1, below + 1)
        for below in range(len(masks))
        for above in range(below + 1, len(masks))
        if areas_px([intersection(visible[above], masks[below][1])])[0] > 0
    ]
    return rows, edges


def table(variant: str, ours: DatasetStatistics) -> str:
    """Format the statistics of what was made beside Table 5 of the paper."""
    rows = (
        ("images", ours.images),
        ("images with occlusion", ours.occluded_images),
        ("  share", ours.occluded_image_share),
        ("objects", ours.objects),
        ("objects occluded", ours.occluded_objects),
        ("  share", ours.occluded_object_share),
        ("mean occlusion, all", ours.mean_rate),
        ("mean occlusion, occluded", ours.mean_rate_occluded),
    )
    lines = [f"{variant:26} {'ours':>8} {'published':>10}"]
    for (name, value), published in zip(rows, PUBLISHED[variant]):
        form = ".0%" if isinstance(value, float) else ",d"
        lines.append(f"{name:26} {value:>8{form}} {published:>10{form}}")
    return "\n".join(lines)
