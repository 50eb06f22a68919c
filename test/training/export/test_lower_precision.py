"""The default model in fewer bits, on images of the sample bag."""

import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from amodal_perception.preprocess import letterbox
from amodal_perception.runtime import DEFAULT_MODEL, load_runtime
from amodal_perception.runtime.tensorrt.build import BuildOptions, build_engine
from amodal_perception.storage import amodal_coco
from amodal_perception.storage.bag_frames import read_frames
from amodal_perception.storage.image_files import write_image
from training.export.feature_nodes import feature_nodes
from training.export.fp16 import to_fp16
from training.export.int8 import to_int8
from training.export.lower_precision import main
from training.export.parity import TOLERANCES, average_precision, compare_engines
from training.export.simplify import simplify

SAMPLE_BAG = DEFAULT_MODEL.with_name("sample_bag")
INPUT_HW = load_runtime(DEFAULT_MODEL).metadata.input_hw
COUNT = 3
CONVOLUTIONS = 47
"""Of features, in the default model."""


@pytest.fixture(scope="module")
def images():
    """Return two images of each of the bag's scenes."""
    return [frame.image for frame in read_frames(SAMPLE_BAG)][::4]


@pytest.fixture(scope="module")
def more_images():
    """Return four other images of each scene: of too few, one lost object is too many."""
    return [frame.image for frame in read_frames(SAMPLE_BAG)][1::2]


@pytest.fixture(scope="module")
def model():
    return onnx.load(DEFAULT_MODEL)


@pytest.fixture(scope="module")
def folders(tmp_path_factory, images):
    """Write a folder to calibrate on and another to judge by."""
    truth = amodal_coco.read(SAMPLE_BAG.parent / "sample_truth.json")
    ids = sorted(truth.images)[:24:4]
    made = []
    for name, numbers in (("calibration", range(COUNT)), ("data", range(COUNT, 2 * COUNT))):
        folder = tmp_path_factory.mktemp(name)
        chosen = [ids[number] for number in numbers]
        for number, image_id in zip(numbers, chosen):
            write_image(folder / truth.images[image_id]["file_name"], images[number])
        amodal_coco.write(
            folder / "annotations.json",
            images=[truth.images[image_id] for image_id in chosen],
            annotations=[r for r in truth.annotations.values() if r["image_id"] in chosen],
            categories=list(truth.categories.values()),
            occlusions=[r for r in truth.occlusions if r["image_id"] in chosen],
        )
        made.append(folder)
    return made


def arithmetic_of(path, tmp_path):
    pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed")
    options = BuildOptions(backend="tensorrt-rtx", compute_capability=86)
    return build_engine(path, tmp_path / "m.engine", options).manifest.precision


def saved(model, path, precision):
    model.metadata_props.add(key="precision", value=precision)
    onnx.save(model, path)
    return load_runtime(path)


def test_what_is_left_in_float32(model):
    simple = simplify(model)
    chosen = feature_nodes(simple)
    left = [n for n in simple.graph.node if n.name not in chosen]
    # Scores and offsets on three levels, and two masks.
    assert sum(n.op_type == "Conv" for n in left) == 3 * 2 + 2
    assert {"TopK", "Sigmoid", "MatMul"} <= {n.op_type for n in left}
    assert len(chosen) > 100
    assert not any(n.op_type == "BatchNormalization" for n in simple.graph.node)


def test_simplified_graph_computes_the_same(model, tmp_path, images):
    onnx.save(simplify(model), tmp_path / "simple.onnx")
    found = compare_engines(
        load_runtime(DEFAULT_MODEL), load_runtime(tmp_path / "simple.onnx"), images[:1]
    )
    assert found.failures(TOLERANCES["fp32"]) == []


def test_half(model, tmp_path, images, more_images):
    half = to_fp16(model)
    runtime = saved(half, tmp_path / "half.onnx", "fp16")
    assert runtime.metadata.precision == "fp16"
    found = compare_engines(
        load_runtime(DEFAULT_MODEL), runtime, images[COUNT:] + more_images, margin=0.01
    )
    assert found.instances > 100
    assert found.failures(TOLERANCES["fp16"]) == []
    casts = [n.attribute[0].i for n in half.graph.node if n.op_type == "Cast"]
    assert casts.count(TensorProto.FLOAT16) == 2  # the image, and the sampled features
    assert arithmetic_of(tmp_path / "half.onnx", tmp_path)["float16"] == CONVOLUTIONS


@pytest.mark.parametrize("engine", ["cpu", "tensorrt"])
def test_int8(model, tmp_path, images, more_images, engine):
    inputs = [letterbox(image, INPUT_HW)[0] for image in images[:COUNT]]
    light = to_int8(model, inputs, engine=engine)
    runtime = saved(light, tmp_path / "int8.onnx", "int8")
    found = compare_engines(
        load_runtime(DEFAULT_MODEL), runtime, images[COUNT:] + more_images, margin=0.05
    )
    assert found.instances > 100
    assert found.failures(TOLERANCES["int8"]) == []
    constants = {t.name: numpy_helper.to_array(t) for t in light.graph.initializer}
    zero_points = [constants[n.input[2]] for n in light.graph.node if n.op_type[:5] == "Quant"]
    if engine == "tensorrt":
        assert not any(np.any(z) for z in zero_points)
        assert arithmetic_of(tmp_path / "int8.onnx", tmp_path)["int8"] == CONVOLUTIONS
    else:
        assert any(np.any(z) for z in zero_points)
        assert {z.dtype for z in zero_points} == {np.dtype(np.uint8)}


def test_command_writes_what_passes(folders, tmp_path, capsys):
    out = tmp_path / "light.onnx"
    words = [str(DEFAULT_MODEL), "--to", "fp16", "--out", str(out), "--data", str(folders[1])]
    assert main([*words, "--threads", "1"]) == 0
    assert "passes the parity gate" in capsys.readouterr().out
    metadata = load_runtime(out).metadata
    assert metadata.precision == "fp16"
    before, after = (
        average_precision(load_runtime(file, num_threads=1), folders[1])
        for file in (DEFAULT_MODEL, out)
    )
    assert metadata.metrics["coco.amodal_mask.AP"] == after
    assert metadata.metrics["coco.amodal_mask.AP_loss"] == before - after
    assert metadata.class_names == load_runtime(DEFAULT_MODEL).metadata.class_names

    words[words.index(str(DEFAULT_MODEL))] = str(out)
    words[words.index(str(out), 1)] = str(tmp_path / "lighter.onnx")
    assert main(words) == 1
    assert "is in fp16; start from the file in float32" in capsys.readouterr().err


def test_what_fails_is_not_written(folders, tmp_path, capsys):
    calibration, data = folders
    dark = tmp_path / "dark"  # ranges found in the dark do not fit the day
    for path in calibration.iterdir():
        if path.suffix == ".jpg":
            write_image(dark / path.name, np.zeros((480, 640, 3), np.uint8))
    content = json.loads((calibration / "annotations.json").read_text())
    (dark / "annotations.json").write_text(json.dumps(content))
    out = tmp_path / "out" / "light.onnx"
    words = [str(DEFAULT_MODEL), "--to", "int8", "--out", str(out), "--data", str(data)]
    assert main([*words, "--calibration", str(dark), "--threads", "1"]) == 1
    assert (
        f"training.export.lower_precision: {out}: not written: lost is" in capsys.readouterr().err
    )
    assert list(out.parent.iterdir()) == []


def test_calibration_is_asked_for_and_apart(folders, tmp_path, capsys):
    out = tmp_path / "light.onnx"
    words = [str(DEFAULT_MODEL), "--to", "int8", "--out", str(out), "--data", str(folders[1])]
    assert main(words) == 1
    assert "int8 needs --calibration" in capsys.readouterr().err
    assert main([*words, "--calibration", str(folders[1])]) == 1
    assert "are the same images; compare on others" in capsys.readouterr().err
    assert main(words[:-2]) == 1
    assert "--data is missing" in capsys.readouterr().err
