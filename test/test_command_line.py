"""What every command line does with errors, Ctrl-C and closed pipes."""

from __future__ import annotations

import errno
import logging
import os
import subprocess
import sys

import cv2
import numpy as np
import pytest

from amodal_perception.command_line import run_main
from amodal_perception.errors import ConfigError


def raising(error: BaseException):
    def work() -> None:
        raise error

    return work


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (ConfigError("a.yaml: no such key"), 1, "tool: a.yaml: no such key"),
        (ConfigError("class 'a\nb' is unknown"), 1, "tool: class 'a b' is unknown"),
        (FileNotFoundError(errno.ENOENT, "gone", "a.txt"), 1, "tool: a.txt: gone; run it again"),
        (OSError("no reason given"), 1, "tool: no reason given; run it again"),
        (
            ModuleNotFoundError("no", name="tqdm.auto"),
            1,
            "tool: needs the Python package tqdm, which is not installed: "
            "python3 -m pip install tqdm",
        ),
        (KeyboardInterrupt(), 130, "tool: stopped; run it again"),
    ],
)
def test_known_errors_are_one_line_and_an_exit_code(capsys, error, code, line):
    assert run_main("tool", raising(error), afterwards="run it again") == code
    assert capsys.readouterr().err == f"{line}\n"


@pytest.mark.parametrize(
    "error", [ValueError("ours"), ModuleNotFoundError("ours", name="amodal_perception.gone")]
)
def test_faults_of_ours_keep_their_traceback(error):
    with pytest.raises(type(error)):
        run_main("tool", raising(error))


@pytest.mark.parametrize(("returned", "code"), [(None, 0), (0, 0), (3, 3)])
def test_what_the_work_returns_is_the_exit_code(returned, code):
    assert run_main("tool", lambda: returned) == code


def test_opencv_says_nothing_beside_our_line(tmp_path):
    picture = tmp_path / "cut.bmp"
    picture.write_bytes(cv2.imencode(".bmp", np.zeros((50, 50, 3), np.uint8))[1].tobytes()[:4000])
    script = f"""
from pathlib import Path
from amodal_perception.command_line import run_main
from amodal_perception.storage.image_files import read_image
run_main("tool", lambda: read_image(Path({str(picture)!r})))
"""
    for setting, lines in ({}, 1), ({"OPENCV_LOG_LEVEL": "ERROR"}, 2):
        environment = {k: v for k, v in os.environ.items() if k != "OPENCV_LOG_LEVEL"} | setting
        done = subprocess.run(
            [sys.executable, "-c", script], env=environment, capture_output=True, text=True
        )
        said = [line for line in done.stderr.splitlines() if line]
        assert said[-1] == f"tool: {picture}: is not a picture, or is damaged"
        assert len(said) >= lines
        assert len(said) == 1 or setting


def test_our_loggers_speak_and_those_of_libraries_are_quiet():
    run_main("tool", lambda: None)
    assert logging.getLogger("amodal_perception.storage").isEnabledFor(logging.INFO)
    assert not logging.getLogger("some_library").isEnabledFor(logging.INFO)
