"""`ros2 launch` with the installed package; needs a ROS installation with launch."""

from __future__ import annotations

import shutil
import signal
import subprocess
from contextlib import contextmanager

import pytest
import yaml
from running_node import PATIENCE_S

pytest.importorskip("launch_ros", reason="needs launch_ros, which has no wheel")
pytestmark = pytest.mark.skipif(shutil.which("ros2") is None, reason="needs the ros2 command")


@contextmanager
def launched(*arguments: str):
    command = ["ros2", "launch", "amodal_perception", "amodal.launch.py", *arguments]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        try:
            process.communicate(timeout=PATIENCE_S)
        finally:
            process.kill()


def test_launched_node_sees(models, camera):
    with launched("image:=/camera/image", f"model:={models.quick}"):
        camera.publisher().publish(camera.image(5))
        assert len(camera.scene_of(5).instances) == 2


def test_arguments_reach_the_node(models, camera):
    with launched("image:=/camera/image", "image_transport:=compressed", f"model:={models.quick}"):
        camera.publisher("/camera/image/compressed", compressed=True)


def test_params_file_is_read(models, camera, tmp_path):
    given = {"model_file_path": str(models.quick), "score_threshold": 1.0}
    document = {"/**": {"ros__parameters": given}}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(document))
    with launched("image:=/camera/image", f"params_file:={tmp_path / 'mine.yaml'}"):
        camera.publisher().publish(camera.image(6))
        assert len(camera.scene_of(6).instances) == 0


def test_error_is_shown(ros):
    with launched("model:=/nowhere.onnx") as process:
        output, _ = process.communicate(timeout=PATIENCE_S)
    assert "/nowhere.onnx: no such model file" in output
    assert "exit code 1" in output
