from dataclasses import replace

import numpy as np
import pytest
from helpers.scenes import instances, mask

from amodal_perception.structures import Frame, Instances


def test_a_frame_refuses_what_is_no_rgb_image():
    with pytest.raises(ValueError, match=r"must be \[\*, \*, 3\] uint8, but is \[4, 5\] uint8"):
        Frame(np.zeros((4, 5), np.uint8))
    with pytest.raises(ValueError, match="float32"):
        Frame(np.zeros((4, 5, 3), np.float32))
    with pytest.raises(ValueError, match="empty"):
        Frame(np.zeros((0, 5, 3), np.uint8))


def test_instances_tell_which_field_has_the_wrong_shape():
    good = instances([mask("##")])
    with pytest.raises(ValueError, match=r"visible must be \[1, 1, 2\] bool"):
        Instances.from_masks(
            boxes_xyxy=good.boxes_xyxy,
            scores=good.scores,
            labels=good.labels,
            amodal=good.amodal,
            visible=good.visible[:, :, :1],
            windows_xyxy=good.windows_xyxy,
        )


@pytest.mark.parametrize(
    ("crop", "message"),
    [
        (mask("#"), r"visible_crops have the shapes \[\(1, 1\)\], but the windows \[\(1, 2\)\]"),
        (np.ones((1, 2), np.uint8), "visible_crops must be bool"),
    ],
)
def test_crops_fill_their_windows(crop, message):
    good = instances([mask("....", ".##.")])
    with pytest.raises(ValueError, match=message):
        replace(good, visible_crops=(crop,))


def test_whole_masks_come_back_as_they_were_cut():
    amodal = [mask(".##.", ".##."), mask("....", "...."), mask("...#", "...#")]
    visible = [mask(".#..", "...."), mask("....", "...."), mask("....", "...#")]
    drawn = instances(amodal, visible)
    assert [crop.shape for crop in drawn.visible_crops] == [(2, 2), (0, 0), (2, 1)]
    np.testing.assert_array_equal(drawn.amodal, amodal)
    np.testing.assert_array_equal(drawn.visible, visible)
    np.testing.assert_array_equal(drawn.hidden_crops[0], mask(".#", "##"))
    assert drawn.occluder is None
    np.testing.assert_array_equal(drawn[np.array([2, 0])].visible, [visible[2], visible[0]])


def test_areas_occlusion_and_selection():
    drawn = instances([mask("####"), mask("##..")], [mask("#..."), mask("##..")], [0.9, 0.5])
    assert drawn.amodal_area_px.tolist() == [4, 2]
    assert drawn.occlusion_rate.tolist() == [0.75, 0.0]
    second = drawn[np.array([False, True])]
    assert second.scores.tolist() == [0.5]
    assert second.amodal_area_px.tolist() == [2]
    assert len(drawn[np.array([], np.int64)]) == 0


def test_truncated_is_touching_any_border():
    inner = mask(".....", ".#...", ".....")
    right = mask(".....", "....#", ".....")
    assert instances([inner, right]).truncated.tolist() == [False, True]
