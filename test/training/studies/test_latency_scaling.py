import json

from training.studies import latency_scaling
from training.studies.latency_scaling import Size, main, sizes


def test_sizes_vary_one_thing_at_a_time_through_one_point():
    middle = Size((288, 384), 32, 1)
    along = sizes(middle)
    assert all(middle in axis for axis in along.values())
    assert [size.input_hw for size in along["image size"]] == [
        (128, 192),
        (224, 288),
        (288, 384),
        (448, 576),
    ]
    assert {(s.input_hw, s.classes) for s in along["instances"]} == {((288, 384), 1)}
    assert {(s.input_hw, s.instances) for s in along["classes"]} == {((288, 384), 32)}


def test_models_of_all_sizes_are_exported_and_timed(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(latency_scaling, "SCALES", (1.0,))
    monkeypatch.setattr(latency_scaling, "INSTANCES", (8,))
    monkeypatch.setattr(latency_scaling, "CLASSES", (1, 3))
    words = ["config/train/orcnn_light.yaml", "input_hw=[64,96]", "model.instances=8"]
    assert main([*words, "--out", str(tmp_path), "--frames", "2", "--threads", "1"]) == 0
    figures = json.loads((tmp_path / "latency_scaling.json").read_text())["latency_scaling"]
    assert [model["classes"] for model in figures["classes"]] == [1, 3]
    assert [model["instances"] for model in figures["instances"]] == [8]
    assert figures["image size"][0]["input_hw"] == [64, 96]
    assert all(model["engine_gflops"]["p50"] > 0 for model in figures["classes"])
    assert len(list(tmp_path.glob("*.onnx"))) == 2
    assert "Latency and classes" in (tmp_path / "latency_scaling.html").read_text()
    assert "96x64" in capsys.readouterr().out


def test_configuration_that_is_wrong_is_told_in_one_line(tmp_path, capsys):
    assert main(["config/train/orcnn_light.yaml", "no_such=1", "--out", str(tmp_path)]) == 1
    assert "no_such" in capsys.readouterr().err
