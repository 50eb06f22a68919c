from __future__ import annotations

from types import SimpleNamespace

import pytest

from amodal_perception.conversions.camera_info import (
    CameraInfoError,
    camera_of_image,
    is_rectified,
)
from amodal_perception.planning.camera_model import Intrinsics

SIZE_HW = 480, 640
RAW_TOPIC = "/camera/image_raw"
PLUMB_BOB = [-0.3, 0.1, 0.001, -0.002, 0.0]


def camera_info(**fields):
    """Make a sensor_msgs/CameraInfo: K has fx 600, P fx 400."""
    roi = {"x_offset": 0, "y_offset": 0, "width": 0, "height": 0}
    roi |= fields.pop("roi", {})
    values = {
        "width": 640,
        "height": 480,
        "distortion_model": "plumb_bob",
        "d": [0.0] * 5,
        "k": [600.0, 0.0, 320.0, 0.0, 610.0, 240.0, 0.0, 0.0, 1.0],
        "p": [400.0, 0.0, 310.0, -40.0, 0.0, 410.0, 230.0, 0.0, 0.0, 0.0, 1.0, 0.0],
        "binning_x": 0,
        "binning_y": 0,
    }
    return SimpleNamespace(**values | fields, roi=SimpleNamespace(**roi))


OF_K = Intrinsics(600.0, 610.0, 320.0, 240.0)
OF_P = Intrinsics(400.0, 410.0, 310.0, 230.0)
OF_K_AND_D = Intrinsics(600.0, 610.0, 320.0, 240.0, tuple(PLUMB_BOB))


@pytest.mark.parametrize(
    ("topic", "rectified"),
    [
        ("/camera/image_rect", True),
        ("/zed/rgb/image_rect_color", True),
        ("/zed/rgb/color/rect/image", True),
        ("/left/rectified/image", True),
        ("/camera/image_raw", False),
        ("/direct/image", False),
        ("/camera/image_unrectified", False),
    ],
)
def test_whether_an_image_is_rectified_is_told_by_its_topic(topic, rectified):
    assert is_rectified(camera_info(d=PLUMB_BOB), topic) is rectified


@pytest.mark.parametrize(
    ("fields", "topic", "geometry", "camera"),
    [
        ({}, RAW_TOPIC, "auto", OF_P),  # a lens that does not distort
        ({"d": []}, RAW_TOPIC, "auto", OF_P),
        ({"d": PLUMB_BOB}, RAW_TOPIC, "auto", OF_K_AND_D),
        ({"d": PLUMB_BOB}, "/camera/image_rect", "auto", OF_P),
        ({"d": PLUMB_BOB}, RAW_TOPIC, "rectified", OF_P),
        ({"d": PLUMB_BOB}, "/camera/image_rect", "raw", OF_K_AND_D),
        ({}, RAW_TOPIC, "raw", OF_K),
        ({"p": [0.0] * 12}, RAW_TOPIC, "auto", OF_K),  # P is not set
        ({"p": [0.0] * 12, "d": PLUMB_BOB}, "/image_rect", "auto", OF_K),
        ({"k": [0.0] * 9, "d": PLUMB_BOB}, RAW_TOPIC, "auto", OF_P),  # K is not set
        (
            {"d": [0.1, 0.2, 0.3, 0.4], "distortion_model": "equidistant"},
            RAW_TOPIC,
            "auto",
            Intrinsics(600.0, 610.0, 320.0, 240.0, (0.1, 0.2, 0.3, 0.4), is_fisheye=True),
        ),
    ],
)
def test_p_where_it_is_rectified_else_k_and_d(fields, topic, geometry, camera):
    assert camera_of_image(camera_info(**fields), SIZE_HW, topic, geometry) == camera


def test_binned_images():
    """Of 640 x 480 pixels, four make one: the middle of pixels 0 and 1 is the new 0."""
    info = camera_info(binning_x=2, binning_y=2)
    camera = camera_of_image(info, (240, 320), RAW_TOPIC)
    assert camera == Intrinsics(200.0, 205.0, (310 + 0.5) / 2 - 0.5, (230 + 0.5) / 2 - 0.5)


def test_part_of_the_sensor():
    info = camera_info(roi={"x_offset": 100, "y_offset": 60, "width": 320, "height": 240})
    camera = camera_of_image(info, (240, 320), RAW_TOPIC)
    assert camera == Intrinsics(400.0, 410.0, 210.0, 170.0)
    info.binning_x = info.binning_y = 2
    camera = camera_of_image(info, (120, 160), RAW_TOPIC)
    assert camera == Intrinsics(200.0, 205.0, 104.75, 84.75)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"k": [0.0] * 9, "p": [0.0] * 12}, "not calibrated: fx 0 in K and 0 in P"),
        ({"k": [float("nan")] * 9, "p": [float("inf")] * 12}, "not calibrated"),
        ({"width": 320}, "camera_info is of 320 x 480 pixels, the image of 640 x 480"),
        ({"binning_x": 2}, "of 320 x 480 pixels \\(640 x 480, binning 2 x 1\\), the image"),
        ({"roi": {"width": 64, "height": 48}}, "64 x 48 pixels \\(640 x 480, roi 64 x 48\\)"),
        (
            {"d": [0.1] * 5, "distortion_model": "cubist"},
            "distortion model 'cubist'; known are plumb_bob",
        ),
        ({"d": [0.1] * 3}, "3 coefficients of distortion"),
        ({"d": [float("nan")] * 5}, "5 coefficients of distortion or ones that are no numbers"),
    ],
)
def test_refuses_what_says_nothing(fields, message):
    with pytest.raises(CameraInfoError, match=message):
        camera_of_image(camera_info(**fields), SIZE_HW, RAW_TOPIC)
