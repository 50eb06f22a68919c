"""The run time must start without torch, and everything outside ros/ without rclpy."""

import pkgutil
import subprocess
import sys

import pytest

import amodal_perception

MODULES = sorted(
    info.name
    for info in pkgutil.walk_packages(amodal_perception.__path__, "amodal_perception.")
    # Generated message packages load libraries of ROS, which is theirs to test.
    if not info.name.startswith(("amodal_perception.msg", "amodal_perception.srv"))
)
NEEDS_RCLPY = {
    f"amodal_perception.ros.{name}"
    for name in (
        "__main__",
        "demo",
        "depth",
        "inputs",
        "live_replay",
        "managed",
        "node",
        "outputs",
        "planner",
        "scene_publisher",
    )
}
BLOCK = """
import importlib, sys
for name in {blocked}:
    sys.modules[name] = None
for name in {modules}:
    importlib.import_module(name)
"""


@pytest.mark.parametrize(
    ("blocked", "modules"),
    [
        (["torch", "torchvision", "training", "rclpy"], set(MODULES) - NEEDS_RCLPY),
        (["torch", "torchvision", "training"], NEEDS_RCLPY & set(MODULES)),
    ],
    ids=["without torch and rclpy", "without torch"],
)
def test_modules_import_without(blocked, modules):
    if "rclpy" not in blocked:
        pytest.importorskip("rclpy", reason="needs rclpy")
        pytest.importorskip("amodal_perception.msg", reason="needs the built messages")
    code = BLOCK.format(blocked=blocked, modules=sorted(modules))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "amodal_perception.pipeline" in MODULES
