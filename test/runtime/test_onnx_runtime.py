import re

import numpy as np
import onnx
import onnxruntime
import pytest
from helpers.onnx_models import CELLS, INPUT_HW, SLOTS, two_discs, write_constant_model

from amodal_perception.errors import ConfigError, GpuUnavailableError, ModelFileError
from amodal_perception.runtime import load_runtime, onnx_runtime
from amodal_perception.runtime.tensorrt import gpu


@pytest.fixture
def model(tmp_path):
    return write_constant_model(tmp_path / "model.onnx")


def test_a_good_model_loads_and_runs(model):
    runtime = load_runtime(model, num_threads=1)
    assert runtime.metadata.model_id.startswith("two_discs@")
    assert len(runtime.metadata.model_id) == len("two_discs@") + 12
    assert runtime.metadata.input_hw == INPUT_HW
    assert (runtime.metadata.max_instances, runtime.metadata.mask_size) == (SLOTS, CELLS)
    raw = runtime(np.zeros((1, *INPUT_HW, 3), np.uint8))
    np.testing.assert_array_equal(raw.boxes_xyxy, two_discs()["boxes"])
    assert raw.occluder is None


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x08\x07\x12\x00" * 50])
def test_foreign_files_are_refused(tmp_path, content):
    path = tmp_path / "foreign.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match=r"foreign\.onnx: "):
        load_runtime(path)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_truncated_files_are_refused(model, share):
    content = model.read_bytes()
    model.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ModelFileError, match=r"model\.onnx: "):
        load_runtime(model)


def test_data_outside_the_file_is_not_followed(tmp_path, model):
    graph = onnx.load(model)
    onnx.save(
        graph,
        tmp_path / "external.onnx",
        save_as_external_data=True,
        size_threshold=0,
        convert_attribute=True,
    )
    assert len(list(tmp_path.iterdir())) > 2
    with pytest.raises(ModelFileError, match=r"external\.onnx: "):
        load_runtime(tmp_path / "external.onnx")


def test_a_missing_file_and_an_unknown_ending_are_named(tmp_path):
    with pytest.raises(ModelFileError, match=r"nowhere\.onnx: no such model file"):
        load_runtime(tmp_path / "nowhere.onnx")
    with pytest.raises(ModelFileError, match=r"no engine for '\.pt' files; known endings: \.onnx"):
        load_runtime(tmp_path / "weights.pt")


def test_a_provider_that_is_not_installed_is_named_with_its_remedy(model, monkeypatch):
    with pytest.raises(ConfigError, match="unknown provider 'gpu'; known are: cpu, cuda, ten"):
        load_runtime(model, provider="gpu")
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    message = r"provider openvino: not in this .*, which has: cpu; .*onnxruntime-openvino"
    with pytest.raises(ConfigError, match=message):
        load_runtime(model, provider="openvino")


def _refused(device):
    try:
        onnx_runtime._nvidia_gpu(device)
    except GpuUnavailableError as error:
        return error
    return None


def test_a_device_belongs_to_providers_on_nvidia_gpus(model):
    with pytest.raises(ConfigError, match="device is '0', but the provider cpu runs on no NVIDIA"):
        load_runtime(model, device="0")


def test_a_provider_that_does_not_start_is_no_silent_fall_back_to_the_cpu(model, monkeypatch):
    everything = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this installation of ONNX Runtime has CUDA")
    if not gpu.problem():
        pytest.skip("a GPU is here")
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: everything)
    with pytest.raises(GpuUnavailableError, match=re.escape(gpu.problem())):
        load_runtime(model, provider="cuda")  # without a GPU that is said first
    for driver in (12060, 0):  # ONNX Runtime has a CUDA of its own, but no driver of its own
        monkeypatch.setattr(onnx_runtime, "driver_version", lambda driver=driver: driver)
        assert (driver == 0) == (_refused("0") is not None)
    monkeypatch.setattr(onnx_runtime, "driver_version", lambda: 12060)
    not_started = pytest.raises(ConfigError, match="cannot start it")
    with pytest.warns(UserWarning, match="CUDA"), not_started:
        load_runtime(model, provider="cuda")


@pytest.mark.parametrize("folder", ["", "a_folder_with_a_long_name/" * 9])
@pytest.mark.parametrize("field", ["ir_version", "opset"])
def test_a_model_newer_than_the_runtime_says_so(tmp_path, model, folder, field):
    content = onnx.load(model)
    if field == "ir_version":
        content.ir_version = 99
    else:
        content.opset_import[0].version = 999
    path = tmp_path / folder / "newer.onnx"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.SerializeToString())
    with pytest.raises(ModelFileError) as refusal:
        load_runtime(path)
    line = str(refusal.value)
    assert f"newer than ONNX Runtime {onnxruntime.__version__}" in line
    cause = "max supported IR version" if field == "ir_version" else "Opset 999"
    assert cause.lower() in line.lower()
    assert "\n" not in line
