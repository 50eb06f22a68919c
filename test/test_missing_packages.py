"""Every command without a package that it needs: one line that names it, no traceback."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from helpers.paths import ROOT

from amodal_perception.cli import COMMANDS
from amodal_perception.errors import ConfigError
from amodal_perception.missing_packages import describe_missing_package
from amodal_perception.runtime import DEFAULT_MODEL, load_runtime

SCRIPTS = sorted(
    ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__main__")
    for package in ("amodal_perception", "training")
    for file in (ROOT / package).rglob("*.py")
    if 'if __name__ == "__main__"' in file.read_text()
)
EVERYTHING = """
import importlib.abc, sys

class Bare(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in sys.stdlib_module_names and top not in ("amodal_perception", "training"):
            raise ModuleNotFoundError(f"No module named {top!r}", name=top)

sys.meta_path.insert(0, Bare())
"""


@pytest.fixture
def bare(tmp_path):
    """Run a command where nothing but Python and the checkout is installed."""
    (tmp_path / "sitecustomize.py").write_text(EVERYTHING)

    def run(*words) -> subprocess.CompletedProcess:
        path = f"{tmp_path}:{ROOT}"
        return subprocess.run(
            [sys.executable, *map(str, words)],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={"PYTHONPATH": path, "PATH": ""},
        )

    return run


def line_of(done) -> str:
    """Return the one line with which a command ended."""
    assert done.returncode == 1, done.stderr
    (line,) = done.stderr.splitlines()
    return line


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_names_the_first_package_that_is_missing(bare, script):
    done = bare("-m", script, "--help")
    if script == "amodal_perception.cli":
        assert (done.returncode, done.stderr) == (0, "")
    else:
        assert re.match(rf"{re.escape(script)}: needs (the Python package|ROS 2)", line_of(done))


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_amodal_names_the_first_package_that_is_missing(bare, command):
    done = bare("-m", "amodal_perception.cli", command, "--help")
    line = line_of(done)
    assert re.match("amodal: needs the Python package .*: python3 -m pip install", line)


@pytest.mark.parametrize("script", ["amodal", "amodal_node"])
def test_an_installed_program_names_the_first_package_that_is_missing(bare, script):
    done = bare(ROOT / "scripts" / script, "replay")
    assert re.match(f"{script}: needs ", line_of(done))


@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("cv2", "needs the Python package opencv-python-headless, which is not installed"),
        ("yaml.nodes", "python3 -m pip install PyYAML"),
        ("torch", "pip install torch, or all of the extra [training]"),
        ("rclpy", "needs ROS 2 with its package rclpy: source a ROS installation"),
        ("amodal_perception.msg", "source the install/setup.bash of your workspace"),
    ],
)
def test_the_line_says_how_to_get_it(module, words):
    assert words in describe_missing_package(ModuleNotFoundError("no", name=module))


@pytest.mark.parametrize("module", ["", "amodal_perception.gone", "training.gone"])
def test_a_missing_module_of_ours_is_no_missing_package(module):
    assert describe_missing_package(ModuleNotFoundError("no", name=module)) is None


def test_a_package_that_is_broken_is_not_called_missing():
    assert describe_missing_package(ImportError("libGL.so.1", name="cv2")) is None


def test_a_model_without_its_engine_is_a_matter_of_configuration(monkeypatch):
    monkeypatch.delitem(sys.modules, "amodal_perception.runtime.onnx_runtime", raising=False)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ConfigError, match="needs the Python package onnxruntime"):
        load_runtime(DEFAULT_MODEL)
