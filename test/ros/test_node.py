"""One running node, fed and read over DDS."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.running_node import STAGES, node_process

from amodal_perception.conversions.scenes import msg_to_scene


@pytest.fixture(scope="module")
def node(ros, models):
    with node_process(f"model_file_path:={models.quick}") as process:
        yield process


def test_scene_keeps_the_header_and_holds_what_the_model_saw(node, camera):
    message = camera.see(camera.publisher(), camera.image(5))
    assert (message.header.stamp.sec, message.header.stamp.nanosec) == (5, 123456789)
    assert message.header.frame_id == "wrist_camera"
    assert (message.image_width, message.image_height) == (64, 48)
    assert message.model_id.startswith("two_discs@")
    assert list(message.stage_names) == STAGES
    assert all(ms > 0 for ms in message.stage_ms)
    assert message.status == message.OK
    scene = msg_to_scene(message)
    assert len(scene.instances) == 2
    assert scene.graph.edges.tolist() == [[0, 1]]
    assert scene.graph.removal_order.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("encoding", "channels"),
    [("bgr8", 3), ("bgra8", 4), ("mono8", 1), ("bayer_rggb8", 1), ("uyvy", 2)],
)
def test_takes_many_encodings(node, camera, encoding, channels):
    samples = np.full((48, 64, channels), 90, np.uint8)
    data = camera.image(1, samples).data
    image = camera.image(6, encoding=encoding, step=64 * channels, data=data)
    assert len(camera.see(camera.publisher(), image).instances) == 2


def test_outlives_images_that_are_none(node, camera):
    publisher = camera.publisher()
    for broken in (
        {"width": 0},
        {"encoding": "32FC1"},
        {"encoding": "\N{PILE OF POO}"},
        {"step": 1},
        {"height": 2**32 - 1, "width": 2**32 - 1},
    ):
        publisher.publish(camera.image(7, **broken))
        publisher.publish(camera.image(7, data=camera.image(7).data[:100]))
    camera.see(publisher, camera.image(8))
    assert {scene.header.stamp.sec for scene in camera.scenes} == {8}


def test_overlay_is_an_rgb_picture_of_the_same_moment(node, camera):
    overlays: list = []
    camera.node.create_subscription(
        camera.image_type, "/amodal_perception/overlay", overlays.append, camera.reliable
    )
    publisher = camera.publisher()
    camera.spin_until(
        lambda: camera.node.count_publishers("/amodal_perception/overlay"), "the overlay's topic"
    )
    seconds = iter(range(10, 1000))

    def see_another():
        # The node cannot be asked whether it found the listener already.
        publisher.publish(camera.image(next(seconds)))
        camera.spin_until(lambda: camera.scenes, "a scene")
        camera.scenes.clear()
        return overlays

    camera.spin_until(see_another, "an overlay")
    overlay = overlays[0]
    assert (overlay.encoding, overlay.width, overlay.height) == ("rgb8", 64, 48)
    assert (overlay.header.stamp.nanosec, overlay.header.frame_id) == (123456789, "wrist_camera")
    assert len(set(overlay.data)) > 2  # something is drawn on the grey image


def test_best_effort_camera_is_heard(node, camera):
    publisher = camera.node.create_publisher(
        camera.image_type, "/camera/image", camera.best_effort
    )
    seconds = iter(range(10, 1000))

    def heard():
        publisher.publish(camera.image(next(seconds)))
        return camera.scenes

    camera.spin_until(heard, "a scene of a best-effort camera")


def test_thresholds_change_while_it_runs(node, camera):
    publisher = camera.publisher()
    assert camera.set_parameter("score_threshold", 0.99).successful
    assert len(camera.see(publisher, camera.image(20)).instances) == 0
    assert camera.set_parameter("score_threshold", 0.5).successful
    assert len(camera.see(publisher, camera.image(21)).instances) == 2


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("score_threshold", 1.5, "range"),
        ("score_threshold", float("nan"), "score_threshold"),
        ("score_threshold", "much", "type"),
        ("max_instances", 0, "range"),
        ("model_file_path", "other.onnx", "read-only"),
    ],
)
def test_refuses_bad_values_and_lives(node, camera, name, value, reason):
    result = camera.set_parameter(name, value)
    assert not result.successful
    assert reason in result.reason
    assert node.poll() is None
