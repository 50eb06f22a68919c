"""The command `python -m training.convert`, run as a user runs it."""

import json

import pytest

from amodal_perception.storage import amodal_coco
from training.convert.__main__ import main


@pytest.fixture
def convert(tmp_path, capsys):
    """Run the command on JSON content, or on a path; return (data, what it printed)."""

    def run(format_name, source, *options):
        if isinstance(source, dict):
            path = tmp_path / "source.json"
            path.write_text(json.dumps(source))
            source = path
        out = tmp_path / "out" / "annotations.json"
        code = main([format_name, str(source), "--out", str(out), *map(str, options)])
        printed = capsys.readouterr()
        assert code == 0, printed.err
        return amodal_coco.read(out), printed.out

    return run


@pytest.fixture
def refusal(tmp_path, capsys):
    """Run the command where it must fail; return its one line."""

    def run(format_name, source, *options):
        if isinstance(source, dict):
            path = tmp_path / "source.json"
            path.write_text(json.dumps(source))
            source = path
        out = tmp_path / "out" / "annotations.json"
        assert main([format_name, str(source), "--out", str(out), *map(str, options)]) == 1
        assert not out.parent.exists()
        lines = capsys.readouterr().err.strip().splitlines()
        assert len(lines) == 1
        return lines[0]

    return run
