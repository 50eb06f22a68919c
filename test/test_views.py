"""Launch files and the settings of RViz and Foxglove fit the node; no ROS is needed to tell."""

from __future__ import annotations

import ast
import json
import re

import pytest
import yaml
from helpers.paths import ROOT

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
    assert [path["label"] for path in paths] == [
        "wait",
        "decode",
        "preprocess",
        "engine",
        "postprocess",
        "ordering",
        "tracking",
        "message",
    ]
    assert [path["value"] for path in paths] == [
        f"{NODE}scene.stage_ms[{i}]" for i in range(len(paths))
    ]


@pytest.mark.parametrize("name", ["amodal", "replay"])
def test_launch_file_has_at_most_ten_arguments_each_explained(name):
    tree = ast.parse((ROOT / f"launch/{name}.launch.py").read_text())
    (arguments,) = (
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "ARGUMENTS"
    )
    assert len(arguments.keys) <= 10
    for _, description in (value.elts for value in arguments.values):
        assert description.value


def test_list_of_cameras_that_comes_with_the_package_is_one():
    cameras = yaml.safe_load((ROOT / "config/cameras.yaml").read_text())
    assert len({camera["name"] for camera in cameras}) == len(cameras) == 2
