import cv2
import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from training.models.bcnet.contours import contours


def test_contour_of_a_square_by_hand():
    mask = torch.zeros(1, 6, 6)
    mask[0, 2:4, 2:4] = 1  # no cell of it survives the erosion
    expected = [
        [0, 0, 0, 0, 0, 0],
        [0, 0, 1, 1, 0, 0],
        [0, 1, 1, 1, 1, 0],
        [0, 1, 1, 1, 1, 0],
        [0, 0, 1, 1, 0, 0],
        [0, 0, 0, 0, 0, 0],
    ]
    assert contours(mask)[0].tolist() == expected


def test_crop_that_ends_is_no_contour():
    mask = torch.zeros(1, 4, 4)
    mask[0, :, :2] = 1
    assert contours(mask)[0].tolist() == [[0, 1, 1, 0]] * 4
    assert contours(torch.ones(1, 4, 4)).sum() == contours(torch.zeros(1, 4, 4)).sum() == 0


@given(st.integers(0, 2**32 - 1))
def test_contour_is_dilation_xor_erosion(seed):
    mask = (np.random.default_rng(seed).random((28, 28)) < 0.7).astype(np.uint8)
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    expected = cv2.dilate(mask, cross) ^ cv2.erode(mask, cross)
    found = contours(torch.from_numpy(mask)[None].float())[0]
    assert np.array_equal(found.numpy(), expected)
