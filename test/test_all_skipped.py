"""`colcon test` fails where every test of a folder skips itself: see test/conftest.py."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest
from helpers.paths import ROOT

SKIP = 'import pytest\n\ndef test_a():\n    pytest.skip("needs a robot")\n'
MODULE_SKIP = 'import pytest\n\npytest.importorskip("no_such_package")\n'
PASS = "def test_b():\n    pass\n"


@pytest.mark.parametrize(
    ("files", "asked", "code"),
    [
        ([SKIP], "1", 1),
        ([MODULE_SKIP], "1", 1),
        ([SKIP, PASS], "1", 0),
        ([SKIP], "0", 0),
    ],
)
@pytest.mark.parametrize("workers", [(), ("-n", "1")], ids=["one process", "xdist"])
def test_all_skipped_is_a_failure_where_asked(tmp_path, files, asked, code, workers):
    shutil.copy(ROOT / "test" / "conftest.py", tmp_path)
    for number, text in enumerate(files):
        (tmp_path / f"test_{number}.py").write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *workers, tmp_path],
        env=os.environ | {"FAIL_IF_ALL_SKIPPED": asked},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == code, done.stdout
    assert ("tests skipped themselves: Skipped: " in done.stdout) == (code == 1)


def test_colcon_asks_for_it():
    (line,) = (
        line
        for line in (ROOT / "CMakeLists.txt").read_text().splitlines()
        if "ament_add_pytest_test" in line
    )
    assert "FAIL_IF_ALL_SKIPPED=1" in line
