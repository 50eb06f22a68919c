"""Cameras as they are: they change, stop, come back, and send what is no image."""

from __future__ import annotations

import numpy as np
from helpers.running_node import node_process

OK = 0
TYPES = {"rgb8": 3, "bgr8": 3, "bgra8": 4, "mono8": 1, "bayer_gbrg8": 1, "yuv422_yuy2": 2}


def publish_and_see(camera, publisher, second: int) -> None:
    """Publish an image once; its scene must come."""
    publisher.publish(camera.image(second))
    camera.scene_of(second)


def test_no_image_is_lost_while_another_publisher_comes_and_goes(models, camera, monitor):
    with node_process(f"model_file_path:={models.quick}"):
        publisher = camera.publisher()
        seconds = iter(range(1, 100_000))

        def asked(reliability: str):
            publish_and_see(camera, publisher, next(seconds))
            status = monitor.statuses.get("input")
            return (
                status
                and {v.key: v.value for v in status.values}["reliability_asked"] == reliability
            )

        camera.spin_until(lambda: asked("reliable"), "reliable delivery")
        other = camera.node.create_publisher(
            camera.image_type, "/camera/image", camera.best_effort
        )
        camera.spin_until(lambda: asked("best_effort"), "best-effort delivery")
        other.publish(camera.image(500_000))
        camera.scene_of(500_000)
        for _ in range(20):
            publish_and_see(camera, publisher, next(seconds))
        camera.node.destroy_publisher(other)
        camera.spin_until(lambda: asked("reliable"), "reliable delivery again")
        last = next(seconds)
        publish_and_see(camera, publisher, last)
    seen = [scene.header.stamp.sec for scene in camera.scenes]
    seen.remove(500_000)
    assert seen == list(range(1, last + 1))  # all of them, and none twice


def test_encoding_and_size_may_change_with_every_image(models, camera):
    with node_process(f"model_file_path:={models.quick}"):
        publisher = camera.publisher()
        rng = np.random.default_rng(3)
        for second in range(1, 25):
            encoding, channels = list(TYPES.items())[second % len(TYPES)]
            height, width = (int(v) * 2 for v in rng.integers(20, 300, 2))
            message = camera.image(second, np.full((height, width, channels), 90, np.uint8))
            message.encoding, message.step = encoding, width * channels
            scene = camera.see(publisher, message)
            assert (scene.image_height, scene.image_width) == (height, width)
            assert scene.instances


def test_camera_is_read_only_while_someone_listens(models, camera, monitor):
    camera.node.destroy_subscription(camera._subscription)
    with node_process(f"model_file_path:={models.quick}"):
        publisher = camera.node.create_publisher(camera.image_type, "/camera/image", 1)
        monitor.wait_for("input", "waiting for a subscriber", level=OK)
        assert publisher.get_subscription_count() == 0
        from sensor_msgs.msg import Image

        listener = camera.node.create_subscription(
            Image, "/amodal_perception/overlay", lambda _: None, 1
        )
        camera.spin_until(publisher.get_subscription_count, "the node to listen")
        camera.node.destroy_subscription(listener)
        camera.spin_until(lambda: not publisher.get_subscription_count(), "the node to sleep")


def test_time_may_jump(models, camera, monitor):
    """Simulated time runs, leaps forward and back, and is impossible for a moment."""
    from builtin_interfaces.msg import Time
    from rosgraph_msgs.msg import Clock

    clock = camera.node.create_publisher(Clock, "/clock", 10)
    parameters = f"model_file_path:={models.quick}", "use_sim_time:=true", "max_frame_age:=5.0"
    with node_process(*parameters) as process:
        publisher = camera.publisher()

        def see_at(now: int):
            def seen():
                clock.publish(Clock(clock=Time(sec=now)))
                publisher.publish(camera.image(now - 1))
                return any(scene.header.stamp.sec == now - 1 for scene in camera.scenes)

            camera.spin_until(seen, f"a scene at {now} s")

        for now in (1000, 100_000, 50, 5000, 51):
            see_at(now)
        clock.publish(Clock(clock=Time(sec=-5)))  # rclpy's own callback raises here
        monitor.wait_for_value("processing", "callback_errors", lambda n: int(n) > 0)
        see_at(7000)

        def too_old():
            publisher.publish(camera.image(6000))
            return int(monitor.values("processing")["dropped.too_old"]) > 0

        camera.spin_until(too_old, "an old image to be dropped")
        assert process.poll() is None
