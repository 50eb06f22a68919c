import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from helpers.scenes import draw_scene, write_scenes
from helpers.tensorrt_builds import assert_builds
from onnx import numpy_helper
from safetensors.torch import load_file, save_file

from amodal_perception.benchmark.flops import count_flops
from amodal_perception.errors import ModelFileError
from amodal_perception.runtime import DEFAULT_MODEL, load_runtime
from training.export import onnx_export
from training.export.onnx_export import (
    COMPARED_SCORE,
    SingleImage,
    TracedRuntime,
    build,
    drawn_images,
    largest_differences,
    main,
    rounding_differences,
    store_metadata,
    to_onnx,
)
from training.export.parity import gate
from training.loop import checkpoints, initial_weights
from training.loop.config import from_mapping
from training.loop.initial_weights import read_onnx
from training.models import MODELS
from training.train import train

INPUT_HW = (288, 384)
# Parsed and built by TensorRT without plugins (see the test below), free of loops and of shapes
# that depend on the data.
# fmt: off
ALLOWED_OPS = frozenset([
    "Add", "And", "AveragePool", "BatchNormalization", "Cast", "Clip", "Concat", "Conv",
    "ConvTranspose", "Div", "Equal", "Exp", "Expand", "Floor", "Gather", "GatherElements",
    "GatherND", "Greater", "GreaterOrEqual", "LessOrEqual", "Log", "MatMul", "Max", "Min", "Mul",
    "ReduceMax", "ReduceMean", "Relu", "Reshape", "Resize", "Sigmoid", "Slice", "Split",
    "Sqrt", "Squeeze", "Sub", "TopK", "Transpose", "Trilu", "Unsqueeze",
])
# fmt: on


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("export")
    write_scenes(folder / "drawn", count=2)
    values = {"data": str(folder / "drawn"), "out": str(folder / "run"), "input_hw": INPUT_HW}
    train(from_mapping({**values, "iterations": 2, "batch_size": 2, "workers": 0}, source="test"))
    return folder / "run"


def with_scores(run: Path, copied: Path, *, std: float, bias: float) -> Path:
    """Copy a run and draw the layer that gives the scores."""
    shutil.copytree(run, copied)
    for path in copied.rglob(checkpoints.AVERAGED):
        found = load_file(path)
        generator = torch.Generator().manual_seed(0)
        found["detector.score.weight"].normal_(std=std, generator=generator)
        found["detector.score.bias"].fill_(bias)
        save_file(found, path)
    return copied


@pytest.fixture(scope="module")
def exported(run) -> Path:
    path = run / "model.onnx"
    (run / "metrics.json").write_text('{"coco.amodal_mask.AP": 0.5}')
    assert main([str(run), "--out", str(path), "--metrics", str(run / "metrics.json")]) == 0
    return path


def test_file_is_small_static_and_free_of_plugins(exported):
    model = onnx.load(exported)
    assert exported.stat().st_size < 25e6
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 18)]
    assert {node.op_type for node in model.graph.node} <= ALLOWED_OPS
    assert {node.op_type for node in onnx.load(DEFAULT_MODEL).graph.node} <= ALLOWED_OPS
    for value in [*model.graph.input, *model.graph.output]:
        assert all(d.HasField("dim_value") for d in value.type.tensor_type.shape.dim), value.name


def test_training_can_go_on_from_the_file(run, exported):
    found = initial_weights.read_onnx(exported)
    for name, value in checkpoints.averaged_weights(run).items():
        if not name.endswith("num_batches_tracked"):
            assert found[name].equal(value), name


def test_one_frame_costs_at_most_5_gflop(exported):
    assert 1e9 < count_flops(onnx.load(exported)) <= 5e9


def test_metadata_and_contract(exported):
    runtime = load_runtime(exported)
    metadata = runtime.metadata
    assert metadata.name == "orcnn_light"
    assert metadata.class_names == ("object",)
    assert metadata.input_hw == INPUT_HW
    assert (metadata.max_instances, metadata.mask_size) == (32, 28)
    assert metadata.metrics == {"coco.amodal_mask.AP": 0.5}
    assert metadata.training_data == "drawn"
    raw = runtime(np.full((1, *INPUT_HW, 3), 114, np.uint8))
    assert raw.boxes_xyxy.shape == (32, 4)
    assert raw.visible.shape == (32, 28, 28)
    assert (np.diff(raw.scores) <= 0).all()


def test_agrees_with_pytorch_on_pictures_not_traced(run, exported):
    model, _, _ = build(run)
    scenes = [draw_scene(np.random.default_rng(seed), INPUT_HW, 6)[0] for seed in range(3)]
    worst = largest_differences(model, exported, scenes)
    assert worst["boxes"] < 0.05
    assert max(worst["scores"], worst["amodal"], worst["visible"]) < 1e-3


def test_every_parameter_keeps_its_name_so_that_training_can_go_on_from_the_file(run, exported):
    model, _, _ = build(run)
    stored, expected = read_onnx(exported), model.model.state_dict()
    needed = {name for name in expected if not name.endswith("num_batches_tracked")}
    assert needed <= set(stored)
    for name in needed:
        torch.testing.assert_close(stored[name], expected[name])


def test_other_size_and_number_of_instances(run, tmp_path):
    out = tmp_path / "small.onnx"
    words = [str(run), "--out", str(out), "input_hw=[64,96]", "model.instances=5"]
    assert main(words) == 0
    metadata = load_runtime(out).metadata
    assert (metadata.input_hw, metadata.max_instances) == ((64, 96), 5)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("iterations=3", "'iterations=3': only input_hw= and model.KEY= can change"),
        ("model.channels=32", "its weights do not fit model.channels=32"),
        ("input_hw=[50,50]", "multiples of 32"),
    ],
)
def test_overrides_that_the_weights_do_not_allow(run, tmp_path, capsys, word, message):
    assert main([str(run), "--out", str(tmp_path / "m.onnx"), word]) == 1
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


SYSTEMS = {
    "faster_rcnn": ("mask_rcnn", {"backbone": "mobilenet", "proposals": 40, "frozen_norm": True}),
    "fcos": ("orcnn", {"backbone": "resnet18", "detector": "fcos", "channels": 64}),
    "asn": ("asn_light", {}),
}


@pytest.mark.parametrize("system", SYSTEMS)
def test_every_kind_of_part_exports_and_builds_in_tensorrt(system, tmp_path):
    name, changes = SYSTEMS[system]
    small = {"channels": 32, "mask_width": 16, "instances": 8, **changes}
    torch.manual_seed(0)
    network = replace(MODELS[name](), **small).build(3)
    if system != "faster_rcnn":  # so that scores of untrained points count
        layer = network.detector.classes if system == "fcos" else network.detector.score
        torch.nn.init.normal_(layer.weight, std=0.1)
        torch.nn.init.zeros_(layer.bias)
    model, path = SingleImage(network, 0.3).eval(), tmp_path / "m.onnx"
    to_onnx(model, path, (64, 96))
    store_metadata(path, {})
    images = drawn_images((64, 96), 2)
    with torch.inference_mode():
        scores = model(torch.from_numpy(images[0][None]))[1]
    assert (scores > COMPARED_SCORE).sum() > 3
    worst = largest_differences(model, path, images)
    assert worst["boxes"] < 0.01
    assert max(worst["scores"], worst["amodal"], worst["visible"]) < 1e-3
    assert_builds(path)


def test_another_network_is_told_apart(run, exported):
    model, _, _ = build(run)
    with torch.no_grad():
        model.model.detector.score.bias += 3.0
    scene = draw_scene(np.random.default_rng(0), INPUT_HW, 6)[0]
    assert largest_differences(model, exported, [scene])["scores"] > 0.05


def test_operating_point_becomes_one_half_and_the_order_stays(run):
    image = torch.from_numpy(draw_scene(np.random.default_rng(0), INPUT_HW, 6)[0])[None]
    with torch.inference_mode():
        trained = build(run)[0](image)[1]
        shifted = build(run, operating_point=0.2)[0](image)[1]
    expected = torch.sigmoid(torch.logit(trained) - torch.logit(torch.tensor(0.2)))
    torch.testing.assert_close(shifted, expected)


def test_operating_point_outside_0_to_1_is_refused(run, tmp_path, capsys):
    words = [str(run), "--out", str(tmp_path / "m.onnx"), "--operating-point", "1.5"]
    assert main(words) == 1
    assert "--operating-point 1.5 is not between 0 and 1" in capsys.readouterr().err


def test_nothing_is_written_for_a_folder_without_a_run(tmp_path, capsys):
    out = tmp_path / "m.onnx"
    assert main([str(tmp_path), "--out", str(out)]) == 1
    assert "is no run folder" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_run_without_checkpoint(run, tmp_path):
    (tmp_path / "config.json").write_text((run / "config.json").read_text())
    with pytest.raises(ModelFileError, match="holds no checkpoint"):
        build(tmp_path)


def test_run_folder_tells_where_it_comes_from(run):
    config = json.loads((run / "config.json").read_text())
    assert config["class_names"] == ["object"]
    assert len(config["commit"]) >= 40 or config["commit"] == "unknown"


def test_scenes_are_compared_on_a_data_set(run, tmp_path, capsys):
    # After two iterations no score is above 0.5.
    sure = with_scores(run, tmp_path / "run", std=0.1, bias=0.0)
    for path in sure.rglob(checkpoints.AVERAGED):
        found, generator = load_file(path), torch.Generator().manual_seed(1)
        for head in ("amodal", "visible"):  # nor any mask sure
            found[f"mask_heads.{head}.logits.weight"].normal_(std=0.5, generator=generator)
            found[f"mask_heads.{head}.logits.bias"].fill_(4.0)
        save_file(found, path)
    out, data = tmp_path / "m.onnx", run.parent / "drawn"
    overrides = ["input_hw=[64,96]", "model.mask_scores=true"]
    assert main([str(sure), "--out", str(out), "--data", str(data), *overrides]) == 0, (
        capsys.readouterr().err
    )
    runtime = load_runtime(out)
    model, _, _ = build(sure, overrides)
    reference = TracedRuntime(model, runtime.metadata)
    found, failures = gate(reference, runtime, data)
    assert found.instances > 3
    assert failures == []
    model, _, _ = build(sure, overrides, operating_point=0.4)
    other = TracedRuntime(model, runtime.metadata)
    assert "score is" in "; ".join(gate(other, runtime, data)[1])


def test_lower_precision_wants_images_to_be_judged_by(run, tmp_path, capsys):
    out = tmp_path / "m.onnx"
    assert main([str(run), "--out", str(out), "--precision", "int8"]) == 1
    assert "--precision int8 needs --data" in capsys.readouterr().err
    assert not out.exists()


def test_tensorrt_builds_an_engine_for_compute_capability_86(exported):
    assert_builds(exported)


def test_an_engine_is_not_written_by_export(run, tmp_path, capsys):
    assert main([str(run), "--out", str(tmp_path / "m.engine")]) == 1
    assert "an ONNX file is written; name it .onnx" in capsys.readouterr().err


@pytest.mark.parametrize(("std", "bias"), [(1e-6, -2.0), (0.0, 20.0)])
def test_boxes_of_nearly_equal_score_are_not_blamed_on_the_opset(run, tmp_path, capsys, std, bias):
    hardly = with_scores(run, tmp_path / "run", std=std, bias=bias)
    assert main([str(hardly), "--out", str(tmp_path / "m.onnx"), "input_hw=[96,128]"]) == 1
    error = capsys.readouterr().err
    assert "boxes of nearly equal score changed places" in error
    assert "train longer, or compare with --data" in error
    assert "opset" not in error
    assert not (tmp_path / "m.onnx").exists()


def test_a_graph_that_computes_something_else_is_blamed_on_the_opset(
    run, tmp_path, capsys, monkeypatch
):
    sure = with_scores(run, tmp_path / "run", std=0.1, bias=0.0)

    def shifted(model, path, input_hw):
        to_onnx(model, path, input_hw)
        graph = onnx.load(path)
        (bias,) = [t for t in graph.graph.initializer if t.name == "model.detector.box.bias"]
        bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) + 0.1, bias.name))
        onnx.save(graph, path)

    monkeypatch.setattr(onnx_export, "to_onnx", shifted)
    assert main([str(sure), "--out", str(tmp_path / "m.onnx"), "input_hw=[96,128]"]) == 1
    error = capsys.readouterr().err
    assert "differs from PyTorch, boxes by" in error
    assert "export with another opset" in error
    assert not (tmp_path / "m.onnx").exists()


def test_instances_are_compared_as_sets(run, tmp_path):
    model, _, input_hw = build(with_scores(run, tmp_path / "run", std=0.1, bias=0.0))
    image = drawn_images(input_hw, 1)
    assert max(rounding_differences(model, image).values()) < 1e-2
    hardly, _, _ = build(with_scores(run, tmp_path / "hardly", std=1e-6, bias=-2.0))
    assert rounding_differences(hardly, image)["boxes"] > 1


def test_order_of_instances_does_not_count_and_nan_does():
    names = ["boxes", "scores", "labels", "amodal"]
    rng = np.random.default_rng(0)
    outputs = [
        rng.uniform(0, 90, (4, 4)),
        np.array([0.5, 0.5, 0.3, 0.01]),
        np.array([0, 0, 1, 0]),
        rng.uniform(0, 1, (4, 2, 2)),
    ]
    order = [1, 0, 2, 3]
    swapped = [values[order] for values in outputs]
    assert onnx_export._largest(names, [(outputs, swapped)]) == pytest.approx(
        {"boxes": 0, "scores": 0, "amodal": 0}
    )
    swapped[3][0] = np.nan
    assert np.isnan(onnx_export._largest(names, [(outputs, swapped)])["amodal"])
