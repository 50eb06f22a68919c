"""`amodal bench`: the options reach the benchmark, and the figures its files."""

from __future__ import annotations

import json

from amodal_perception.cli import main


def test_bench_writes_figures_and_page(tmp_path, model, capsys):
    figures, page = tmp_path / "figures.json", tmp_path / "page.html"
    command = ["bench", "--model", model, "--frames", 2, "--objects", 3, "--threads", 1]
    assert main([*map(str, command), "--json", str(figures), "--plot", str(page)]) == 0
    (measured,) = json.loads(figures.read_text())["models"]
    assert measured["objects"] == 3
    assert measured["stages_ms"]["engine"]["p50"] > 0
    assert "engine" in capsys.readouterr().out
    assert "<svg" in page.read_text()


def test_bench_refuses_in_one_line(tmp_path, model, capsys):
    command = ["bench", "--model", str(model), "--frames", "0", "--json", str(tmp_path / "f")]
    assert main(command) == 1
    assert capsys.readouterr().err == "amodal: frames is 0, but at least 1 is needed\n"
    assert not (tmp_path / "f").exists()
