"""Distance of objects from a depth camera beside the colour camera."""

from __future__ import annotations

import array

import numpy as np
import pytest
from helpers.depth_camera import DepthCamera
from helpers.running_node import node_process

from amodal_perception.conversions.scenes import msg_to_scene

OK, WARN, ERROR, STALE = range(4)


@pytest.fixture
def depth_camera(camera):
    """Give a depth camera that nobody reads yet."""
    return DepthCamera(camera)


def test_distance_comes_from_the_depth_of_the_same_moment(models, camera, depth_camera, monitor):
    depths, infos = depth_camera.depth_publisher(), depth_camera.info_publisher()
    with node_process(f"model_file_path:={models.quick}"):
        publisher = camera.publisher()
        camera.spin_until(
            lambda: depths.get_subscription_count() and infos.get_subscription_count(), "depth"
        )
        for second, distance_m in ((900, 2.0), (5, 1.0)):  # time jumps back in between

            def publish(second=second, distance_m=distance_m):
                """Publish all three; colour first, as drivers do."""
                publisher.publish(camera.image(second))
                depths.publish(depth_camera.depth(second, distance_m))
                infos.publish(depth_camera.info(second))

            message = depth_camera.extents_of(second, publish)
            assert message.depth_offset_ns == 0
            front, behind = message.extents
            assert front.measured_min.z == pytest.approx(distance_m)
            assert not front.sides_guessed
            assert behind.sides_guessed
            assert behind.amodal_min.x < behind.measured_min.x
            assert not front.insufficient_depth
            assert not front.truncated
        publisher.publish(camera.image(50))  # without depth
        scene = camera.scene_of(50)
        assert len(msg_to_scene(scene).instances) == 2
        monitor.wait_for_value("processing", "without_depth", lambda n: int(n) > 0)
        assert not any(m.header.stamp.sec == 50 for m in depth_camera.extents)


def test_latched_camera_info_is_heard_and_kept(models, camera, depth_camera):
    """Some drivers publish camera_info once, before anybody listens, and never again."""
    depths = depth_camera.depth_publisher()
    infos = depth_camera.info_publisher(depth_camera.latched)
    infos.publish(depth_camera.info(1))
    with node_process(f"model_file_path:={models.quick}"):
        publisher = camera.publisher()

        def publish(second: int):
            publisher.publish(camera.image(second))
            depths.publish(depth_camera.depth(second, 1.0))

        depth_camera.extents_of(10, lambda: publish(10))
        depth_camera.stop_listening()
        camera.spin_until(lambda: not infos.get_subscription_count(), "the node to close")
        camera.node.destroy_publisher(infos)  # a driver that ends: only what was kept is left
        depth_camera.listen()
        depth_camera.extents_of(20, lambda: publish(20))


def test_depth_is_bound_when_the_image_is_taken(models, camera, depth_camera):
    """While a slow model works, more depth images come than are kept."""
    depths, infos = depth_camera.depth_publisher(), depth_camera.info_publisher()
    with node_process(f"model_file_path:={models.slow}"):
        publisher = camera.publisher()
        camera.spin_until(
            lambda: depths.get_subscription_count() and infos.get_subscription_count(), "depth"
        )
        seconds = iter(range(10, 10_000, 100))

        def publish():
            second = next(seconds)
            infos.publish(depth_camera.info(second))
            publisher.publish(camera.image(second))
            for later in range(25):
                header = camera.header(second)
                header.stamp.nanosec += later * 33_000_000
                depths.publish(depth_camera.depth(second, 1.0 + later, header))
                camera.wait(0.005)

        def measured():
            publish()
            return depth_camera.extents

        camera.spin_until(measured, "extents")
    front, _ = depth_camera.extents[0].extents
    assert depth_camera.extents[0].depth_offset_ns == 0
    assert front.measured_min.z == pytest.approx(1.0)


def test_says_what_is_wrong_with_depth_and_camera_info(models, camera, depth_camera, monitor):
    depths = depth_camera.depth_publisher("/depth/compressedDepth")
    with node_process(f"model_file_path:={models.quick}"):
        publisher = camera.publisher()
        monitor.wait_for("depth", "nobody publishes /depth; remap it", level=WARN)
        monitor.wait_for("camera_info", "nobody publishes /camera_info; remap it", level=WARN)
        camera.node.destroy_publisher(depths)
        depths = depth_camera.compressed_depth_publisher("/depth")
        wrong_type = "published as sensor_msgs/msg/CompressedImage, but the node reads"
        status = monitor.wait_for("depth", wrong_type, level=ERROR)
        assert "depth_transport" in status.message
        camera.node.destroy_publisher(depths)
        depths = depth_camera.depth_publisher()
        infos = depth_camera.info_publisher()
        monitor.wait_for("depth", "no depth image", level=STALE)
        seconds = iter(range(10, 10_000, 2))

        def publish(status: str, depth=depth_camera.depth, **info):
            """Publish all three until a status is what the caller waits for."""
            second = next(seconds)
            infos.publish(depth_camera.info(second, **info))
            depths.publish(depth(second, 1.0))
            publisher.publish(camera.image(second))
            camera.wait(0.05)
            return monitor.statuses[status]

        def says(status: str, level: int, text: str, **published):
            camera.spin_until(
                lambda: (
                    (said := publish(status, **published)).level[0] == level
                    and text in said.message
                ),
                f"{status}: {text}; it says {monitor.statuses[status].message!r}",
            )

        def of_other_camera(second, distance_m):
            header = camera.header(second)
            header.frame_id = "other_camera"
            return depth_camera.depth(second, distance_m, header)

        def late(second, distance_m):
            header = camera.header(second)
            header.stamp.nanosec += 35_000_000
            return depth_camera.depth(second, distance_m, header)

        says("depth", OK, "images/s have depth")
        says("camera_info", OK, "images/s were measured with it")
        says("depth", WARN, "of the frame 'other_camera'", depth=of_other_camera)
        says("depth", WARN, "the nearest is 35 ms later", depth=late)
        says("camera_info", WARN, "not calibrated", k=[0.0] * 9)
        says("camera_info", WARN, "camera_info is of 32 x 24 pixels", width=32, height=24)
        says("depth", OK, "images/s have depth")


@pytest.mark.parametrize("coder", ["png", "rvl"])
def test_compressed_depth(models, camera, depth_camera, coder):
    depths = depth_camera.compressed_depth_publisher("/depth/compressedDepth")
    infos = depth_camera.info_publisher()
    parameters = f"model_file_path:={models.quick}", "depth_transport:=compressedDepth"
    with node_process(*parameters, "depth_scale:=0.0001"):
        publisher = camera.publisher()

        def publish():
            publisher.publish(camera.image(10))
            infos.publish(depth_camera.info(10))
            depths.publish(depth_camera.compressed_depth(10, 7000, coder))

        front, _ = depth_camera.extents_of(10, publish).extents
    assert front.measured_min.z == pytest.approx(0.7)  # 7000 units of 0.1 mm


def test_image_that_is_rectified_is_measured_by_p(models, camera, depth_camera):
    """K and P differ: K is of the raw image, P of the rectified one."""
    depths, infos = depth_camera.depth_publisher(), depth_camera.info_publisher()
    k = [150.0, 0.0, 31.5, 0.0, 150.0, 23.5, 0.0, 0.0, 1.0]
    p = [100.0, 0.0, 31.5, 0.0, 0.0, 100.0, 23.5, 0.0, 0.0, 0.0, 1.0, 0.0]
    with node_process(f"model_file_path:={models.quick}"):
        publisher = camera.publisher()

        def width_m(second: int, **info) -> float:
            def publish():
                publisher.publish(camera.image(second))
                infos.publish(depth_camera.info(second, k=k, **info))
                depths.publish(depth_camera.depth(second, 1.0))

            front, _ = depth_camera.extents_of(second, publish).extents
            return front.measured_max.x - front.measured_min.x

        by_k, by_p = width_m(10), width_m(20, p=p)
        assert by_p == pytest.approx(1.5 * by_k)
        assert camera.set_parameter("image_geometry", "raw").successful
        assert width_m(30, p=p) == pytest.approx(by_k)


def test_objects_are_ordered_by_depth(models, camera, depth_camera):
    """Nobody listens to extents: the scene alone is reason enough to read depth."""
    depth_camera.stop_listening()
    depths = depth_camera.depth_publisher()
    with node_process(f"model_file_path:={models.quick}"):
        publisher = camera.publisher()
        by_masks = msg_to_scene(camera.see(publisher, camera.image(1)))
        (edge,) = by_masks.graph.edges.tolist()
        front = by_masks.instances.visible[edge[0]]
        seconds = iter(range(10, 10_000))

        def scene_with_depth():
            """Publish depth by which the disc in front is the farther one."""
            second = next(seconds)
            message = depth_camera.depth(second, 0.7)
            samples = np.where(front, 900, 700).astype(np.uint16)
            message.data = array.array("B", samples.tobytes())
            depths.publish(message)
            return camera.see(publisher, camera.image(second))

        camera.spin_until(
            lambda: "depth" in scene_with_depth().stage_names, "a scene that used depth"
        )
        assert msg_to_scene(scene_with_depth()).graph.edges.tolist() == [edge[::-1]]
        assert camera.set_parameter("depth_ordering", False).successful
        by_masks_again = scene_with_depth()
        assert "depth" not in by_masks_again.stage_names
        assert msg_to_scene(by_masks_again).graph.edges.tolist() == [edge]
