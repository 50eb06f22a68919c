"""`make` says at once where it cannot work, and what to do there."""

import os
import subprocess
import sys

import pytest
from helpers.paths import ROOT

sys.path.append(str(ROOT / "scripts"))
from check_python import problem


@pytest.mark.parametrize("version", [(3, 10), (3, 11), (3, 12), (3, 13)])
def test_where_make_works(version):
    assert problem(version, "x86_64") == ""


def test_another_python():
    assert "is Python 3.14; choose CPython 3.10 to 3.13: make" in problem((3, 14), "x86_64")


def test_another_processor_is_told_what_to_do():
    message = problem((3, 12), "aarch64")
    assert message.startswith("this machine is aarch64, and the ROS 2 wheels")
    assert "build with colcon" in message
    assert "amodal replay amodal_perception/assets/sample_bag" in message


def test_make_says_it_before_anything_is_made(tmp_path):
    python = tmp_path / "python"  # as on such a machine
    python.write_text(
        f"#!/bin/sh\nexec {sys.executable} -c 'import platform, runpy, sys\n"
        'platform.machine = lambda: "aarch64"\n'
        'sys.argv = sys.argv[1:]\nrunpy.run_path(sys.argv[0], run_name="__main__")\' "$@"\n'
    )
    python.chmod(0o755)
    environment = tmp_path / "venv"
    done = subprocess.run(
        ["make", f"PYTHON={python}", f"VENV={environment}", f"{environment}/bin/python"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"MAKEFLAGS": ""},
    )
    assert done.returncode != 0
    assert "this machine is aarch64" in done.stderr
    assert not environment.exists()
