"""What may go wrong while the node runs, and what it does then."""

from __future__ import annotations

import hashlib
import signal

import numpy as np
import pytest
from helpers.running_node import PATIENCE_S, end, node_process

from amodal_perception.ros.exit_codes import PERMANENT

ERROR = 2


def mood(camera, second: int, brightest: int):
    return camera.image(second, np.full((48, 64, 3), brightest, np.uint8))


def test_engine_that_fails_or_lacks_memory_is_used_again(models, camera, monitor):
    from helpers.onnx_models import BROKEN, CALM, HUNGRY

    with node_process(f"model_file_path:={models.moody}") as process:
        publisher = camera.publisher()
        for second, trouble in ((1, BROKEN), (2, HUNGRY), (3, HUNGRY)):
            publisher.publish(mood(camera, second, trouble))
            monitor.wait_for_value("processing", "dropped.failed", lambda n, i=second: n == str(i))
            monitor.wait_for("engine", "the engine failed: ", level=ERROR)
            camera.see(publisher, mood(camera, 10 + second, CALM))
        monitor.wait_for("engine", "two_discs@", level=0)
        assert process.poll() is None


def test_engine_that_is_lost_ends_the_node(models, camera, monitor):
    from helpers.onnx_models import BROKEN

    with node_process(f"model_file_path:={models.moody}") as process:
        publisher = camera.publisher()
        monitor.wait_for("input", "")

        def has_ended():
            publisher.publish(mood(camera, 5, BROKEN))
            return process.poll() is not None

        camera.spin_until(has_ended, "the node to end")
        errors = end(process)
    assert process.returncode == 1
    assert "3 times in a row" in errors
    assert "Traceback" not in errors
    monitor.wait_for("engine", "times in a row", level=ERROR)


def test_engine_that_hangs_ends_the_node(models, camera, monitor):
    from helpers.onnx_models import ENDLESS

    with node_process(f"model_file_path:={models.moody}", "engine_timeout:=1.0") as process:
        publisher = camera.publisher()
        publisher.publish(mood(camera, 5, ENDLESS))
        camera.spin_until(lambda: process.poll() is not None, "the node to end")
        errors = end(process)
    assert process.returncode == 1
    assert "busy with one image for 1.0 s" in errors


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_ends_while_the_engine_is_busy_for_a_minute(models, camera, monitor, stop):
    from helpers.onnx_models import ENDLESS

    with node_process(f"model_file_path:={models.moody}", "engine_timeout:=0.0") as process:
        camera.publisher().publish(mood(camera, 5, ENDLESS))
        monitor.wait_for_value("engine", "busy_s", lambda seconds: float(seconds) > 0)
        process.send_signal(stop)
        _, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0
    assert "Traceback" not in errors


def test_comes_back_after_being_killed(models, camera):
    for second in (1, 2):
        with node_process(f"model_file_path:={models.quick}") as process:
            camera.see(camera.publisher(), camera.image(second))
            process.kill()
            process.wait(PATIENCE_S)


def test_storm_of_subscribers(models, camera):
    from sensor_msgs.msg import Image

    from amodal_perception.msg import AmodalScene

    with node_process(f"model_file_path:={models.quick}", "overlay_rate:=0.0") as process:
        publisher = camera.publisher()
        for round_ in range(5):
            subscriptions = [
                camera.node.create_subscription(
                    message_type, f"/amodal_perception/{topic}", lambda _: None, 1
                )
                for topic, message_type in (
                    ("scene", AmodalScene),
                    ("overlay", Image),
                    ("visible_labels", Image),
                )
                for _ in range(8)
            ]
            camera.see(publisher, camera.image(10 + round_))
            for subscription in subscriptions:
                camera.node.destroy_subscription(subscription)
        camera.see(publisher, camera.image(20))
        assert process.poll() is None


def test_only_listed_models_are_loaded(models, camera):
    digest = hashlib.sha256(models.quick.read_bytes()).hexdigest()
    listed = f"allowed_model_sha256:='{'0' * 64},{digest}'"
    with node_process(f"model_file_path:={models.quick}", listed):
        camera.see(camera.publisher(), camera.image(1))
    with node_process(f"model_file_path:={models.slow}", listed) as process:
        _, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == PERMANENT
    assert "allowed_model_sha256 does not list" in errors


@pytest.mark.parametrize("location", ["weights.bin", "../weights.bin"])
def test_models_that_read_other_files_are_refused(models, tmp_path, location):
    import onnx

    model = onnx.load(models.quick)
    tensor = next(t for t in model.graph.initializer if t.name == "fixed_amodal")
    (tmp_path / "inside").mkdir()
    for folder in (tmp_path, tmp_path / "inside"):
        (folder / "weights.bin").write_bytes(tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    path = tmp_path / "inside" / "m.onnx"
    path.write_bytes(model.SerializeToString())
    with node_process(f"model_file_path:={path}") as process:
        _, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == PERMANENT
    assert f"{path}: is no usable ONNX model" in errors


def test_ends_while_the_model_is_loaded(models):
    """Interrupted at any moment of its start, the node ends at once and well."""
    import time

    for wait_s in (0.2, 0.6, 1.0, 1.4):
        with node_process(f"model_file_path:={models.slow}") as process:
            time.sleep(wait_s)
            process.send_signal(signal.SIGTERM)
            _, errors = process.communicate(timeout=PATIENCE_S)
        assert process.returncode in (0, -signal.SIGTERM), errors
        assert "Traceback" not in errors


def test_pickles_are_never_loaded(ros, tmp_path):
    (tmp_path / "m.pt").write_bytes(b"\x80\x04.")
    with node_process(f"model_file_path:={tmp_path / 'm.pt'}") as process:
        _, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == PERMANENT
    assert "no engine for '.pt' files" in errors


def test_parameters_answer_while_the_engine_is_busy(models, camera, monitor):
    from helpers.onnx_models import ENDLESS

    with node_process(f"model_file_path:={models.moody}") as process:
        camera.publisher().publish(camera.image(5, np.full((48, 64, 3), ENDLESS, np.uint8)))
        monitor.wait_for_value("engine", "busy_s", lambda seconds: float(seconds) > 0)
        assert camera.set_parameter("score_threshold", 0.6).successful
        assert process.poll() is None
    assert process.wait(PATIENCE_S) == 0
