"""UOAIS's protocol (Back et al., ICRA 2022): overlap, boundary and occlusion, one image at a time.

Predictions with a score of 0.5 at least are assigned to true objects, whatever their classes, so
that the F-measures of their masks sum to the most. Precision is the share of predicted pixels
that lie in the object assigned, recall the share of true pixels, ``F75`` the share of true
objects found with an F-measure above 0.75; boundaries count pixels near the other boundary.
Figures are computed for each image and averaged. Without any prediction precision is 1, without
any object recall is 1 (as published, after Dave et al. 2019).

Visible, amodal and invisible masks each have these figures. Invisible masks take the assignment of
the amodal ones, and only predictions that are hidden by 5 % at least (which is the published
code's rule for models that do not classify). The code scores visible masks after painting them
into one map, the later over the earlier; here they may overlap.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from tqdm import tqdm

from amodal_perception.evaluation.comparison import Comparison, Float64, Int64, Objects
from amodal_perception.evaluation.weighted_metrics import (
    Harmonic,
    Ratio,
    WeightedMetrics,
    mean_over_images,
)
from amodal_perception.storage.coco_rle import boxes_xywh
from amodal_perception.storage.decode_strip import decode_strip
from amodal_perception.structures import BoolArray, UInt8Array

MIN_SCORE = 0.5
FOUND_F = 0.75
OCCLUDED_RATE = 0.05
BOUNDARY_TOLERANCE = 0.003
"""Of the image's diagonal, rounded up to whole pixels."""

KINDS = ("amodal_mask", "visible_mask", "hidden_mask")
METRICS = (
    *("overlap_P", "overlap_R", "overlap_F"),
    *("boundary_P", "boundary_R", "boundary_F"),
    *("F75", "mIoU"),
)


def uoais(comparison: Comparison) -> WeightedMetrics:
    """Measure overlap and boundary F-measure, F75 and mIoU by mask, and occlusion classification.

    ``mIoU`` is that of all assigned pixels of an image together, 0 where there are none, as
    published.
    """
    kinds = KINDS if _has_visible(comparison) else KINDS[:1]
    num_images = len(comparison.image_ids)
    rows = {kind: np.zeros((num_images, len(METRICS))) for kind in kinds}
    counts = np.zeros((num_images, 4))  # rightly classified, assigned, predicted, true
    for image in tqdm(range(num_images), "boundaries", unit="image", delay=2, leave=False):
        matches = _ImageMatches.of(comparison, image, kinds)
        for kind in kinds:
            rows[kind][image] = matches.figures(kind)
        counts[image] = matches.classified()
    figures: WeightedMetrics = {
        f"{kind}.{metric}": mean_over_images(rows[kind][:, i])
        for kind in kinds
        for i, metric in enumerate(METRICS)
    }
    if len(kinds) > 1:
        right, assigned, predicted, true = counts.T
        precision, recall = Ratio(right, predicted), Ratio(right, true)
        figures |= {
            "occlusion.accuracy": Ratio(right, assigned),
            "occlusion.precision": precision,
            "occlusion.recall": recall,
            "occlusion.F": Harmonic(precision, recall),
        }
    return figures


@dataclass(frozen=True, eq=False)
class _ImageObjects:
    """The predicted or the true objects of one image.

    Attributes:
        px: [N] areas by kind of mask.
        is_occluded: [N] bool.
        windows_xyxy: [N, 4] pixels, as far around the masks as boundaries reach.
        columns: [N, 2] first column, and the one after the last, in the pictures of `outlines`.
        outlines: boundaries of all objects of the image by kind of mask.
        reach: the pixels near those boundaries.
        outline_px: [N] lengths of boundaries by kind of mask.
    """

    px: dict[str, Int64]
    is_occluded: BoolArray
    windows_xyxy: Int64
    columns: Int64
    outlines: dict[str, UInt8Array]
    reach: dict[str, UInt8Array]
    outline_px: dict[str, Int64]

    def counted(self, kind: str) -> BoolArray:
        """[N] bool, objects that have this kind of mask to be judged."""
        return self.is_occluded if kind == "hidden_mask" else self.px[kind] > 0


@dataclass(frozen=True, eq=False)
class _ImageMatches:
    """One image: its predicted and true objects, the pixels they share, and the assignment."""

    predicted: _ImageObjects
    true: _ImageObjects
    shared_px: dict[str, Float64]
    assigned: dict[str, Int64]

    @classmethod
    def of(cls, comparison: Comparison, image: int, kinds: tuple[str, ...]) -> _ImageMatches:
        predicted, true = comparison.predictions, comparison.truth
        p = np.arange(*predicted.first_of_image[image : image + 2])
        t = np.arange(*true.first_of_image[image : image + 2])
        p = p[(predicted.score[p] >= MIN_SCORE) & (predicted.amodal_px[p] > 0)]
        t = t[~comparison.ignored[t] & (true.amodal_px[t] > 0)]
        if not len(p) or not len(t):  # every figure is known without looking
            kinds = ()
        objects = _image_objects(comparison, p, t, kinds)
        shared = _shared_px(comparison, p, t, kinds)
        assigned = {kind: _assignment(*objects, shared[kind], kind) for kind in kinds[:2]}
        return cls(*objects, shared, assigned)

    def figures(self, kind: str) -> list[float]:
        """Return the `METRICS` of one kind of mask."""
        predicted, true = self.predicted.counted(kind), self.true.counted(kind)
        hidden = kind == "hidden_mask"
        if not predicted.any() or not true.any():
            p, r = float(not predicted.any()), float(not true.any())
            f = p * r
            miou = self._miou(kind, np.zeros((0, 2), np.int64)) if hidden else 0.0
            return [p, r, f, p, r, f, f, miou]
        pairs = self.assigned["amodal_mask" if hidden else kind]
        pairs = pairs[predicted[pairs[:, 0]] & true[pairs[:, 1]]]
        shared = self.shared_px[kind][pairs[:, 0], pairs[:, 1]]
        px_p, px_t = self.predicted.px[kind], self.true.px[kind]
        found = f_measure(shared, px_p[pairs[:, 0]], px_t[pairs[:, 1]]) > FOUND_F
        boundary_px = [self._shared_boundary_px(kind, p, t) for p, t in pairs]
        near_p, near_t = np.array(boundary_px).reshape(-1, 2).sum(axis=0)
        return [
            *_prf(shared.sum(), shared.sum(), px_p[predicted].sum(), px_t[true].sum()),
            *_prf(
                near_p,
                near_t,
                self.predicted.outline_px[kind][predicted].sum(),
                self.true.outline_px[kind][true].sum(),
            ),
            np.count_nonzero(found) / np.count_nonzero(true),
            self._miou(kind, pairs),
        ]

    def classified(self) -> tuple[int, int, int, int]:
        """Count objects rightly classified as occluded or not, assigned, predicted and true."""
        pairs = self.assigned.get("amodal_mask", np.zeros((0, 2), np.int64))
        right = self.predicted.is_occluded[pairs[:, 0]] == self.true.is_occluded[pairs[:, 1]]
        counts = len(self.predicted.is_occluded), len(self.true.is_occluded)
        return np.count_nonzero(right), len(pairs), *counts

    def _miou(self, kind: str, pairs: Int64) -> float:
        """Divide what assigned pairs share by what they cover, over the whole image."""
        shared = self.shared_px[kind][pairs[:, 0], pairs[:, 1]].sum() if len(pairs) else 0.0
        # Published: hidden pixels of every assigned prediction count, also of unoccluded ones.
        of_whom = self.assigned.get("amodal_mask", pairs) if kind == "hidden_mask" else pairs
        covered = self.predicted.px[kind][of_whom[:, 0]].sum()
        covered += self.true.px[kind][pairs[:, 1]].sum() - shared
        return float(shared / covered) if covered > 0 else 0.0

    def _shared_boundary_px(self, kind: str, p: int, t: int) -> tuple[int, int]:
        """Count the pixels of either boundary that are within reach of the other."""
        a, b = self.predicted, self.true
        (ax0, ay0, ax1, ay1), (bx0, by0, bx1, by1) = a.windows_xyxy[p], b.windows_xyxy[t]
        x0, y0, x1, y1 = max(ax0, bx0), max(ay0, by0), min(ax1, bx1), min(ay1, by1)
        if x0 >= x1 or y0 >= y1:
            return 0, 0
        a_shift, b_shift = a.columns[p, 0] - ax0, b.columns[t, 0] - bx0
        in_a = slice(y0 - ay0, y1 - ay0), slice(x0 + a_shift, x1 + a_shift)
        in_b = slice(y0 - by0, y1 - by0), slice(x0 + b_shift, x1 + b_shift)
        return (
            np.count_nonzero(a.outlines[kind][in_a] & b.reach[kind][in_b]),
            np.count_nonzero(a.reach[kind][in_a] & b.outlines[kind][in_b]),
        )


def f_measure(shared: Float64, px_p: Int64, px_t: Int64) -> Float64:
    """Return the harmonic mean of shared / predicted and shared / true pixels; 0 for nothing."""
    precision, recall = shared / np.maximum(px_p, 1), shared / np.maximum(px_t, 1)
    both = precision + recall
    return 2 * precision * recall / np.where(both > 0, both, 1)


def outline(mask: UInt8Array) -> UInt8Array:
    """Mark the pixels whose 2 x 2 block (with the next row and column) is not all the same.

    Args:
        mask: of 0 and 1; its last row and column continue beyond it.
    """
    marked = np.zeros_like(mask)
    sideways, downwards = mask[:, :-1] ^ mask[:, 1:], mask[:-1] ^ mask[1:]
    marked[:, :-1] = sideways
    marked[:-1] |= downwards
    marked[:-1, :-1] |= sideways[1:]  # with these three the fourth pixel of the block is known
    return marked


@lru_cache
def disk(radius_px: int) -> UInt8Array:
    """Return a square of 0 and 1 with a disk: distance to the middle at most the radius."""
    offset = np.arange(-radius_px, radius_px + 1)
    return (offset[:, None] ** 2 + offset[None, :] ** 2 <= radius_px**2).astype(np.uint8)


def _image_objects(
    comparison: Comparison, p: Int64, t: Int64, kinds: tuple[str, ...]
) -> tuple[_ImageObjects, _ImageObjects]:
    """Draw the outlines of an image's predicted and true objects, all in one picture."""
    predicted, true = comparison.predictions, comparison.truth
    occluded = predicted.occlusion_rate[p] >= OCCLUDED_RATE, true.hidden_px[t] > 0
    nothing = np.zeros((0, 4), np.int64)
    if not kinds:
        return (
            _ImageObjects(_px(predicted, p), occluded[0], nothing, nothing, {}, {}, {}),
            _ImageObjects(_px(true, t), occluded[1], nothing, nothing, {}, {}, {}),
        )
    amodal = [predicted.amodal[i] for i in p] + [true.amodal[i] for i in t]
    visible = [predicted.visible[i] for i in p] + [true.visible[i] for i in t]
    size_hw = amodal[0]["size"]
    reach_px = int(np.ceil(BOUNDARY_TOLERANCE * np.linalg.norm(size_hw)))
    has_visible = len(kinds) > 1
    boxes = boxes_xywh(amodal), boxes_xywh(visible if has_visible else amodal)
    windows = _windows(*boxes, reach_px + 1)

    masks: dict[str, UInt8Array] = {}
    outlines: dict[str, UInt8Array] = {}
    reach: dict[str, UInt8Array] = {}
    outline_px: dict[str, Int64] = {}
    masks["amodal_mask"], first_column = decode_strip(amodal, windows)
    if has_visible:
        masks["visible_mask"], _ = decode_strip(visible, windows)
        masks["hidden_mask"] = masks["amodal_mask"] & ~masks["visible_mask"]
    for kind in kinds:
        outlines[kind] = outline(masks[kind])
        _redraw_at_image_borders(outlines[kind], masks[kind], windows, first_column, size_hw)
        reach[kind] = cv2.dilate(outlines[kind], disk(reach_px)).astype(np.uint8, copy=False)
        by_column = outlines[kind].sum(axis=0, dtype=np.int64)
        outline_px[kind] = np.add.reduceat(by_column, first_column[:-1])
    columns = np.stack([first_column[:-1], first_column[1:]], axis=1)
    both = []
    for objects, chosen, part, is_occluded in (
        (predicted, p, slice(None, len(p)), occluded[0]),
        (true, t, slice(len(p), None), occluded[1]),
    ):
        lengths = {kind: outline_px[kind][part] for kind in kinds}
        px = _px(objects, chosen)
        both.append(
            _ImageObjects(px, is_occluded, windows[part], columns[part], outlines, reach, lengths)
        )
    return both[0], both[1]


def _px(objects: Objects, chosen: Int64) -> dict[str, Int64]:
    return {
        "amodal_mask": objects.amodal_px[chosen],
        "visible_mask": objects.visible_px[chosen],
        "hidden_mask": objects.hidden_px[chosen],
    }


def _windows(a_xywh: Float64, b_xywh: Float64, margin_px: int) -> Int64:
    """Return the [N, 4] windows around both boxes and a margin; they may leave the image."""
    b_xywh = np.where(b_xywh[:, 2:3] > 0, b_xywh, a_xywh)  # nothing visible
    low = np.minimum(a_xywh[:, :2], b_xywh[:, :2])
    high = np.maximum(a_xywh[:, :2] + a_xywh[:, 2:], b_xywh[:, :2] + b_xywh[:, 2:])
    return np.hstack([low - margin_px, high + margin_px]).astype(np.int64)


def _redraw_at_image_borders(
    outlines: UInt8Array,
    masks: UInt8Array,
    windows_xyxy: Int64,
    first_column: Int64,
    size_hw: tuple[int, int],
) -> None:
    """Redraw, in place, outlines at the image's borders, beyond which masks are taken to go on."""
    height, width = size_hw
    x0, y0, x1, y1 = windows_xyxy.T
    for i in np.flatnonzero((x0 < 0) | (y0 < 0) | (x1 > width) | (y1 > height)):
        inside = (
            slice(max(-y0[i], 0), min(y1[i], height) - y0[i]),
            slice(
                first_column[i] + max(-x0[i], 0),
                first_column[i] + min(x1[i], width) - x0[i],
            ),
        )
        redrawn = outline(masks[inside])
        outlines[:, first_column[i] : first_column[i + 1]] = 0
        outlines[inside] = redrawn


def _shared_px(
    comparison: Comparison, p: Int64, t: Int64, kinds: tuple[str, ...]
) -> dict[str, Float64]:
    """Return by kind of mask the [P, T] pixels that chosen objects of one image share."""
    pairs = comparison.overlaps
    if not kinds:
        return {}
    here = slice(
        np.searchsorted(pairs.predicted, p[0]), np.searchsorted(pairs.predicted, p[-1], "right")
    )
    row = np.searchsorted(p, pairs.predicted[here])
    column = np.searchsorted(t, pairs.true[here])
    chosen = (p[np.minimum(row, len(p) - 1)] == pairs.predicted[here]) & (
        t[np.minimum(column, len(t) - 1)] == pairs.true[here]
    )
    matrices: dict[str, Float64] = {}
    for kind in kinds:
        matrices[kind] = np.zeros((len(p), len(t)))
        matrices[kind][row[chosen], column[chosen]] = pairs.shared_px[kind][here][chosen]
    return matrices


def _assignment(
    predicted: _ImageObjects, true: _ImageObjects, shared: Float64, kind: str
) -> Int64:
    """Assign predictions to true objects: [A, 2]."""
    rows, columns = (np.flatnonzero(objects.px[kind] > 0) for objects in (true, predicted))
    px_p, px_t = predicted.px[kind][columns], true.px[kind][rows]
    f = f_measure(shared[np.ix_(columns, rows)].T, px_p[None, :], px_t[:, None])
    t, p = hungarian_assignment(f).T
    return np.stack([columns[p], rows[t]], axis=1)


def hungarian_assignment(gain: Float64) -> Int64:
    """Pair rows with columns so that the gains sum to the most (Hungarian assignment).

    As many pairs as there can be are made, as published; those without gain in ascending order,
    so that figures do not depend on which of them the solver takes.

    Args:
        gain: [N, M], 0 or more.

    Returns:
        [min(N, M), 2] rows and columns; pairs without gain come last.
    """
    from scipy.optimize import linear_sum_assignment  # here: only this protocol needs SciPy

    pairs = np.stack(linear_sum_assignment(gain, maximize=True), axis=1)
    pairs = pairs[gain[pairs[:, 0], pairs[:, 1]] > 0]
    left = [np.setdiff1d(np.arange(n), used) for n, used in zip(gain.shape, pairs.T)]
    return np.concatenate([pairs, np.array(list(zip(*left)), np.int64).reshape(-1, 2)])


def _prf(
    right_p: float, right_t: float, of_predicted: float, of_true: float
) -> tuple[float, float, float]:
    """Return precision, recall and their harmonic mean; 0 where nothing is right."""
    precision = right_p / of_predicted if of_predicted else 0.0
    recall = right_t / of_true if of_true else 0.0
    both = precision + recall
    return precision, recall, 2 * precision * recall / both if both else 0.0


def _has_visible(comparison: Comparison) -> bool:
    return comparison.truth_has_visible and comparison.predictions_have_visible
