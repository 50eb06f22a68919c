"""What a command makes of an error: one line, and an exit code."""

from __future__ import annotations

import pytest

from amodal_perception.command_line import INTERRUPTED, run_main
from amodal_perception.errors import ConfigError


def raising(error: BaseException):
    def work():
        raise error

    return work


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (ConfigError("rate is 0"), 1, "rate is 0"),
        (FileNotFoundError(2, "No such file", "a.json"), 1, "a.json: No such file"),
        (OSError("odd"), 1, "odd"),
        (
            ModuleNotFoundError("no ray", name="ray.util"),
            1,
            "needs the Python package ray, which is not installed",
        ),
        (KeyboardInterrupt(), INTERRUPTED, "half is kept"),
    ],
)
def test_what_a_user_can_mend_is_one_line(capsys, error, code, line):
    assert run_main("amodal", raising(error), when_interrupted="half is kept") == code
    assert capsys.readouterr().err == f"amodal: {line}\n"


@pytest.mark.parametrize(
    "error", [ZeroDivisionError(), ModuleNotFoundError("gone", name="amodal_perception.gone")]
)
def test_a_fault_of_ours_keeps_its_traceback(error):
    with pytest.raises(type(error)):
        run_main("amodal", raising(error))


@pytest.mark.parametrize(("returned", "code"), [(None, 0), (0, 0), (3, 3)])
def test_the_work_chooses_the_exit_code(returned, code):
    assert run_main("amodal", lambda: returned) == code
