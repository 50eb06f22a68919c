"""What the node publishes beside the scene: label images, and detections for vision_msgs."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.running_node import node_process

from amodal_perception.conversions.scenes import msg_to_scene


def test_labels_are_the_instances_in_view(models, camera):
    from sensor_msgs.msg import Image

    labels: list = []
    camera.node.create_subscription(
        Image, "/amodal_perception/visible_labels", labels.append, camera.reliable
    )
    with node_process(f"model_file_path:={models.quick}"):
        publisher = camera.publisher()

        def seen():
            publisher.publish(camera.image(3))
            return any(message.header.stamp.sec == 3 for message in labels)

        camera.spin_until(seen, "labels")
        scene = msg_to_scene(camera.scene_of(3))
    message = next(message for message in labels if message.header.stamp.sec == 3)
    assert (message.encoding, message.width, message.height) == ("mono16", 64, 48)
    pixels = np.frombuffer(message.data, "<u2").reshape(48, 64)
    for i in range(2):
        assert np.array_equal(pixels == i + 1, scene.instances.visible[i])


def test_detections_are_the_visible_boxes(models, camera):
    vision = pytest.importorskip("vision_msgs.msg", reason="needs vision_msgs, which has no wheel")
    from rclpy.qos import DurabilityPolicy, QoSProfile

    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    detections, infos = [], []
    for topic, message_type, into, qos in (
        ("detections", vision.Detection2DArray, detections, camera.reliable),
        ("label_info", vision.LabelInfo, infos, latched),
    ):
        camera.node.create_subscription(
            message_type, f"/amodal_perception/{topic}", into.append, qos
        )
    with node_process(f"model_file_path:={models.quick}"):
        publisher = camera.publisher()

        def seen():
            publisher.publish(camera.image(3))
            return infos and any(message.header.stamp.sec == 3 for message in detections)

        camera.spin_until(seen, "detections")
        scene = camera.scene_of(3)
    assert infos[0].class_map[0].class_name == "object"
    message = next(message for message in detections if message.header.stamp.sec == 3)
    assert len(message.detections) == len(scene.instances)
    for instance, detection in zip(scene.instances, message.detections):
        mask = instance.visible
        assert detection.bbox.size_x == mask.width
        assert detection.bbox.center.position.y == mask.y + mask.height / 2
        assert detection.results[0].hypothesis.class_id == "object"
        assert detection.id == (instance.track_id or str(instance.instance_id))
