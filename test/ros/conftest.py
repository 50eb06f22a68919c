"""Real nodes over real DDS, apart from every other test process on this machine."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest
from helpers.running_node import Camera, Monitor

# One domain per process; a live replay that starts its own node takes one of those above.
os.environ["ROS_DOMAIN_ID"] = str(1 + os.getpid() % 50)
os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"


@pytest.fixture(scope="session")
def ros():
    """Give rclpy, initialised in this process's domain; the test skips without ROS."""
    pytest.importorskip("rclpy", reason="needs ROS 2")
    pytest.importorskip("amodal_perception.msg", reason="needs the built messages (make setup)")
    import rclpy

    rclpy.init(args=[])
    yield rclpy
    rclpy.try_shutdown()


@pytest.fixture
def camera(ros):
    """Give a camera that saw nothing yet."""
    made = Camera(ros)
    yield made
    made.node.destroy_node()


@pytest.fixture
def monitor(camera):
    """Give a reader of the diagnostics."""
    return Monitor(camera)


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """Give tiny model files: two discs in every image, at once, slowly, or as the image says."""
    pytest.importorskip("onnx", reason="needs onnx to write the tests' models")
    from helpers.onnx_models import write_model, write_moody_model

    folder = tmp_path_factory.mktemp("models")
    return SimpleNamespace(
        quick=write_model(folder / "quick.onnx"),
        slow=write_model(folder / "slow.onnx", busy_loops=5),
        moody=write_moody_model(folder / "moody.onnx"),
    )
