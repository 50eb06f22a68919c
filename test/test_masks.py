import numpy as np
import pytest
from helpers.scenes import mask
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from amodal_perception.masks import (
    box_windows,
    encode_row_major_rle,
    encode_row_major_rles,
    mask_windows,
    resample_to_windows,
    resize_crop,
)
from amodal_perception.planning.planner_inputs import decode_runs

MASKS = hnp.arrays(np.bool_, st.tuples(st.integers(0, 9), st.integers(0, 9)))


@pytest.mark.parametrize(
    ("drawn", "counts"),
    [
        (mask("....", "...."), [8]),
        (mask("####"), [0, 4]),
        (mask(".##.", "#..."), [1, 2, 1, 1, 3]),
    ],
)
def test_rle_counts_runs_row_by_row_and_starts_with_zeros(drawn, counts):
    assert encode_row_major_rle(drawn).tolist() == counts
    assert (decode_runs(np.array(counts, np.uint32), drawn.shape) == drawn).all()


@given(MASKS)
def test_rle_round_trip(drawn):
    counts = encode_row_major_rle(drawn)
    assert counts.sum() == drawn.size
    assert (counts[1:] > 0).all()
    assert (decode_runs(counts, drawn.shape) == drawn).all()


@given(st.lists(MASKS, max_size=5))
def test_rle_of_many_masks_is_that_of_each(masks):
    together = encode_row_major_rles(masks)
    assert len(together) == len(masks)
    for drawn, counts in zip(masks, together):
        assert counts.dtype == np.uint32
        assert counts.tolist() == runs_by_loop(drawn)


def runs_by_loop(drawn):
    runs = [0] if drawn.size else []
    value = False
    for pixel in drawn.reshape(-1):
        if pixel == value:
            runs[-1] += 1
        else:
            value = not value
            runs.append(1)
    return runs


@given(hnp.arrays(np.bool_, st.tuples(st.integers(0, 4), st.integers(1, 8), st.integers(1, 8))))
def test_windows_are_tight(masks):
    for drawn, (x0, y0, x1, y1) in zip(masks, mask_windows(masks)):
        assert drawn.sum() == drawn[y0:y1, x0:x1].sum()
        if drawn.any():
            inside = drawn[y0:y1, x0:x1]
            assert inside[0].any()
            assert inside[-1].any()
            assert inside[:, 0].any()
            assert inside[:, -1].any()
        else:
            assert (x0, y0, x1, y1) == (0, 0, 0, 0)


def test_windows_of_crops_lie_in_the_image():
    crops = [mask("...", ".##"), mask("...."), np.zeros((0, 3), np.bool_)]
    corners = np.array([[10, 20], [30, 40], [50, 60]], np.int32)
    expected = [[11, 21, 13, 22], [30, 40, 30, 40], [50, 60, 50, 60]]
    assert mask_windows(crops, corners).tolist() == expected


@pytest.mark.parametrize(
    ("box", "window"),
    [
        ([0, 0, 4, 4], [0, 0, 4, 4]),
        ([0.5, 0.5, 2.5, 2.5], [0, 0, 2, 2]),
        ([0.6, 0.6, 2.6, 2.6], [1, 1, 3, 3]),
        ([-3, -3, 99, 99], [0, 0, 8, 6]),
        ([5, 5, 2, 2], [5, 5, 5, 5]),
        ([20, 20, 30, 30], [8, 6, 8, 6]),
    ],
)
def test_box_windows_hold_the_pixels_whose_centres_are_inside(box, window):
    assert box_windows(np.array([box], np.float32), (6, 8)).tolist() == [window]


def paste(crop, box, window):
    """Resample one grid [m, m] into a window."""
    fitted = resample_to_windows(
        crop[None, None], np.array([box], np.float32), np.array([window], np.int32)
    )
    (pasted,) = resize_crop(fitted[0], np.array(window))
    return pasted


def test_resampling_a_grid_onto_its_own_pixels_changes_nothing():
    crop = np.random.default_rng(0).random((5, 5), np.float32)
    np.testing.assert_allclose(paste(crop, [2, 3, 7, 8], [2, 3, 7, 8]), crop, atol=1e-6)


def test_resampling_follows_a_ramp_and_holds_the_border():
    ramp = np.tile((np.arange(4, dtype=np.float32) + 0.5) / 4, (4, 1))
    wide = paste(ramp, [0, 0, 16, 8], [0, 0, 16, 8])
    assert wide.shape == (8, 16)
    np.testing.assert_allclose(wide[0, 2:14], (np.arange(2, 14) + 0.5) / 16, atol=1e-6)
    np.testing.assert_allclose(wide[:, :2], 0.125)
    np.testing.assert_allclose(wide[:, 14:], 0.875)


@pytest.mark.parametrize("shift", [-0.4, 0.3])
def test_a_box_between_pixels_is_not_moved_to_whole_ones(shift):
    ramp = np.tile((np.arange(28, dtype=np.float32) + 0.5) / 28, (28, 1))
    box = [10 + shift, 10, 66 + shift, 66]
    pasted = paste(ramp, box, [10, 10, 66, 66])
    expected = (np.arange(10, 66) + 0.5 - box[0]) / 56
    np.testing.assert_allclose(pasted[20, 4:-4], expected[4:-4], atol=1e-3)


def test_a_box_that_leaves_the_image_keeps_its_scale():
    ramp = np.tile((np.arange(28, dtype=np.float32) + 0.5) / 28, (28, 1))
    pasted = paste(ramp, [-28, 0, 28, 56], [0, 0, 28, 56])
    np.testing.assert_allclose(pasted[5, 2:-2], (np.arange(2, 26) + 28.5) / 56, atol=1e-3)
