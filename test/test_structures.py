import numpy as np
import pytest
from drawing import instances, mask

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
        Instances(
            boxes_xyxy=good.boxes_xyxy,
            scores=good.scores,
            labels=good.labels,
            amodal=good.amodal,
            visible=good.visible[:, :, :1],
            windows_xyxy=good.windows_xyxy,
        )


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
