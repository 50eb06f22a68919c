import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from amodal_perception.preprocess import PAD_VALUE, letterbox


@pytest.mark.parametrize(
    ("camera_hw", "inside"),
    [
        ((480, 640), (0, 0, 384, 288)),
        ((480, 480), (48, 0, 336, 288)),
        ((200, 800), (0, 96, 384, 192)),
        ((72, 96), (0, 0, 384, 288)),
        ((1, 5000), (0, 143, 384, 144)),
    ],
)
def test_the_image_is_centred_and_keeps_its_aspect(camera_hw, inside):
    image = np.full((*camera_hw, 3), 200, np.uint8)
    batch, view = letterbox(image, (288, 384))
    assert batch.shape == (1, 288, 384, 3)
    x0, y0, x1, y1 = inside
    assert (batch[0, y0:y1, x0:x1] == 200).all()
    outside = np.ones((288, 384), np.bool_)
    outside[y0:y1, x0:x1] = False
    assert (batch[0][outside] == PAD_VALUE).all()
    whole = np.array([[0, 0, camera_hw[1], camera_hw[0]]], np.float32)
    np.testing.assert_allclose(view.boxes_to_input(whole), [inside], atol=1e-3)


def test_an_image_of_the_input_size_is_copied_bit_for_bit():
    image = np.random.default_rng(0).integers(0, 256, (32, 48, 3), np.uint8)
    batch, _ = letterbox(image, (32, 48))
    np.testing.assert_array_equal(batch[0], image)
    assert not np.shares_memory(batch, image)


SIDES = st.integers(1, 300)


@given(SIDES, SIDES, st.lists(st.floats(0, 1), min_size=4, max_size=4))
def test_boxes_come_back_from_the_input(height, width, corner):
    _, view = letterbox(np.zeros((height, width, 3), np.uint8), (64, 96))
    box = np.array([corner], np.float32) * [width, height, width, height]
    back = view.boxes_to_camera(view.boxes_to_input(box.astype(np.float32)))
    np.testing.assert_allclose(back, box, atol=1e-2)
