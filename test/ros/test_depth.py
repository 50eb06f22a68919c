"""Distance of objects from a depth camera beside the colour camera."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.running_node import node_process

from amodal_perception.conversions.scenes import msg_to_scene


def test_distance_comes_from_the_depth_of_the_same_moment(models, camera, monitor):
    from sensor_msgs.msg import CameraInfo

    from amodal_perception.conversions.images import array_to_message
    from amodal_perception.msg import ObjectExtents

    remap = "image:=/camera/image"
    extents: list = []
    camera.node.create_subscription(
        ObjectExtents, "/amodal_perception/extents", extents.append, camera.reliable
    )
    depths = camera.node.create_publisher(camera.image_type, "/depth", camera.reliable)
    infos = camera.node.create_publisher(CameraInfo, "/camera_info", camera.reliable)
    with node_process(f"model_file_path:={models.quick}", remap=remap):
        publisher = camera.publisher()
        camera.spin_until(
            lambda: depths.get_subscription_count() and infos.get_subscription_count(), "depth"
        )

        def measure(second: int, distance_mm: int):
            """Publish all three; colour first, as drivers do."""
            depth = array_to_message(
                np.full((48, 64), distance_mm, np.uint16),
                "16UC1",
                camera.header(second),
                camera.image_type,
            )
            info = CameraInfo(header=camera.header(second), width=64, height=48)
            info.k[:6] = [100.0, 0.0, 31.5, 0.0, 100.0, 23.5]

            def measured():
                publisher.publish(camera.image(second))
                depths.publish(depth)
                infos.publish(info)
                camera.spin_until(lambda: camera.scenes, "a scene")
                return any(message.header.stamp.sec == second for message in extents)

            camera.scenes.clear()
            camera.spin_until(measured, "extents")
            return next(m for m in extents if m.header.stamp.sec == second)

        for second, distance_mm in ((900, 2000), (5, 1000)):  # time jumps back in between
            message = measure(second, distance_mm)
            assert message.depth_offset_ns == 0
            front, behind = message.extents
            assert front.measured_min.z == pytest.approx(distance_mm * 1e-3)
            assert not front.sides_guessed
            assert behind.sides_guessed
            assert behind.amodal_min.x < behind.measured_min.x
            assert not front.insufficient_depth
            assert not front.truncated
        publisher.publish(camera.image(50))  # without depth
        scene = camera.scene_of(50)
        assert len(msg_to_scene(scene).instances) == 2
        monitor.wait_for_value("processing", "without_depth", lambda n: int(n) > 0)
        assert not any(m.header.stamp.sec == 50 for m in extents)
