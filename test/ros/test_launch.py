"""`ros2 launch` with the installed package; needs a ROS installation with launch."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from helpers.running_node import PATIENCE_S

pytest.importorskip("launch_ros", reason="needs launch_ros, which has no wheel")
pytestmark = pytest.mark.skipif(shutil.which("ros2") is None, reason="needs the ros2 command")


class Launched:
    """A running `ros2 launch` and what it has said so far."""

    def __init__(self, *arguments: str, file: str = "amodal.launch.py") -> None:
        self.process = subprocess.Popen(
            ["ros2", "launch", "amodal_perception", file, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        self.said: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def wait_for(self, *texts: str) -> None:
        """Wait until it has said all of the texts."""
        deadline = time.monotonic() + PATIENCE_S
        while not all(any(text in line for line in self.said) for text in texts):
            assert time.monotonic() < deadline, f"did not say {texts}: {''.join(self.said)}"
            time.sleep(0.05)

    def wait_for_count(self, text: str, count: int) -> None:
        """Wait until it has said a text so many times."""
        deadline = time.monotonic() + PATIENCE_S
        while sum(text in line for line in self.said) < count:
            assert time.monotonic() < deadline, f"not {count} times {text}: {''.join(self.said)}"
            time.sleep(0.05)

    def wait(self) -> str:
        """Wait until it has ended; return all it said."""
        self.process.wait(PATIENCE_S)
        self._reader.join(PATIENCE_S)
        return "".join(self.said)

    def _read(self) -> None:
        for line in self.process.stdout:
            self.said.append(line)


@contextmanager
def launched(*arguments: str, file: str = "amodal.launch.py"):
    run = Launched(*arguments, file=file)
    try:
        yield run
    finally:
        if run.process.poll() is None:
            run.process.send_signal(signal.SIGINT)
        try:
            run.process.wait(PATIENCE_S)
        finally:
            run.process.kill()


def test_launched_node_sees(models, camera):
    with launched("image:=/camera/image", f"model:={models.quick}"):
        camera.publisher()
        assert len(camera.see(camera.publisher(), camera.image(5)).instances) == 2


def test_compressed_topic_is_read_as_compressed(models, camera):
    with launched("image:=/camera/image/compressed", f"model:={models.quick}"):
        camera.publisher("/camera/image/compressed", compressed=True)


def test_params_file_is_read(models, camera, tmp_path):
    given = {"model_file_path": str(models.quick), "score_threshold": 1.0}
    document = {"/**": {"ros__parameters": given}}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(document))
    with launched("image:=/camera/image", f"params_file:={tmp_path / 'mine.yaml'}"):
        assert len(camera.see(camera.publisher(), camera.image(6)).instances) == 0


def test_every_camera_of_the_list_gets_a_node_in_its_namespace(models, tmp_path):
    cameras = [
        {"name": "left", "image": "/left/image_raw"},
        {"name": "right", "image": "/right/image_raw/compressed", "depth": "/right/depth"},
    ]
    (tmp_path / "cameras.yaml").write_text(yaml.safe_dump(cameras))
    for given in (str(tmp_path / "cameras.yaml"), yaml.safe_dump(cameras, width=1000)):
        with launched(f"cameras:={given}", "namespace:=arm", f"model:={models.quick}") as run:
            run.wait_for(
                "[arm.left.amodal_perception]: model two_discs",
                "read from /left/image_raw (raw)",
                "[arm.right.amodal_perception]: model two_discs",
                "read from /right/image_raw/compressed (compressed)",
            )


@pytest.mark.parametrize(
    ("cameras", "message"),
    [
        ("/nowhere.yaml", "cameras: /nowhere.yaml: no such file"),
        ("{name: a}", "cameras: is no list"),
        ("[{name: a}]", "cameras, entry 1: has no 'image'"),
        ("[{name: a, image: b, dept: c}]", "unknown dept; valid: name, image, depth"),
        ("[{name: a, image: b}, {name: a, image: c}]", "a name occurs twice"),
    ],
)
def test_wrong_list_is_refused_with_the_reason(cameras, message):
    with launched(f"cameras:={cameras}") as run:
        assert message in run.wait()


def kill_node(run: Launched, times_started: int) -> None:
    """Wait until the node has been started so many times, and kill it."""
    run.wait_for_count("process started with pid", times_started)
    line = [line for line in run.said if "process started with pid" in line][times_started - 1]
    os.kill(int(line.split("[")[-1].rstrip("]\n")), signal.SIGKILL)


def test_failed_node_is_started_again_after_growing_delays(ros, models):
    with launched(f"model:={models.quick}") as run:
        for times, delay_s in enumerate((1, 2, 4), 1):
            kill_node(run, times)
            run.wait_for(f"ended with exit code -9; again in {delay_s} s")


def test_a_permanent_mistake_is_not_started_again(ros, tmp_path):
    document = {"/**": {"ros__parameters": {"scor_threshold": 0.5}}}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(document))
    with launched(f"params_file:={tmp_path / 'mine.yaml'}") as run:
        said = run.wait()
    assert "unknown parameter scor_threshold; valid are" in said
    assert "ended with exit code 78: its last line says what to mend" in said
    assert "again in" not in said
    assert said.count("process started with pid") == 1


def test_killed_node_is_started_again_and_sees(models, camera):
    with launched("image:=/camera/image", f"model:={models.quick}") as run:
        camera.see(camera.publisher(), camera.image(5))
        kill_node(run, 1)
        run.wait_for("ended with exit code -9; again in 1 s")
        camera.see(camera.publisher(), camera.image(6))


def test_without_respawn_the_error_is_the_end(ros, models):
    with launched(f"model:={models.quick}", "respawn:=no") as run:
        kill_node(run, 1)
        said = run.wait()
    assert "exit code -9" in said
    assert "again in" not in said


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("model:=/nowhere.onnx", "model: /nowhere.onnx: no such file"),
        ("model:=~/no/such.onnx", f"model: {Path.home()}/no/such.onnx: no such file"),
        ("model:=/etc/hostname", "model: /etc/hostname: ends in none of .onnx, .engine"),
        ("params_file:=/nowhere.yaml", "params_file: /nowhere.yaml: no such file"),
        ("respawn:=maybe", "respawn: 'maybe' is neither true nor false"),
        ("use_sim_time:=2", "use_sim_time: '2' is neither true nor false"),
        ("log_level:=loud", "log_level: 'loud' is none of debug, info"),
        ("image:=/camera/color image", "image: '/camera/color image' is no ROS name"),
        ("depth:=1/depth", "depth: '1/depth' is no ROS name"),
        ("namespace:=arm//left", "namespace: 'arm//left' is no ROS name"),
        ("cameras:=~/none.yaml", f"cameras: {Path.home()}/none.yaml: no such file"),
    ],
)
def test_a_wrong_argument_is_refused_before_anything_starts(argument, message):
    with launched(argument) as run:
        said = run.wait()
    assert message in said
    assert "process started" not in said
    assert run.process.returncode == 1


def test_replay_sees_the_bag_of_the_package(ros, camera):
    listed = subprocess.run(["ros2", "bag", "--help"], capture_output=True, check=False)
    if listed.returncode != 0:
        pytest.skip("needs `ros2 bag`")
    with launched("rviz:=false", file="replay.launch.py") as run:
        camera.spin_until(lambda: camera.scenes, "a scene of the bag")
        assert camera.scenes[0].header.frame_id == "camera_color_optical_frame"
        assert "process has finished cleanly" in run.wait()


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("bag:=/nowhere", "bag: /nowhere: no such file or folder"),
        ("bag:=~/none", f"bag: {Path.home()}/none: no such file or folder"),
        ("bag:=/tmp", "image: say which topic of the bag to read"),
        ("rate:=fast", "rate: 'fast' is no number above 0"),
        ("rate:=-1", "rate: '-1' is no number above 0"),
        ("loop:=maybe", "loop: 'maybe' is neither true nor false"),
        ("rviz:=maybe", "rviz: 'maybe' is neither true nor false"),
    ],
)
def test_replay_without_a_bag_is_refused(argument, message):
    with launched(argument, file="replay.launch.py") as run:
        assert message in run.wait()


def test_replay_whose_player_dies_is_a_failure(ros):
    listed = subprocess.run(["ros2", "bag", "--help"], capture_output=True, check=False)
    # Without `ros2 bag` there is no player; with it, a folder that is no bag ends it at once.
    argument = ["bag:=/tmp", "image:=/camera/image"] if listed.returncode == 0 else []
    with launched("rviz:=false", *argument, file="replay.launch.py") as run:
        said = run.wait()
    assert "the bag was not played to its end" in said
    assert "the bag is over" not in said
    assert run.process.returncode == 1


def test_replay_without_rviz_says_so_before_it_starts_anything():
    if shutil.which("rviz2"):
        pytest.skip("RViz is installed")
    with launched(file="replay.launch.py") as run:
        said = run.wait()
    assert "RViz is not installed; leave it out: rviz:=false" in said
    assert "process started" not in said
