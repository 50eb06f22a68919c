"""The SROS2 policy allows what the node really uses, and nothing else."""

from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as ET

import pytest
from helpers.paths import ROOT
from helpers.running_node import end

POLICY = ROOT / "config/amodal_perception.policy.xml"
NODE = "amodal_perception"
# Only where vision_msgs is installed.
VISION = {f"/{NODE}/{name}" for name in ("detections", "detections_3d", "label_info")}


def allowed(enclave: str, kind: str, how: str) -> set[str]:
    """Read the full names that an enclave may use in some way."""
    profile = ET.parse(POLICY).find(f".//enclave[@path='{enclave}']/profiles/profile")
    own = f"/{profile.get('node')}/"
    return {
        item.text.replace("~/", own)
        for group in profile.findall(f"{kind}s[@{how}='ALLOW']")
        for item in group.findall(kind)
    }


@pytest.fixture(scope="module")
def node(ros, models):
    command = [sys.executable, "-m", "amodal_perception.ros", "--ros-args"]
    for remap in (
        "image:=/camera/color/image_raw",
        "camera_info:=/camera/color/camera_info",
        "depth:=/camera/aligned_depth/image_raw",
    ):
        command += ["-r", remap]
    for parameter in (f"model_file_path:={models.quick}", "use_sim_time:=true", "lazy:=false"):
        command += ["-p", parameter]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    yield process
    end(process)


def names(pairs) -> set[str]:
    return {name for name, _ in pairs}


def test_node_publishes_what_the_policy_says(node, camera):
    expected = allowed("/amodal_perception", "topic", "publish")

    def found():
        return names(camera.node.get_publisher_names_and_types_by_node(NODE, "/"))

    camera.spin_until(lambda: expected - VISION <= known(found), "its topics")
    assert found() <= expected


def test_node_reads_what_the_policy_says(node, camera):
    # Depth is read only while someone wants to know sizes.
    from amodal_perception.msg import ObjectExtents

    camera.node.create_subscription(ObjectExtents, f"/{NODE}/extents", lambda message: None, 1)
    expected = allowed("/amodal_perception", "topic", "subscribe")

    def found():
        return names(camera.node.get_subscriber_names_and_types_by_node(NODE, "/"))

    camera.spin_until(lambda: expected <= known(found), "its subscriptions")
    assert found() == expected


def test_node_offers_what_the_policy_says(node, camera):
    expected = allowed("/amodal_perception", "service", "reply")

    def found():
        return names(camera.node.get_service_names_and_types_by_node(NODE, "/"))

    camera.spin_until(lambda: expected <= known(found), "its services")
    assert found() == expected
    assert not names(camera.node.get_client_names_and_types_by_node(NODE, "/"))


def test_planner_may_ask_for_what_is_offered_and_change_nothing():
    asked = allowed("/planner", "service", "request")
    assert asked == {f"/{NODE}/get_scene", f"/{NODE}/get_removal_plan"}
    heard = allowed("/planner", "topic", "subscribe")
    assert heard - {"/clock"} <= allowed("/amodal_perception", "topic", "publish")


def known(found) -> set[str]:
    """Ask the graph; empty before the node was discovered."""
    from rclpy._rclpy_pybind11 import NodeNameNonExistentError

    try:
        return found()
    except NodeNameNonExistentError:
        return set()
