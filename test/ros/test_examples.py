"""The example clients, each a process of its own, with the node and the bag of the package."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.paths import ROOT, SAMPLE_BAG
from helpers.running_node import PATIENCE_S, node_process

BUILT = ROOT / "install/amodal_perception/lib/amodal_perception/planner_client"
TOPIC = "/camera/color/image_raw/compressed"

CLIENTS = {
    "python": [sys.executable, ROOT / "examples/planner_client.py"],
    "cpp": [BUILT],
}


@pytest.fixture(scope="module")
def images():
    """Read some pictures of the bag as they were on the wire."""
    highlevel = pytest.importorskip("rosbags.highlevel", reason="needs rosbags")
    from rosbags.typesys import Stores, get_typestore

    store = get_typestore(Stores.ROS2_JAZZY)
    with highlevel.AnyReader([SAMPLE_BAG], default_typestore=store) as reader:
        connections = [c for c in reader.connections if c.topic == TOPIC]
        return [bytes(cdr) for _, _, cdr in reader.messages(connections)]


@pytest.fixture(scope="module")
def node(ros):
    with node_process(
        "image_transport:=compressed", remap="image:=/camera/color/image_raw"
    ) as run:
        yield run


@pytest.mark.parametrize("language", CLIENTS)
def test_client_prints_a_plan_for_the_most_hidden_object(node, camera, images, language):
    command = CLIENTS[language]
    if not Path(command[-1]).exists():
        pytest.skip("needs rclcpp: the C++ example was not built")
    publisher = camera.node.create_publisher(camera.compressed_type, TOPIC, camera.reliable)
    client = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        sent = 0

        def ended():
            nonlocal sent
            publisher.publish(images[sent % len(images)])
            sent += 1
            return client.poll() is not None

        camera.spin_until(ended, "the client to end")
        said, errors = client.communicate(timeout=PATIENCE_S)
    finally:
        client.kill()
    assert client.returncode == 0, errors
    lines = said.splitlines()
    assert re.fullmatch(r"scene 17500000\d\d\.\d{9}: \d+ objects", lines[0])
    target = re.match(r"target: object (\d+) \(track \w{4}-\d+\), \d+% hidden, seen", lines[1])
    steps = [line for line in lines if re.match(r"\d+\. ", line)]
    assert [int(step.split(".")[0]) for step in steps] == list(range(1, len(steps) + 1))
    assert steps[-1] == f"{len(steps)}. lift object {target.group(1)}"
    reasons = [line for line in lines if line.startswith(("because ", "uncertain, "))]
    assert reasons, "something hides the target"


def test_client_that_hears_nothing_says_so(ros):
    done = subprocess.run(
        [*CLIENTS["python"], "--node", "/nobody", "--timeout", "0.5"],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 1
    assert done.stderr == "planner_client: /nobody/scene: no scene within 0.5 s\n"
