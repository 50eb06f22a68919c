"""Where a GPU is: TensorRT tells a robot what ONNX Runtime does."""

import numpy as np
import pytest

from amodal_perception.errors import ConfigError
from amodal_perception.runtime import DEFAULT_MODEL, load_runtime
from amodal_perception.runtime.tensorrt import gpu
from amodal_perception.runtime.tensorrt.build import BuildOptions, build_engine
from amodal_perception.runtime.tensorrt.cuda import Cuda, load_binding
from amodal_perception.runtime.tensorrt.library import BACKENDS, load_backend
from amodal_perception.storage.bag_frames import read_frames
from training.export.parity import TOLERANCES, compare_engines

SAMPLE_BAG = DEFAULT_MODEL.with_name("sample_bag")
PROBLEM = gpu.problem()
pytestmark = pytest.mark.skipif(bool(PROBLEM), reason=f"needs an NVIDIA GPU: {PROBLEM}")


@pytest.fixture(scope="module", params=BACKENDS)
def engine(request, tmp_path_factory):
    try:
        load_backend(request.param)
    except ConfigError as error:
        pytest.skip(str(error))
    path = tmp_path_factory.mktemp("engine") / "default.engine"
    return build_engine(DEFAULT_MODEL, path, BuildOptions(backend=request.param)).path


def test_the_same_scenes(engine):
    images = [frame.image for frame, _ in zip(read_frames(SAMPLE_BAG), range(24))][::4]
    found = compare_engines(load_runtime(DEFAULT_MODEL), load_runtime(engine), images)
    assert found.instances > 10
    assert found.failures(TOLERANCES["fp32"]) == []


def test_frames_do_not_leak_into_each_other(engine):
    runtime = load_runtime(engine)
    height, width = runtime.metadata.input_hw
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 256, (1, height, width, 3), np.uint8) for _ in range(3)]
    first = [runtime(frame) for frame in frames]
    for frame, before in reversed(list(zip(frames, first))):
        again = runtime(frame)
        np.testing.assert_array_equal(again.boxes_xyxy, before.boxes_xyxy)
        np.testing.assert_array_equal(again.amodal, before.amodal)


def test_what_is_loaded_is_let_go(engine):
    cuda = Cuda(load_binding())
    load_runtime(engine)
    free_before = cuda.free_memory_bytes()
    for _ in range(5):
        load_runtime(engine)
    free_after = cuda.free_memory_bytes()
    assert free_before - free_after < 64 << 20
