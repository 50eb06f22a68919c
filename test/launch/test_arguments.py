"""Arguments of the launch files; no ROS is needed to read them."""

from __future__ import annotations

import ast

import pytest
from helpers.paths import ROOT


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
