"""The run time starts without torch, and everything outside ros/ without rclpy.

The arrows between packages are in `pyproject.toml`, which ``make lint`` checks without importing
anything; here the modules are imported for real, with what they must not need taken away.
"""

import subprocess
import sys

import pytest
from helpers.paths import ROOT

MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in (ROOT / "amodal_perception").rglob("*.py")
}
IN_ROS = {name for name in MODULES if name.startswith("amodal_perception.ros")}
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
        (["torch", "torchvision", "training", "rclpy"], MODULES - IN_ROS),
        (["torch", "torchvision", "training"], IN_ROS),
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
    assert modules
