"""COCO's run-length masks as they are: checked, compared and joined without decoding to pixels.

COCO stores a mask column by column as lengths of runs, the first of zeros. pycocotools works on
them in C, but trusts its input: runs that do not cover the image decode to whatever the memory
held. So everything that comes from a file passes through `checked_rle` first.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

Rle = dict[str, Any]
"""``{"size": [height, width], "counts": bytes}``, as pycocotools takes and gives."""

Runs = NDArray[np.int64]
BoolArray = NDArray[np.bool_]


def decode_counts(codes: list[bytes]) -> tuple[Runs, Runs]:
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
    digits = np.frombuffer(b"".join(codes), np.uint8) - np.uint8(48)
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


def covered_pixels(codes: list[bytes]) -> Runs:
    """Count the pixels that the runs of each mask cover, ones and zeros.

    Raises:
        ValueError: as `decode_counts`.
    """
    runs, bounds = decode_counts(codes)
    sums = np.concatenate([[0], runs.cumsum()])[bounds]
    return sums[1:] - sums[:-1]


def checked_rle(
    counts: Any, size_hw: tuple[int, int], covered: Mapping[str, int] | None = None
) -> Rle:
    """Make an RLE of runs from a file: a string, bytes, or a list of lengths.

    Args:
        counts: the runs.
        size_hw: height and width of the image, pixels.
        covered: pixels that some counts cover, where that is known already.

    Raises:
        ValueError: not runs, or they do not cover the image.
    """
    if isinstance(counts, list):
        try:
            runs: Runs = np.array(counts, np.int64).reshape(-1)
        except (ValueError, TypeError, OverflowError):
            raise ValueError("has counts that are no whole numbers") from None
        if len(runs) == 0 or runs.min() < 0:
            raise ValueError("has no runs, or one of negative length")
        total = int(runs.sum())
    elif isinstance(counts, (str, bytes)):
        code = counts.encode("ascii", "replace") if isinstance(counts, str) else counts
        known = covered.get(counts) if covered and isinstance(counts, str) else None
        total = int(covered_pixels([code])[0]) if known is None else known
    else:
        raise ValueError(f"has counts of type {type(counts).__name__}")
    expected = size_hw[0] * size_hw[1]
    if total != expected:
        raise ValueError(
            f"has runs of {total} pixels, but its image has {expected} "
            f"({size_hw[0]} x {size_hw[1]})"
        )
    # pycocotools makes room for one run more than there are pixels.
    if len(counts) > expected + 1:
        raise ValueError("has more runs than pixels")
    if isinstance(counts, list):
        return coco_mask.frPyObjects({"size": list(size_hw), "counts": counts}, *size_hw)
    return {"size": list(size_hw), "counts": code}


def join(rles: list[Rle]) -> Rle:
    """Return the union of masks."""
    return coco_mask.merge(rles) if len(rles) != 1 else rles[0]


def meet(a: Rle, b: Rle) -> Rle:
    """Return the intersection of two masks."""
    return coco_mask.merge([a, b], intersect=True)


def subtract(a: Rle, b: Rle) -> Rle:
    """Return the pixels of `a` that are not in `b`."""
    runs, _ = decode_counts([b["counts"]])
    inverse = np.concatenate([[0], runs]) if runs[0] else runs[1:]
    size = b["size"]
    if len(inverse) == 0:  # b covers the image: nothing is left
        inverse = np.array([size[0] * size[1]])
    return meet(a, coco_mask.frPyObjects({"size": size, "counts": inverse.tolist()}, *size))


def overlap_areas(
    visible: list[Rle], amodal: list[Rle], visible_px: NDArray[np.integer] | None = None
) -> NDArray[np.int64]:
    """Count |visible_i and amodal_j| in pixels, for all pairs.

    Args:
        visible: N masks.
        amodal: M masks.
        visible_px: [N] pixels of `visible`, if they are known.

    Returns:
        [N, M] int64.
    """
    if not visible or not amodal:
        return np.zeros((len(visible), len(amodal)), np.int64)
    # Against a "crowd", pycocotools divides the intersection by the first mask's area alone.
    share = coco_mask.iou(visible, amodal, [1] * len(amodal))
    areas = coco_mask.area(visible) if visible_px is None else visible_px
    return np.rint(np.nan_to_num(share) * areas[:, None]).astype(np.int64)


def touching(rles: list[Rle], pairs: NDArray[np.int64]) -> BoolArray:
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
    starts, ends, bounds = _runs_of_ones(rles)
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


def _runs_of_ones(rles: list[Rle]) -> tuple[Runs, Runs, Runs]:
    """List the runs of ones of all masks as [start, end) in column-major pixel numbers.

    Also returns [N + 1] bounds of the runs of each mask.
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
