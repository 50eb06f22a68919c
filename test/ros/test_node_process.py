"""Nodes that are started for one test: how they begin, cope and end."""

from __future__ import annotations

import signal
from contextlib import ExitStack

import pytest
from helpers.running_node import PATIENCE_S, node_process

from amodal_perception.ros.exit_codes import PERMANENT


def test_compressed_images_at_the_base_topic_plus_suffix(models, camera):
    with node_process(f"model_file_path:={models.quick}", "image_transport:=compressed"):
        publisher = camera.publisher("/camera/image/compressed", compressed=True)
        cut_short = bytes(camera.compressed(3).data)[:-20]
        publisher.publish(camera.compressed(3, cut_short))
        publisher.publish(camera.compressed(4))
        assert len(camera.scene_of(4).instances) == 2
        assert [scene.header.stamp.sec for scene in camera.scenes] == [4]


def test_overload_keeps_the_newest_frame(models, camera):
    with node_process(f"model_file_path:={models.slow}"):
        publisher = camera.publisher()
        for second in range(1, 41):
            publisher.publish(camera.image(second))
        camera.scene_of(40)
    seen = [scene.header.stamp.sec for scene in camera.scenes]
    assert seen == sorted(set(seen))
    assert len(seen) < 40


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_ends_cleanly_while_it_works(models, camera, stop):
    with node_process(f"model_file_path:={models.slow}") as process:
        publisher = camera.publisher()
        for second in range(1, 6):
            publisher.publish(camera.image(second))
        camera.spin_until(lambda: camera.scenes, "the first scene")
        process.send_signal(stop)
        _, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        (["model_file_path:=/nowhere/m.onnx"], "/nowhere/m.onnx: no such model file"),
        (
            ["scor_threshold:=0.5"],
            "unknown parameter scor_threshold; valid are ",
        ),
        (["score_threshold:=2.0"], "score_threshold is 2.0; it must lie between 0 and 1"),
        (["image_transport:=theora"], "'theora'; valid are raw, compressed"),
        (["num_threads:=two"], "num_threads is 'two', of type str; it must be of type int"),
    ],
)
def test_refuses_to_start(ros, parameters, message):
    with node_process(*parameters) as process:
        _, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == PERMANENT
    (line,) = errors.splitlines()
    assert line.startswith("amodal_node: ")
    assert message in line


def test_refuses_a_file_that_is_no_model(ros, tmp_path):
    (tmp_path / "m.onnx").write_bytes(b"not a model")
    with node_process(f"model_file_path:={tmp_path / 'm.onnx'}") as process:
        _, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == PERMANENT
    assert len(errors.splitlines()) == 1


def test_full_scene_says_that_there_may_be_more(models, camera):
    with node_process(f"model_file_path:={models.quick}", "max_instances:=1"):
        camera.publisher().publish(camera.image(9))
        scene = camera.scene_of(9)
    assert len(scene.instances) == 1
    assert scene.status == scene.INSTANCE_LIMIT_REACHED


def test_whole_number_is_a_float_too(models, camera):
    with node_process(f"model_file_path:={models.quick}", "score_threshold:=1"):
        camera.publisher().publish(camera.image(9))
        assert len(camera.scene_of(9).instances) == 0


def test_two_nodes_in_namespaces_do_not_meet(models, camera):
    with ExitStack() as stack:
        for name in ("left", "right"):
            stack.enter_context(
                node_process(
                    f"model_file_path:={models.quick}", "lazy:=false", remap=f"__ns:=/{name}"
                )
            )
        publisher = camera.node.create_publisher(camera.image_type, "/left/image", 1)
        camera.spin_until(publisher.get_subscription_count, "the left node")
        for name in ("left", "right"):
            topic = f"/{name}/amodal_perception/scene"
            camera.spin_until(lambda topic=topic: camera.node.count_publishers(topic), topic)
        assert not camera.node.count_publishers("/amodal_perception/scene")
