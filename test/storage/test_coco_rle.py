"""Run lengths without pixels: the same answers as pycocotools and NumPy give with pixels."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as coco_mask

from amodal_perception.storage.coco_rle import (
    areas_px,
    checked_rle,
    covered_pixels,
    decode_counts,
    decode_mask,
    decode_masks,
    difference,
    encode_mask,
    encode_window,
    intersection,
    overlap_areas,
    touching,
    union,
)

SIZES = st.tuples(st.integers(1, 9), st.integers(1, 9))
MASKS = SIZES.flatmap(lambda size: arrays(np.bool_, size))
PAIRS = SIZES.flatmap(lambda size: st.tuples(arrays(np.bool_, size), arrays(np.bool_, size)))


def column_runs(mask):
    """Count the runs of a mask, column by column, the plain way."""
    runs, value = [0], False
    for pixel in mask.T.reshape(-1):
        if pixel != value:
            runs.append(0)
            value = pixel
        runs[-1] += 1
    return runs


@given(st.lists(MASKS, max_size=5))
def test_codes_decode_to_the_runs_of_each_mask(masks):
    codes = [encode_mask(mask)["counts"] for mask in masks]
    runs, bounds = decode_counts(codes)
    assert [runs[a:b].tolist() for a, b in itertools.pairwise(bounds)] == [
        column_runs(mask) for mask in masks
    ]
    assert covered_pixels(codes) == {code: mask.size for code, mask in zip(codes, masks)}


@given(st.lists(st.integers(0, 2**23), min_size=1, max_size=40))
def test_long_runs_decode_as_pycocotools_encodes_them(lengths):
    rle = coco_mask.frPyObjects({"size": [1, 1], "counts": lengths}, 1, 1)
    assert decode_counts([rle["counts"].decode()])[0].tolist() == lengths


@given(SIZES.flatmap(lambda size: arrays(np.bool_, (3, *size))))
def test_touching_is_dilating_by_a_cross_and_intersecting(masks):
    pairs = [(0, 1), (1, 0), (1, 2), (0, 2), (2, 2)]
    wanted = []
    for a, b in pairs:
        grown = np.pad(masks[a], 1)
        cross = grown[1:-1, 1:-1] | grown[:-2, 1:-1] | grown[2:, 1:-1]
        cross |= grown[1:-1, :-2] | grown[1:-1, 2:]
        wanted.append(bool((cross & masks[b]).any()))
    found = touching([encode_mask(mask) for mask in masks], np.array(pairs))
    assert found.tolist() == wanted


@given(MASKS, st.data())
def test_a_window_is_encoded_as_the_whole_image_is(mask, data):
    height, width = mask.shape
    y0, x0 = data.draw(st.integers(0, height)), data.draw(st.integers(0, width))
    y1, x1 = data.draw(st.integers(y0, height)), data.draw(st.integers(x0, width))
    whole = np.zeros_like(mask)
    whole[y0:y1, x0:x1] = mask[y0:y1, x0:x1]
    crop = mask[y0:y1, x0:x1]
    assert encode_window(crop, (x0, y0, x1, y1), mask.shape) == encode_mask(whole)


@given(PAIRS)
def test_set_operations_and_overlap_are_those_of_pixels(pair):
    a, b = pair
    rle_a, rle_b = encode_mask(a), encode_mask(b)
    # Equal masks have equal counts, whatever made them.
    assert difference(rle_a, rle_b) == encode_mask(a & ~b)
    assert union([rle_a, rle_b]) == encode_mask(a | b)
    assert intersection(rle_a, rle_b) == encode_mask(a & b)
    found = overlap_areas([rle_a, rle_b], [rle_b])
    assert found.tolist() == [[(a & b).sum()], [b.sum()]]
    np.testing.assert_array_equal(decode_masks([rle_a, rle_b]), [a, b])


def test_any_number_of_masks_is_counted():
    masks = [encode_mask(np.arange(700).reshape(20, 35) < n) for n in range(700)]
    assert areas_px(masks).tolist() == list(range(700))
    assert overlap_areas(masks, masks[-1:])[:, 0].tolist() == list(range(700))
    assert areas_px([]).tolist() == []


@given(MASKS, st.data())
def test_empty_runs_are_taken_out(mask, data):
    runs = column_runs(mask)
    for _ in range(data.draw(st.integers(1, 3))):  # cut a run in two, nothing between the halves
        i = data.draw(st.integers(0, len(runs) - 1))
        left = data.draw(st.integers(0, runs[i]))
        runs[i : i + 1] = [left, 0, runs[i] - left]
    code = coco_mask.frPyObjects({"size": [1, 1], "counts": runs}, 1, 1)["counts"].decode()
    wanted = encode_mask(mask)
    for counts in (runs, code):
        if len(runs) > mask.size + 1:
            with pytest.raises(ValueError, match="has more runs than pixels"):
                checked_rle(counts, mask.shape, covered_pixels([code]))
        else:
            assert checked_rle(counts, mask.shape, covered_pixels([code])) == wanted


@given(MASKS)
def test_runs_are_taken_as_text_bytes_or_list(mask):
    code, runs = encode_mask(mask)["counts"], column_runs(mask)
    for counts in (code, code.encode(), runs, [float(run) for run in runs]):
        np.testing.assert_array_equal(decode_mask(checked_rle(counts, mask.shape)), mask)


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ([10, 2], "runs of 12 pixels, but its image has 16"),  # pycocotools would read garbage
        ([17], "runs of 17 pixels"),
        ([-1, 17], "negative length"),
        ([], "no runs"),
        ([0] * 20 + [16], "more runs than pixels"),  # pycocotools would write past its memory
        ("0" * 20, "more runs than pixels"),
        ("0" * 9, "runs of 0 pixels"),
        ([2**62] * 4, "no whole numbers"),
        ([2**53] * 4, "runs of 36028797018963968 pixels"),
        ([2**64, 1], "no whole numbers"),
        ([1.5, 14.5], "no whole numbers"),
        ([float("nan"), 16], "no whole numbers"),
        ([float("inf"), 16], "no whole numbers"),
        (["16"], "no whole numbers"),
        ([[16]], "no whole numbers"),
        ([[16], 1], "no whole numbers"),
        ([None, 16], "no whole numbers"),
        ("\u00e9\u00e9", "no run-length code"),
        (["a"], "no whole numbers"),
        ("", "no run-length code"),
        ("abc!", "no run-length code"),
        ("o" * 40, "no run-length code"),
        ("oooooooooooooooo0", "no run-length code"),
        ("PPPPPP0", "no run-length code"),  # a zero of seven digits: more than 32 bits
        (None, "counts of type NoneType"),
        (7.5, "counts of type float"),
    ],
)
def test_runs_that_do_not_cover_the_image_are_refused(counts, message):
    with pytest.raises(ValueError, match=message):
        checked_rle(counts, (4, 4))


DIGITS = st.sampled_from([bytes([n]) for n in range(48, 112)])


@given(st.binary(max_size=30) | st.lists(DIGITS, max_size=12).map(b"".join), SIZES)
@settings(max_examples=300)
def test_any_bytes_are_refused_or_cover_the_image(code, size_hw):
    try:
        rle = checked_rle(code, size_hw)
    except ValueError:
        return
    assert decode_mask(rle).shape == size_hw
    assert decode_mask(rle).sum() == coco_mask.area(rle)
