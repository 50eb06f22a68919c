"""Cameras as they are: they change, stop, come back, and send what is no image."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.running_node import PATIENCE_S, node_process

from amodal_perception.conversions.scenes import msg_to_scene

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
            assert not front.starved
            assert not front.truncated
        publisher.publish(camera.image(50))  # without depth
        scene = camera.scene_of(50)
        assert len(msg_to_scene(scene).instances) == 2
        monitor.wait_for_value("processing", "without_depth", lambda n: int(n) > 0)
        assert not any(m.header.stamp.sec == 50 for m in extents)


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


def test_parameters_answer_while_the_engine_is_busy(models, camera, monitor):
    from helpers.onnx_models import ENDLESS

    with node_process(f"model_file_path:={models.moody}") as process:
        camera.publisher().publish(camera.image(5, np.full((48, 64, 3), ENDLESS, np.uint8)))
        monitor.wait_for_value("engine", "busy_s", lambda seconds: float(seconds) > 0)
        assert camera.set_parameter("score_threshold", 0.6).successful
        assert process.poll() is None
    assert process.wait(PATIENCE_S) == 0
