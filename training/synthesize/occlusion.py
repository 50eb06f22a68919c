"""BCNet's Synthetic Occlusion Dataset by copy-paste (Ke et al. 2021, supplement, section 1).

Complete objects are cut out of photographs and put in front of complete objects of others: each
picture has one occluder and one occludee, and the masks of both are known to the pixel.

What the paper leaves open, and what is done here:

- *Box overlap of at most 5 %*: the part of either box that the other covers, so that neither a
  small object in front nor a large one behind passes. Crowds count as neighbours.
- *Manual selection of complete objects*: away from the picture's border, in one piece, at most
  half the picture, and nothing hidden where the file knows that.
- *Overlapping rate of 0.2 to 0.5*: the share of the occludee's mask that is hidden.
- *Size of the occluder*: the root of its area is 0.8 to 1.2 times the occludee's; it is never
  enlarged more than twice, and mirrored half of the time.
- *Blending*: the outermost pixel of the occluder is mixed with what is behind it.
- *Other objects of the occludee's photograph*: nobody knows their complete masks, so they are
  written as crowds, which metrics forgive and training leaves out.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from amodal_perception.errors import DatasetError
from amodal_perception.storage.amodal_coco import Json
from amodal_perception.storage.coco_rle import areas_px, decode_mask, difference, encode_mask
from amodal_perception.structures import BoolArray
from training.packed_objects import BORDER_PX, Objects
from training.synthesize.parallel import Picture
from training.synthesize.pasting import cut_out, paste, place
from training.synthesize.truth import annotation, contours

IntVector = NDArray[np.int64]


@dataclass(frozen=True)
class OcclusionSettings:
    """What decides which objects are complete, and how they are composed.

    Attributes:
        min_area_px: smallest mask (the paper's 32 x 32).
        max_box_overlap: largest part of either of two boxes that the other may cover.
        border_px: a complete object stays this far from the picture's border.
        max_image_share: largest part of the picture that the object's mask may cover.
        min_main_share: smallest part of the mask that is in one piece.
        hidden_share: lowest and highest part of the occludee that is hidden.
        scale: lowest and highest ratio of lengths, occluder to occludee.
        max_enlargement: of an occluder, in length.
        grid: positions searched along the longer side of the occludee.
        tries: pairs of objects tried before other classes are drawn.
    """

    min_area_px: int = 32 * 32
    max_box_overlap: float = 0.05
    border_px: int = BORDER_PX
    max_image_share: float = 0.5
    min_main_share: float = 0.99
    hidden_share: tuple[float, float] = (0.2, 0.5)
    scale: tuple[float, float] = (0.8, 1.2)
    max_enlargement: float = 2.0
    grid: int = 32
    tries: int = 10


class FilterCounts(NamedTuple):
    """The complete objects, and how many remained after each filter, by its name."""

    indices: IntVector
    remaining: dict[str, int]


def complete_objects(objects: Objects, settings: OcclusionSettings) -> FilterCounts:
    """Find the objects that are whole and in full view."""
    height, width = objects.size_hw[objects.image].T
    conditions = {
        "not a crowd, nothing hidden": ~objects.crowd & (objects.hidden_px == 0),
        f"mask of {settings.min_area_px} pixels or more": objects.area_px >= settings.min_area_px,
        f"boxes overlap by {settings.max_box_overlap:.0%} at most": (
            largest_box_overlap(objects) <= settings.max_box_overlap
        ),
        f"{settings.border_px} pixels away from the border": objects.within(settings.border_px),
        f"{settings.max_image_share:.0%} of the picture at most": (
            objects.area_px <= settings.max_image_share * height * width
        ),
    }
    passed = np.ones(len(objects), np.bool_)
    remaining = {"objects": len(objects)}
    for name, condition in conditions.items():
        passed &= condition
        remaining[name] = int(np.count_nonzero(passed))
    candidates = tqdm(np.flatnonzero(passed), unit="object", desc="in one piece", delay=2)
    whole = [
        i
        for i in candidates
        if main_share(decode_mask(objects.amodal(i))) >= settings.min_main_share
    ]
    remaining["in one piece"] = len(whole)
    return FilterCounts(np.array(whole, np.int64), remaining)


def largest_box_overlap(objects: Objects) -> NDArray[np.float64]:
    """Return for each object the largest part of its box or a neighbour's that the two share."""
    largest = np.zeros(len(objects))
    for image in range(len(objects.file_names)):
        rows = objects.of_image(image)
        boxes = objects.box_xyxy[rows.start : rows.stop].astype(np.float64)
        if len(boxes) < 2:
            continue
        low = np.maximum(boxes[:, None, :2], boxes[None, :, :2])
        high = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
        shared = np.clip(high - low, 0, None).prod(axis=2)
        np.fill_diagonal(shared, 0)
        area = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
        smaller = np.minimum.outer(area, area)
        largest[rows.start : rows.stop] = (shared / smaller).max(axis=1)
    return largest


def main_share(mask: BoolArray) -> float:
    """Return how much of a mask its largest connected part is, corners connecting: 0..1."""
    if not mask.any():
        return 0.0
    x, y, width, height = cv2.boundingRect(mask.view(np.uint8))
    crop = np.ascontiguousarray(mask[y : y + height, x : x + width])
    _, parts = cv2.connectedComponents(crop.view(np.uint8), connectivity=8)
    sizes = np.bincount(parts[crop])
    return float(sizes.max() / sizes.sum())


class OcclusionRecipe:
    """BCNet's copy-paste recipe: draws picture number n of one data set."""

    def __init__(
        self, objects: Objects, complete: IntVector, seed: int, settings: OcclusionSettings
    ) -> None:
        self.objects = objects
        self.seed = seed
        self.settings = settings
        labels = objects.label[complete]
        self.by_class = [complete[labels == label] for label in np.unique(labels)]
        if len(np.unique(objects.image[complete])) < 2:
            raise DatasetError(
                f"{len(complete)} complete objects of {len(objects)}: objects of two images or "
                "more are needed to hide one behind another"
            )

    def facts(self) -> Json:
        """Return what decides the pictures, but for the photographs."""
        return {"seed": self.seed, **asdict(self.settings)}

    def draw(self, number: int) -> Picture:
        """Make a picture.

        Raises:
            DatasetError: no two objects can be found that fit together.
        """
        rng = np.random.default_rng([self.seed, number])
        for _ in range(100):
            # Classes are drawn once for several tries: those whose objects seldom fit together
            # would else become rare.
            pools = [self.by_class[i] for i in rng.integers(len(self.by_class), size=2)]
            for _ in range(self.settings.tries):
                target, occluder = (int(pool[rng.integers(len(pool))]) for pool in pools)
                if self.objects.image[target] != self.objects.image[occluder]:
                    picture = self._compose(target, occluder, rng)
                    if picture is not None:
                        return picture
        raise DatasetError("no two complete objects fit together; use a larger data set")

    def _compose(self, target: int, occluder: int, rng: np.random.Generator) -> Picture | None:
        """Put the occluder in front of the target; None if it fits nowhere."""
        objects, settings = self.objects, self.settings
        ratio = np.sqrt(objects.area_px[target] / objects.area_px[occluder])
        scale = min(ratio * rng.uniform(*settings.scale), settings.max_enlargement)
        mirror = bool(rng.random() < 0.5)
        width, height = (
            float(objects.box_xyxy[occluder, axis + 2] - objects.box_xyxy[occluder, axis])
            for axis in (0, 1)
        )
        size_hw = objects.size_of(int(objects.image[target]))
        if height * scale >= size_hw[0] or width * scale >= size_hw[1]:
            return None
        cutout = cut_out(
            objects.read_image(int(objects.image[occluder])),
            decode_mask(objects.amodal(occluder)),
            scale=scale,
            mirror=mirror,
        )
        amodal = decode_mask(objects.amodal(target))
        corner = find_position(amodal, cutout.mask, settings.hidden_share, settings.grid, rng)
        if corner is None:
            return None
        image = objects.read_image(int(objects.image[target]))
        paste(image, cutout, corner)
        front = place(cutout.mask, corner, size_hw)
        rle = encode_mask(front)
        seen, label = difference(objects.amodal(target), rle), objects.label
        rows = [
            annotation(1, int(label[occluder]), rle, rle, contours=contours(front)),
            annotation(
                2, int(label[target]), objects.amodal(target), seen, contours=contours(amodal)
            ),
        ]
        for other in objects.of_image(int(objects.image[target])):
            left = difference(objects.visible(other), rle)
            if other != target and areas_px([left])[0] > 0:
                rows.append(annotation(len(rows) + 1, int(label[other]), left, left, crowd=True))
        origin = {
            "occluder_from": int(objects.id[occluder]),
            "occludee_from": int(objects.id[target]),
        }
        return Picture(image, rows, [(1, 2)], origin)


def find_position(
    target: BoolArray,
    occluder: BoolArray,
    hidden_share: tuple[float, float],
    grid: int,
    rng: np.random.Generator,
) -> tuple[int, int] | None:
    """Search a grid of positions where the occluder hides the wanted part of the target.

    Shares are estimated at all positions at once, on masks averaged over the cells of the grid;
    then positions are drawn at random until one holds to the pixel.

    Args:
        target: [H, W] bool.
        occluder: [h, w] bool, smaller than the picture.
        hidden_share: lowest and highest part of the target that is hidden.
        grid: positions along the longer side of the target.
        rng: chooses among the positions.

    Returns:
        x and y of the occluder's top left pixel, all of it inside the picture; None if there is
        no such position.
    """
    height, width = target.shape
    h, w = occluder.shape
    x0, y0, tw, th = cv2.boundingRect(target.view(np.uint8))
    step = max(1, -(-max(tw, th) // grid))
    pad_h, pad_w = -(-h // step) * step, -(-w // step) * step
    crop = target[y0 : y0 + th, x0 : x0 + tw].astype(np.float32)
    around = np.pad(crop, ((pad_h, pad_h + -th % step), (pad_w, pad_w + -tw % step)))
    front = np.pad(occluder.astype(np.float32), ((0, pad_h - h), (0, pad_w - w)))
    shared = cv2.matchTemplate(_cells(around, step), _cells(front, step), cv2.TM_CCORR)
    share = shared * (step * step / np.count_nonzero(target))
    rows, columns = np.nonzero((share >= hidden_share[0]) & (share <= hidden_share[1]))
    xs, ys = x0 - pad_w + columns * step, y0 - pad_h + rows * step
    inside = (xs >= 0) & (ys >= 0) & (xs + w <= width) & (ys + h <= height)
    xs, ys = xs[inside], ys[inside]
    area = np.count_nonzero(target)
    for k in rng.permutation(len(xs))[:10]:
        x, y = int(xs[k]), int(ys[k])
        hidden = np.count_nonzero(target[y : y + h, x : x + w] & occluder)
        if hidden_share[0] <= hidden / area <= hidden_share[1]:
            return x, y
    return None


def _cells(mask: NDArray[np.float32], step: int) -> NDArray[np.float32]:
    size = (mask.shape[1] // step, mask.shape[0] // step)
    return np.asarray(cv2.resize(mask, size, interpolation=cv2.INTER_AREA))
