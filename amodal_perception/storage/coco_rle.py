"""COCO's run-length masks (RLE): checked, compared and joined without decoding to pixels.

COCO stores a mask column by column as lengths of runs, the first of zeros. pycocotools works on
them in C, but trusts its input: runs that do not cover the image decode to whatever the memory
held, or are joined for ever. So everything that comes from a file passes through `checked_rle`
first (`mask_reader` reads all other forms by it), and pycocotools' masks are called here alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pycocotools import mask as coco_mask

from amodal_perception.masks import encode_row_major_rle

Rle = dict[str, Any]
"""``{"size": [height, width], "counts": text}``: COCO's compressed form, as JSON has it."""

Runs = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
Float64 = NDArray[np.float64]

AREAS_AT_ONCE = 255
"""Given more at a time, `area` of pycocotools 2.0.11 overflows."""


def encode_mask(mask: BoolArray) -> Rle:
    """Encode a [H, W] bool mask as COCO's compressed RLE."""
    return _as_text(coco_mask.encode(np.asfortranarray(mask).view(np.uint8)))


def encode_window(crop: BoolArray, window_xyxy: Sequence[int], size_hw: tuple[int, int]) -> Rle:
    """Encode a mask that is nothing outside a window, which is faster than encoding the image.

    Args:
        crop: [h, w] bool.
        window_xyxy: where it lies, whole pixels inside the image.
        size_hw: of the image.
    """
    x0, y0, x1, y1 = window_xyxy
    height, width = size_hw
    columns = np.zeros((x1 - x0, height), np.bool_)
    columns[:, y0:y1] = crop.T
    inside = encode_row_major_rle(columns).astype(np.int64)
    before, after = [x0 * height], [(width - x1) * height]
    return _from_runs(_joined(_joined(before, inside), after), size_hw)


def _joined(first: ArrayLike, second: ArrayLike) -> Runs:
    """Join run lengths of two parts of a mask; the first run of each is of zeros."""
    a, b = np.asarray(first, np.int64), np.asarray(second, np.int64)
    if len(a) % 2 == 0:  # it ends with ones
        return np.concatenate([a, b])
    return np.concatenate([a[:-1], [a[-1] + b[:1].sum()], b[1:]])


def decode_mask(rle: Rle) -> BoolArray:
    """Decode a checked RLE to a [H, W] bool mask."""
    return np.ascontiguousarray(coco_mask.decode(rle)).view(np.bool_)


def decode_masks(rles: Sequence[Rle]) -> BoolArray:
    """Decode N > 0 checked RLEs of one image to [N, H, W] bool."""
    return coco_mask.decode(list(rles)).transpose(2, 0, 1).view(np.bool_)


def decode_counts(codes: Sequence[str]) -> tuple[Runs, Runs]:
    """Decode COCO's compressed counts of many masks at once, which is much faster than one by one.

    Five bits a byte, low ones first, offset 48; bit 5 says that more follow, bit 4 of the last
    byte is the sign. From the third run on, a number is the difference to the run two before.

    Args:
        codes: N masks.

    Returns:
        The run lengths of all masks, one after the other; and [N + 1] bounds: mask i has
        ``runs[bounds[i] : bounds[i + 1]]``.

    Raises:
        ValueError: not of this form, or a length is negative.
    """
    text = "".join(codes)
    if not text.isascii():
        raise ValueError("is no run-length code")
    digits = np.frombuffer(text.encode("ascii"), np.uint8) - np.uint8(48)
    stops = np.cumsum([len(code) for code in codes], dtype=np.int64)
    if not all(codes) or digits.max(initial=0) > 63 or (digits[stops - 1] > 31).any():
        raise ValueError("is no run-length code")
    ends = (digits < 32).nonzero()[0]
    lengths = ends + 1
    lengths[1:] -= ends[:-1] + 1
    if lengths.max(initial=0) > 6:  # pycocotools computes them in 32 bits
        raise ValueError("is no run-length code")
    runs = (digits[ends].astype(np.int64) ^ 16) - 16  # the highest five bits, with their sign
    for place in range(1, lengths.max(initial=0)):
        longer = (lengths > place).nonzero()[0]
        runs[longer] = runs[longer] * 32 + (digits[ends[longer] - place] & 31)
    bounds = np.concatenate([[0], np.searchsorted(ends, stops)])
    count = bounds[1:] - bounds[:-1]
    number = np.arange(len(runs)) - np.repeat(bounds[:-1], count)
    _sum_up(runs, (number & 1).nonzero()[0], count // 2)
    _sum_up(runs, (((number & 1) == 0) & (number > 0)).nonzero()[0], (count - 1) // 2)
    if runs.min(initial=0) < 0:
        raise ValueError("has a run of negative length")
    return runs, bounds


def _sum_up(runs: Runs, chosen: Runs, count: Runs) -> None:
    """Replace the chosen runs by their sums up to there, mask by mask; mask i has count[i]."""
    sums = np.concatenate([[0], runs[chosen].cumsum()])
    before = sums[np.cumsum(count) - count]
    runs[chosen] = sums[1:] - np.repeat(before, count)


def covered_pixels(codes: Iterable[str]) -> dict[str, int]:
    """Count the pixels, ones and zeros, that compressed counts describe, of many at once.

    Args:
        codes: of any number of masks; they may be broken.

    Returns:
        Pixels by code, for `checked_rle`. Codes with an empty run between others, and all where
        one of them is broken, are left out: they are looked at one by one when they are read.
    """
    unique = list(dict.fromkeys(codes))
    try:
        runs, bounds = decode_counts(unique)
    except ValueError:
        return {}
    sums = np.concatenate([[0], runs.cumsum()])[bounds]
    empty = np.concatenate([[0], (runs == 0).cumsum()])
    is_plain = empty[bounds[1:]] == empty[np.minimum(bounds[:-1] + 1, bounds[1:])]
    pixels = (sums[1:] - sums[:-1]).tolist()
    return {code: px for code, px, plain in zip(unique, pixels, is_plain) if plain}


def checked_rle(
    counts: Any, size_hw: tuple[int, int], covered: Mapping[str, int] | None = None
) -> Rle:
    """Make an RLE of runs from a file: text, bytes, or a list of lengths.

    Args:
        counts: the runs.
        size_hw: height and width of the image, pixels.
        covered: pixels that some counts describe, see `covered_pixels`.

    Returns:
        The mask, with no empty run but the first: equal masks have equal counts.

    Raises:
        ValueError: not runs, or they do not cover the image.
    """
    expected = size_hw[0] * size_hw[1]
    if isinstance(counts, bytes):
        counts = counts.decode("ascii", "replace")
    if isinstance(counts, str):
        total = covered.get(counts) if covered else None
        if total == expected:
            return {"size": list(size_hw), "counts": counts}
        runs, _ = decode_counts([counts])
    elif isinstance(counts, list):
        runs = _whole_numbers(counts)
    else:
        raise ValueError(f"has counts of type {type(counts).__name__}")
    if len(runs) == 0 or runs.min() < 0:
        raise ValueError("has no runs, or one of negative length")
    if len(runs) > expected + 1:
        raise ValueError("has more runs than pixels")
    total = int(runs.clip(max=2 * expected).sum())  # cannot overflow
    if total != expected:
        raise ValueError(
            f"has runs of {int(runs.astype(object).sum())} pixels, but its image has {expected} "
            f"({size_hw[0]} x {size_hw[1]})"
        )
    if isinstance(counts, str) and runs[1:].all():
        return {"size": list(size_hw), "counts": counts}
    return _from_runs(runs, size_hw)


def _whole_numbers(counts: list[Any]) -> Runs:
    """Take a list's numbers as int64, whether they are written 3 or 3.0."""
    try:
        numbers = np.array(counts)
    except (ValueError, OverflowError):  # lists of unlike lengths
        numbers = np.array(["ragged"])
    if numbers.ndim != 1 or (len(numbers) and numbers.dtype.kind not in "iuf"):
        raise ValueError("has counts that are no whole numbers")
    if (numbers != np.rint(numbers)).any() or (np.abs(numbers) > 2**53).any():
        raise ValueError("has counts that are no whole numbers")
    return numbers.astype(np.int64)


def _from_runs(runs: Runs, size_hw: Sequence[int]) -> Rle:
    """Encode run lengths that cover the image; empty runs are taken out.

    pycocotools ends early where two masks that it joins have an empty run at the same place.
    """
    is_one = (np.arange(len(runs)) % 2)[runs > 0]
    starts = np.flatnonzero(np.diff(is_one, prepend=-1))
    lengths = np.add.reduceat(runs[runs > 0], starts).tolist()
    counts = [0, *lengths] if is_one[0] else lengths
    size = [int(n) for n in size_hw]
    return _as_text(coco_mask.frPyObjects({"size": size, "counts": counts}, *size))


def _as_text(rle: Rle) -> Rle:
    """Bring what pycocotools gives to the form of JSON."""
    return {"size": [int(n) for n in rle["size"]], "counts": rle["counts"].decode("ascii")}


def rasterise_polygons(polygons: Sequence[Sequence[float]], size_hw: tuple[int, int]) -> Rle:
    """Return the union of polygons, each of three corners or more, ``[x0, y0, x1, y1, ...]``."""
    return _as_text(coco_mask.merge(coco_mask.frPyObjects(list(polygons), *size_hw)))


def union(rles: Sequence[Rle]) -> Rle:
    """Return the pixels that are in any of N > 0 masks of one image."""
    return rles[0] if len(rles) == 1 else _as_text(coco_mask.merge(list(rles)))


def intersection(a: Rle, b: Rle) -> Rle:
    """Return the pixels that are in both masks."""
    return _as_text(coco_mask.merge([a, b], intersect=True))


def difference(a: Rle, b: Rle) -> Rle:
    """Return the pixels of `a` that are not in `b`."""
    runs, _ = decode_counts([b["counts"]])
    return intersection(a, _from_runs(np.concatenate([[0], runs]), b["size"]))


def areas_px(rles: Sequence[Rle]) -> Runs:
    """Count the pixels of each mask: [N] int64."""
    parts = [rles[i : i + AREAS_AT_ONCE] for i in range(0, len(rles), AREAS_AT_ONCE)]
    areas = [coco_mask.area(list(part)).astype(np.int64) for part in parts]
    return np.concatenate([np.zeros(0, np.int64), *areas])


def boxes_xywh(rles: Sequence[Rle]) -> Float64:
    """Return the [N, 4] tight boxes, pixels; zeros for empty masks."""
    return np.asarray(coco_mask.toBbox(list(rles)), np.float64).reshape(-1, 4)


def iou_matrix(
    a: Sequence[Rle], b: Sequence[Rle], is_crowd: Sequence[int] | None = None
) -> Float64:
    """Return the [N, M] intersection over union of every pair; over |a| where b is a crowd."""
    if not a or not b:
        return np.zeros((len(a), len(b)))
    crowd = list(is_crowd) if is_crowd is not None else [0] * len(b)
    return np.asarray(coco_mask.iou(list(a), list(b), crowd), np.float64)


def box_iou_matrix(a_xywh: Float64, b_xywh: Float64, is_crowd: Sequence[int]) -> Float64:
    """Return the [N, M] intersection over union of every pair of boxes, as COCO computes it."""
    if not len(a_xywh) or not len(b_xywh):
        return np.zeros((len(a_xywh), len(b_xywh)))
    return np.asarray(coco_mask.iou(a_xywh, b_xywh, list(is_crowd)), np.float64)


def overlap_areas(
    visible: Sequence[Rle], amodal: Sequence[Rle], visible_px: NDArray[np.integer] | None = None
) -> Runs:
    """Count |visible_i and amodal_j| in pixels, for all pairs.

    Args:
        visible: N masks.
        amodal: M masks.
        visible_px: [N] pixels of `visible`, if they are known.

    Returns:
        [N, M] int64.
    """
    # Against a "crowd", pycocotools divides the intersection by the first mask's area alone.
    share = iou_matrix(visible, amodal, [1] * len(amodal))
    areas = areas_px(visible) if visible_px is None else visible_px
    return np.rint(np.nan_to_num(share) * areas[:, None]).astype(np.int64)


def touching(rles: Sequence[Rle], pairs: NDArray[np.int64]) -> BoolArray:
    """Tell which pairs of masks share a pixel or have pixels side by side.

    The same as dilating one with a 3x3 cross and intersecting: up, down, left, right; corners do
    not count. All pairs are compared at once: the runs of each lie in a range of numbers of its
    own.

    Args:
        rles: N masks of one size.
        pairs: [P, 2] indices.

    Returns:
        [P] bool.
    """
    if len(pairs) == 0:
        return np.zeros(0, np.bool_)
    height, width = rles[0]["size"]
    starts, ends, bounds = runs_of_ones(rles)
    a, pair_of_a = _gather(bounds, pairs[:, 0])
    b, pair_of_b = _gather(bounds, pairs[:, 1])
    span = height * (width + 3)  # so that no shift reaches another pair's range
    base_b = pair_of_b * span
    others = starts[b] + base_b, ends[b] + base_b
    found = np.zeros(len(pairs), np.bool_)
    for grow, shift in ((1, 0), (0, height), (0, -height)):  # up and down, right, left
        left = ~found[pair_of_a]  # most pairs are found at once
        a, pair_of_a = a[left], pair_of_a[left]
        first = starts[a] - grow * (starts[a] % height != 0) + shift
        last = ends[a] + grow * (ends[a] % height != 0) + shift
        base_a = pair_of_a * span
        found[pair_of_a[_overlap((first + base_a, last + base_a), others)]] = True
    return found


def runs_of_ones(rles: Sequence[Rle]) -> tuple[Runs, Runs, Runs]:
    """List the runs of ones of N masks as [start, end) in column-major pixel numbers.

    Returns:
        Starts and ends of all masks' runs, one mask after the other; and [N + 1] bounds: mask i
        has ``starts[bounds[i] : bounds[i + 1]]``.
    """
    runs, bounds = decode_counts([rle["counts"] for rle in rles])
    edges = runs.cumsum()
    count = bounds[1:] - bounds[:-1]
    number = np.arange(len(runs)) - np.repeat(bounds[:-1], count)
    ones = (number & 1).nonzero()[0]
    before = np.concatenate([[0], edges])[np.repeat(bounds[:-1], count // 2)]
    ends = edges[ones] - before
    return ends - runs[ones], ends, np.concatenate([[0], (count // 2).cumsum()])


def _gather(bounds: Runs, masks: NDArray[np.int64]) -> tuple[Runs, Runs]:
    """Return the numbers of the runs of each mask listed, and which entry each belongs to."""
    first, count = bounds[masks], bounds[masks + 1] - bounds[masks]
    entry = np.repeat(np.arange(len(masks)), count)
    within = np.arange(len(entry)) - np.repeat(count.cumsum() - count, count)
    return first[entry] + within, entry


def _overlap(a: tuple[Runs, Runs], b: tuple[Runs, Runs]) -> BoolArray:
    """Tell which of the intervals `a` meet one of `b`; those are sorted and apart."""
    if len(b[0]) == 0:
        return np.zeros(len(a[0]), np.bool_)
    first = np.searchsorted(b[1], a[0], side="right")  # the first of b that ends after a starts
    return (first < len(b[0])) & (b[0][np.minimum(first, len(b[0]) - 1)] < a[1])
