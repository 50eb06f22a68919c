"""One node whose camera is wrong in every way: it says what must change, and goes on."""

from __future__ import annotations

import time

import numpy as np
import pytest
from helpers.running_node import node_process

OK, WARN, ERROR, STALE = range(4)


@pytest.fixture(scope="module")
def strict(ros, models):
    """Give a node that wants reliable delivery, and says soon that nothing comes."""
    parameters = f"model_file_path:={models.quick}", "image_reliability:=reliable"
    with node_process(*parameters, "input_timeout:=0.5") as process:
        yield process


def test_says_who_must_come_or_change(strict, camera, monitor):
    monitor.wait_for("input", "nobody publishes /camera/image", level=WARN)
    from sensor_msgs.msg import CompressedImage

    other = camera.node.create_publisher(CompressedImage, "/camera/image", 1)
    wrong_type = "/camera/image is published as sensor_msgs/msg/CompressedImage"
    monitor.wait_for("input", wrong_type, level=ERROR)
    camera.node.destroy_publisher(other)
    other = camera.node.create_publisher(camera.image_type, "/camera/image", camera.best_effort)
    status = monitor.wait_for("input", "QoS mismatch: /camera publishes", level=ERROR)
    assert "set image_reliability to auto" in status.message
    camera.node.destroy_publisher(other)


def test_camera_stops_and_comes_back(strict, camera, monitor):
    publisher = camera.publisher()
    monitor.wait_for("input", "no image for", level=STALE)
    before = len(camera.scenes)
    camera.see(publisher, camera.image(3))
    assert len(camera.scenes) == before + 1  # nothing old was published again

    def is_well():
        publisher.publish(camera.image(int(time.time())))  # older ones would be told
        status = monitor.statuses["input"]
        return status.level[0] == OK and status.message.endswith("images/s")

    camera.spin_until(is_well, "the node to be well")


def test_says_what_cannot_be_decoded(strict, camera, monitor):
    publisher = camera.publisher()

    def is_told():
        publisher.publish(camera.image(5, encoding="fancy12"))
        return "unknown encoding 'fancy12'" in monitor.statuses["input"].message

    camera.spin_until(lambda: "input" in monitor.statuses and is_told(), "the reason")


def test_bytes_that_are_no_message_do_no_harm(strict, camera):
    publisher = camera.publisher()
    from rclpy.serialization import serialize_message

    whole = serialize_message(camera.image(6))
    rng = np.random.default_rng(4)
    for length in (4, 5, 11, 12, 20, 60, len(whole) - 1):
        publisher.publish(whole[:length])
        publisher.publish(whole[:4] + rng.bytes(length))
    camera.see(publisher, camera.image(7))
