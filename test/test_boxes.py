import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from amodal_perception.boxes import box_area, box_iou, clip_boxes, xywh_to_xyxy, xyxy_to_xywh

BOXES = hnp.arrays(
    np.float32, st.tuples(st.integers(0, 5), st.just(4)), elements=st.integers(-50, 50)
)


def test_iou_of_known_boxes():
    a = np.array([[0, 0, 2, 2]], np.float32)
    b = np.array([[0, 0, 2, 2], [1, 0, 3, 2], [2, 2, 4, 4], [1, 1, 1, 1]], np.float32)
    np.testing.assert_allclose(box_iou(a, b), [[1, 1 / 3, 0, 0]])


@given(BOXES, BOXES)
def test_iou_is_symmetric_and_a_fraction(a, b):
    iou = box_iou(a, b)
    assert iou.shape == (len(a), len(b))
    assert ((iou >= 0) & (iou <= 1)).all()
    np.testing.assert_array_equal(iou, box_iou(b, a).T)


@given(BOXES)
def test_corners_and_sizes_round_trip(boxes):
    np.testing.assert_array_equal(xywh_to_xyxy(xyxy_to_xywh(boxes)), boxes)


@given(BOXES)
def test_clipped_boxes_lie_in_the_image(boxes):
    clipped = clip_boxes(boxes, (20, 30))
    assert ((clipped >= 0) & (clipped <= [30, 20, 30, 20])).all()
    assert (box_area(clipped) <= box_area(boxes)).all()
