"""The `amodal` command as a user types it: a process of its own, its exit code, its one line."""

from __future__ import annotations

import os
import subprocess
import sys

from helpers.paths import ROOT

AMODAL = (sys.executable, "-m", "amodal_perception.cli")


def amodal(*words, **options) -> subprocess.CompletedProcess:
    """Run the command to its end."""
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [*AMODAL, *map(str, words)],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": path},
        timeout=120,
        **options,
    )


def failure(done: subprocess.CompletedProcess) -> str:
    """Return the one line of a command that failed."""
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("amodal: ")]
    return line
