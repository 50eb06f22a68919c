"""`amodal replay`: what it does not do again, and refuses."""

from __future__ import annotations

import pytest
from helpers.replays import RUNS, replay, summary_of, write_bags


@pytest.fixture
def bags(tmp_path):
    return write_bags(tmp_path / "bags")


def test_goes_on_where_it_stopped(tmp_path, bags, model, capsys):
    (bags / "torn.mcap").unlink()
    out = tmp_path / "out"
    arguments = (bags, "--model", model, "--out", out, "--workers", 1)
    assert replay(*arguments) == 0
    first = {name: (out / name / "summary.json").stat().st_mtime_ns for name in RUNS}
    # One run is gone, and one was being written when the process was killed.
    (out / "one" / "summary.json").unlink()
    leftover = out / "one" / ".run_abc"
    leftover.mkdir()
    (leftover / "scenes.mcap").write_bytes(b"half")
    capsys.readouterr()
    assert replay(*arguments) == 0
    assert "3 of 4 runs were finished before" in capsys.readouterr().out
    again = {name: (out / name / "summary.json").stat().st_mtime_ns for name in RUNS}
    assert {name for name in RUNS if again[name] != first[name]} == {"one"}
    assert not leftover.exists()
    # Other settings are other runs.
    assert replay(*arguments, "--score-threshold", 0.92) == 0
    assert "finished before" not in capsys.readouterr().out
    assert summary_of(out)["instances_mean"] == 1


def test_options_that_exclude_each_other(tmp_path, bags, capsys):
    assert replay(bags, "--out", tmp_path / "out", "--node", "/eye") == 1
    assert "--node and --rate belong to --live" in capsys.readouterr().err
    assert replay(bags, "--out", tmp_path / "out", "--live", "--ray", "auto") == 1
    assert "leave out --ray" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
