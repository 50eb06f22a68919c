"""What the diagnostics say, for states that are hard to bring about."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from amodal_perception.ros.diagnostics import (
    CAMERA_INFO,
    DEPTH,
    ERROR,
    OK,
    STALE,
    WARN,
    EngineState,
    InputState,
    Publisher,
    camera_info_status,
    depth_status,
    engine_status,
    input_status,
    processing_status,
)
from amodal_perception.ros.frame_statistics import FrameStatistics
from amodal_perception.runtime import ModelMetadata

IMAGE = "sensor_msgs/msg/Image"
CAMERA = Publisher("/camera", IMAGE, is_reliable=True)
GOOD = InputState(
    lifecycle="active",
    is_enabled=True,
    is_open=True,
    topic="/image",
    type_name=IMAGE,
    is_reliable=True,
    publishers=(CAMERA,),
    unmatched_policy="",
    silent_s=0.03,
    timeout_s=1.0,
)


def report(**events: int):
    """Make a report of events within one second."""
    statistics = FrameStatistics()
    empty = statistics.report()
    counts = Counter(events)
    reasons = {
        "undecodable": "encoding 'x'",
        "failed": "the engine failed",
        "too_old": "3.000 s old by its stamp",
        "depth_unusable": "depth is of another frame",
        "camera_info_unusable": "camera_info is not calibrated",
    }
    return replace(empty, total=counts, recent=counts, period_s=1.0, reasons=reasons)


@pytest.mark.parametrize(
    ("over", "level", "message"),
    [
        ({}, OK, "30.0 images/s"),
        ({"lifecycle": "inactive"}, OK, "the node is inactive"),
        ({"is_enabled": False}, OK, "switched off by ~/enable"),
        ({"is_open": False}, OK, "waiting for a subscriber"),
        ({"publishers": ()}, WARN, "nobody publishes /image"),
        (
            {"publishers": (replace(CAMERA, type_name="sensor_msgs/msg/CompressedImage"),)},
            ERROR,
            "published as sensor_msgs/msg/CompressedImage, but the node reads",
        ),
        (
            {"publishers": (CAMERA, replace(CAMERA, is_reliable=False))},
            ERROR,
            "/camera publishes /image best_effort, but the node asks for reliable",
        ),
        ({"unmatched_policy": "deadline"}, ERROR, "QoS mismatch on /image: deadline"),
        ({"silent_s": 2.5}, STALE, "no image for 2.5 s"),
        ({"silent_s": 2.5, "is_reliable": False}, STALE, "large best_effort images get lost"),
        ({"has_received": False}, WARN, "no image yet, 0.0 s after subscribing"),
    ],
)
def test_input(over, level, message):
    status = input_status(replace(GOOD, **over), report(received=30))
    assert status.level == level
    assert message in status.message


def test_input_that_cannot_be_decoded():
    status = input_status(GOOD, report(received=30, undecodable=2))
    assert (status.level, status.message) == (WARN, "images that cannot be read: encoding 'x'")


def test_input_that_is_too_old_to_be_used():
    status = input_status(GOOD, report(received=30, too_old=2))
    assert status.level == WARN
    assert "older than max_frame_age are dropped: 3.000 s old by its stamp" in status.message


@pytest.mark.parametrize(
    ("age_s", "message"),
    [
        (46_066_060.541, "images are 46066061 s old by their stamps when they arrive; check"),
        (-90.0, "images are stamped 90 s ahead of the clock"),
    ],
)
def test_stamps_that_no_camera_of_now_writes(age_s, message):
    implausible = replace(report(received=30, published=30), arrival_age_s=age_s)
    for status in (input_status(GOOD, implausible), processing_status(implausible)):
        assert status.level == WARN
        assert message in status.message
        assert "use_sim_time" in status.message


DEPTH_GOOD = replace(GOOD, kind=DEPTH, topic="/depth")
ALONE = {"publishers": ()}


@pytest.mark.parametrize(
    ("over", "events", "level", "message"),
    [
        ({}, {"published": 30, "depth_used": 30}, OK, "30.0 images/s have depth"),
        ({"is_open": False}, {}, OK, "nothing that needs depth has a subscriber"),
        (ALONE | {"is_optional": True}, {}, OK, "not used: nobody publishes /depth"),
        (ALONE, {}, WARN, "nobody publishes /depth; remap it: --ros-args -r depth:=TOPIC"),
        ({"type_name": "x"}, {}, ERROR, "see the parameter depth_transport"),
        ({"silent_s": 2.5}, {}, STALE, "no depth image for 2.5 s, although published"),
        ({"has_received": False}, {}, WARN, "no depth image yet"),
        ({}, {"published": 30, "depth_unusable": 9, "depth_used": 21}, WARN, "of another frame"),
        ({}, {"published": 30}, WARN, "depth images come, but no image was given one"),
    ],
)
def test_depth(over, events, level, message):
    status = depth_status(replace(DEPTH_GOOD, **over), report(**events))
    assert (status.name, status.level) == ("depth", level)
    assert message in status.message


@pytest.mark.parametrize(
    ("over", "is_known", "events", "level", "message"),
    [
        ({}, True, {"camera_info_used": 30}, OK, "30.0 images/s were measured with it"),
        ({"is_open": False}, False, {}, OK, "neither ~/extents nor ~/detections_3d"),
        (ALONE, False, {}, WARN, "nobody publishes /camera_info; remap it"),
        (ALONE | {"silent_s": 99.0}, True, {"camera_info_used": 30}, OK, "measured with it"),
        ({"has_received": False}, False, {}, WARN, "no camera_info yet"),
        ({}, True, {"camera_info_unusable": 1}, WARN, "not calibrated"),
    ],
)
def test_camera_info(over, is_known, events, level, message):
    state = replace(GOOD, kind=CAMERA_INFO, topic="/camera_info", **over)
    status = camera_info_status(state, report(**events), is_known=is_known)
    assert (status.name, status.level) == ("camera_info", level)
    assert message in status.message


@pytest.mark.parametrize(
    ("events", "level", "message"),
    [
        ({}, OK, "no image processed yet"),
        ({"received": 30, "published": 30}, OK, "30.0 scenes/s"),
        (
            {"received": 30, "published": 5, "overtaken": 25},
            WARN,
            "overload: 30.0 images/s arrive, 5.0 are processed",
        ),
        ({"received": 2, "published": 1, "failed": 1}, WARN, "images failed: the engine failed"),
    ],
)
def test_processing(events, level, message):
    status = processing_status(report(**events))
    assert status.level == level
    assert message in status.message
    assert status.values["dropped.overtaken"] == events.get("overtaken", 0)


def test_engine():
    model = ModelMetadata("discs", "ab" * 32, ("object",), (288, 384), 32, 28)
    good = EngineState(model, "m.onnx", busy_s=0.1, timeout_s=10.0, failure="")
    status = engine_status(good)
    assert (status.level, status.message) == (OK, "discs@abababababab")
    assert status.values["input_size"] == "384 x 288"
    assert engine_status(replace(good, busy_s=6.0)).level == WARN
    assert engine_status(replace(good, busy_s=6.0, timeout_s=0.0)).level == OK
    assert engine_status(replace(good, model=None)).message == "no model is loaded"
    failed = engine_status(replace(good, model=None, failure="m.onnx: no such model file"))
    assert (failed.level, failed.message) == (ERROR, "m.onnx: no such model file")
