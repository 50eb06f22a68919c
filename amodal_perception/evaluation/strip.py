"""Many regions decoded at once, side by side in one picture, each in its own window.

pycocotools decodes regions one by one to whole images. For objects of 60 x 60 pixels at 640 x 480,
99 % of that work is zeros; and what is done to all regions alike can be done to the strip.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from amodal_perception.evaluation.regions import Rle
from amodal_perception.structures import UInt8Array

Int64 = NDArray[np.int64]

REGIONS_AT_ONCE = 1000


def decode_strip(rles: Sequence[Rle], windows_xyxy: Int64) -> tuple[UInt8Array, Int64]:
    """Decode compressed run lengths into one picture.

    Args:
        rles: N > 0 regions of one image.
        windows_xyxy: [N, 4] pixels, ``[x0, x1) x [y0, y1)``; each holds all of its region, and
            may reach out of the image.

    Returns:
        [h, w] uint8 of 0 and 1, and [N + 1] first columns: region i fills the columns from
        ``first[i]`` to ``first[i + 1]``; its window's upper left corner is at row 0.
    """
    height = int(rles[0]["size"][0])
    x0, y0, x1, y1 = windows_xyxy.T
    first_column = np.concatenate([[0], np.cumsum(x1 - x0)])
    # One row more than the highest window needs takes the ends of runs.
    steps = np.zeros(((y1 - y0).max() + 1, first_column[-1]), np.int8)

    start, end, region = _runs_of_ones([rle["counts"] for rle in rles])
    last = end - 1
    shift = first_column[region] - x0[region]
    start_column, start_row = start // height + shift, start % height - y0[region]
    last_column, last_row = last // height + shift, last % height - y0[region]
    steps[start_row, start_column] += 1
    steps[last_row + 1, last_column] -= 1
    more = last_column - start_column  # a run that reaches the bottom goes on at the top
    if more.any():
        which = np.repeat(np.arange(len(more)), more)
        nth = np.arange(len(which)) - np.repeat(np.cumsum(more) - more, more)
        column, top = start_column[which] + nth, -y0[region][which]
        steps[top, column + 1] += 1
        steps[top + height, column] -= 1
    for above, below in itertools.pairwise(steps):
        below += above
    return steps[:-1].view(np.uint8), first_column


def described_px(rles: Sequence[Rle]) -> Int64:
    """Return how many pixels, of zeros or ones, the run lengths of each region describe.

    pycocotools takes it on trust that these are height x width; where they are not, joining two
    regions never ends.
    """
    totals: list[Int64] = [np.zeros(0, np.int64)]
    for first in range(0, len(rles), REGIONS_AT_ONCE):
        part = rles[first : first + REGIONS_AT_ONCE]
        lengths, region = _run_lengths([rle["counts"] for rle in part])
        totals.append(np.bincount(region, lengths, minlength=len(part)).astype(np.int64))
    return np.concatenate(totals)


def _runs_of_ones(counts: Sequence[str | bytes]) -> tuple[Int64, Int64, Int64]:
    """Return first pixel, pixel after the last, and region of every run of ones."""
    lengths, region = _run_lengths(counts)
    number = np.arange(len(lengths)) - np.searchsorted(region, region)
    ends = _sum_within(lengths, region)
    ones = (number % 2 == 1) & (lengths > 0)
    return (ends - lengths)[ones], ends[ones], region[ones]


def _run_lengths(counts: Sequence[str | bytes]) -> tuple[Int64, Int64]:
    """Return all run lengths, of zeros and ones in turn beginning with zeros, and whose each is.

    A number is spelt in characters of 5 bits, lowest first, with a sixth bit on all but the last,
    and is signed; from the fourth on, it is the difference from the number two before.
    """
    texts = [text.encode("ascii") if isinstance(text, str) else text for text in counts]
    codes = np.frombuffer(b"".join(texts), np.uint8).astype(np.int64) - 48
    last = np.flatnonzero((codes & 0x20) == 0)
    if not len(last):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    codes = codes[: last[-1] + 1]
    first = np.concatenate([[0], last[:-1] + 1])
    length = last - first + 1
    shift = 5 * (np.arange(len(codes)) - np.repeat(first, length))
    values = np.add.reduceat((codes & 0x1F) << shift, first)
    values -= np.where(codes[last] & 0x10, np.int64(1) << (5 * length), 0)

    region = np.searchsorted(np.cumsum([len(text) for text in texts]), last, side="right")
    number = np.arange(len(values)) - np.searchsorted(region, region)
    for parity in (0, 1):
        # Sum the differences of a region's odd numbers, and of its even ones but the first.
        chain = np.flatnonzero((number % 2 == parity) & (number > 0))
        values[chain] = _sum_within(values[chain], region[chain])
    return values, region


def _sum_within(values: Int64, group: Int64) -> Int64:
    """Return running sums that begin anew with each group of neighbours."""
    sums = np.cumsum(values)
    first = np.searchsorted(group, group)
    return sums - (sums - values)[first]
