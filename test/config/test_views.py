"""RViz's and Foxglove's settings and the list of cameras fit the node; no ROS is needed."""

from __future__ import annotations

import json
import re

import yaml
from helpers.paths import ROOT
from helpers.running_node import STAGES

NODE = "/amodal_perception/"


def published() -> set[str]:
    """Read the node's topics from its source, which cannot be imported without ROS."""
    source = (ROOT / "amodal_perception/ros/outputs.py").read_text()
    return {f"{NODE}{name}" for name in re.findall(r'^ +"(\w+)": ', source, re.MULTILINE)}


def texts(value) -> list[str]:
    if isinstance(value, dict):
        return [text for item in value.values() for text in texts(item)]
    if isinstance(value, list):
        return [text for item in value for text in texts(item)]
    return [value] if isinstance(value, str) else []


def test_rviz_shows_topics_that_the_node_publishes():
    view = yaml.safe_load((ROOT / "config/amodal.rviz").read_text())
    shown = {display["Topic"]["Value"] for display in view["Visualization Manager"]["Displays"]}
    assert f"{NODE}overlay" in shown
    assert shown <= published()


def test_foxglove_shows_topics_and_calls_services_that_the_node_offers():
    view = json.loads((ROOT / "config/foxglove.json").read_text())
    named = {text for text in texts(view["configById"]) if text.startswith(NODE)}
    services = {f"{NODE}get_removal_plan"}
    topics = {text.split(".")[0] for text in named - services}
    assert topics <= published()
    assert services <= named
    placed = re.findall(r'"(\w+!\w+)"', json.dumps(view["layout"]))
    assert sorted(placed) == sorted(view["configById"])


def test_foxglove_calls_the_service_with_fields_that_it_has():
    view = json.loads((ROOT / "config/foxglove.json").read_text())
    payload = json.loads(view["configById"]["CallService!plan"]["requestPayload"])
    request = (ROOT / "srv/GetRemovalPlan.srv").read_text().split("\n---\n")[0]
    fields = re.findall(r"^[\w/]+ (\w+)", request, re.MULTILINE)
    assert list(payload) == fields


def test_foxglove_names_the_stages_in_their_order():
    view = json.loads((ROOT / "config/foxglove.json").read_text())
    paths = view["configById"]["Plot!stages"]["paths"]
    assert [path["label"] for path in paths] == STAGES
    assert [path["value"] for path in paths] == [
        f"{NODE}scene.stage_ms[{i}]" for i in range(len(paths))
    ]


def test_list_of_cameras_that_comes_with_the_package_is_one():
    cameras = yaml.safe_load((ROOT / "config/cameras.yaml").read_text())
    assert len({camera["name"] for camera in cameras}) == len(cameras) == 2
