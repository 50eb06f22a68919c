"""Masks in every form that files hold them in."""

from collections import Counter

import numpy as np
import pytest
from helpers.scenes import mask
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from amodal_perception.storage.mask_reader import read_mask

SQUARE = [1, 1, 3, 1, 3, 3, 1, 3]
SQUARE_MASK = mask("....", ".##.", ".##.", "....")
CODE = coco_mask.encode(np.asfortranarray(SQUARE_MASK.view(np.uint8)))["counts"]
RUNS = [5, 2, 2, 2, 5]


def read(value, size_hw=(4, 4)):
    repairs = Counter()
    return coco_mask.decode(read_mask(value, size_hw, repairs)).astype(bool), sorted(+repairs)


@pytest.mark.parametrize(
    ("value", "repair"),
    [
        ([SQUARE], None),
        ([[float(v) for v in SQUARE]], None),
        ([[1, 1, 3, 1, 3, 3], [1, 1, 3, 3, 1, 3]], None),
        (SQUARE, "flat polygon lists"),
        ([[[1, 1], [3, 1], [3, 3], [1, 3]]], "polygons as lists of points"),
        ([[1, 1], [3, 1], [3, 3], [1, 3]], "polygons as lists of points"),
        ([SQUARE, [1, 1, 2, 2]], "polygons of fewer than three corners"),
        ([SQUARE, [0, 0], []], "polygons of fewer than three corners"),
        ({"size": [4, 4], "counts": CODE.decode()}, None),
        ({"size": [4, 4], "counts": CODE}, None),
        ({"size": [4, 4], "counts": RUNS, "area": 4}, None),
        ({"size": [2, 8], "counts": RUNS}, "run lengths of a wrong size"),
        ({"counts": RUNS}, "run lengths without a size"),
        (CODE.decode(), "run lengths without a size"),
        ([{"size": [4, 4], "counts": RUNS}], "lists of run-length masks"),
    ],
)
def test_every_form_gives_the_same_mask(value, repair):
    found, repairs = read(value)
    np.testing.assert_array_equal(found, SQUARE_MASK)
    assert len(repairs) == (repair is not None)
    assert repair is None or repairs[0].startswith(repair)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "is missing"),
        ([], "is an empty list"),
        (7, "is a int"),
        (["a"], "holds a str where a polygon"),
        ([[1, 1, 3, 1, 3]], "5 numbers, which is odd"),
        ([[1, 1, 3, 1, 3, "x"]], "no list of numbers"),
        ([[[1, 1, 9], [3, 1, 9], [3, 3, 9], [1, 3, 9]]], "a point of other than two numbers"),
        ([[True, 1, 3, 1, 3, 3]], "true or false for a number"),
        ([[1, 1, 3, 1, 3, None]], "no list of numbers"),
        ([[1, 1, 3, 1, 3, float("nan")]], "no place in an image"),
        ([[1, 1, 3, 1, 3, float("inf")]], "no place in an image"),
        ([[1, 1, 3, 1, 3, 1e9]], "no place in an image"),
        ([[1, 1, 3, 1, 3, 10**400]], "no list of numbers"),
        ([[-1e5, 1e5, 1e5, -1e5] * 50], "outline of more than 2000000 pixels"),
        ([[[1, 1], 3, 1]], "no list of numbers"),
        ([[1, 1, 2, 2]], "no polygon of three corners"),
        ([SQUARE, 5], "no list of numbers"),
        ({}, "has no 'counts'"),
        ({"size": 5, "counts": RUNS}, "is of size 5, but its image is 4 x 4"),
        ({"size": [4, 4], "counts": [1, 2]}, "runs of 3 pixels"),
    ],
)
def test_what_cannot_be_understood_is_said(value, message):
    with pytest.raises(ValueError, match=message):
        read_mask(value, (4, 4), Counter())


def test_another_size_is_refused_where_no_repairs_are_counted():
    with pytest.raises(ValueError, match="is 2 x 8, but its image is 4 x 4"):
        read_mask({"size": [2, 8], "counts": RUNS}, (4, 4))
    assert read_mask([SQUARE], (4, 4)) == read_mask({"counts": RUNS}, (4, 4))


def test_a_turned_mask_is_refused_not_guessed():
    with pytest.raises(ValueError, match="is 2 x 8, but its image 8 x 2"):
        read_mask({"size": [2, 8], "counts": [16]}, (8, 2), Counter())


def test_polygons_beyond_the_border_are_cut_there():
    found, _ = read([[-9, -9, 9, -9, 9, 9, -9, 9]])
    assert found.all()
    found, _ = read([[2, -5, 9, -5, 9, 2, 2, 2]])
    np.testing.assert_array_equal(found, mask("..##", "..##", "....", "...."))
    found, _ = read([[7, 7, 9, 7, 9, 9]])
    assert not found.any()


def test_one_pixel_and_no_pixel():
    found, _ = read([[2, 1, 3, 1, 3, 2, 2, 2]])
    np.testing.assert_array_equal(found, mask("....", "..#.", "....", "...."))
    found, _ = read([[1, 1, 1, 1, 1, 1]])
    assert not found.any()
    assert not read({"size": [4, 4], "counts": [16]})[0].any()


def test_holes_are_kept_by_runs_and_not_by_polygons():
    ring = mask("####", "#..#", "####")
    rle = coco_mask.encode(np.asfortranarray(ring.view(np.uint8)))
    found, _ = read(rle, (3, 4))
    np.testing.assert_array_equal(found, ring)
    # A COCO polygon list is a union: an inner polygon adds, it does not cut.
    found, _ = read([[0, 0, 4, 0, 4, 3, 0, 3], [1, 1, 3, 1, 3, 2, 1, 2]], (3, 4))
    assert found.all()


@given(st.integers(-3, 12), st.integers(-3, 12), st.integers(1, 9), st.integers(1, 9))
def test_rectangles_are_exact_wherever_they_lie(x, y, width, height):
    corners = [x, y, x + width, y, x + width, y + height, x, y + height]
    found, _ = read([corners], (8, 10))
    wanted = np.zeros((8, 10), bool)
    wanted[max(y, 0) : max(y + height, 0), max(x, 0) : max(x + width, 0)] = True
    np.testing.assert_array_equal(found, wanted)
