"""`amodal build-engine`, a process of its own: real builds, and failures of one line."""

import resource
import subprocess
from functools import partial

import numpy as np
import onnx
import pytest
from helpers.command import AMODAL, amodal, failure
from helpers.onnx_models import write_model
from onnx import helper, numpy_helper

from amodal_perception.runtime.tensorrt import gpu
from amodal_perception.runtime.tensorrt import manifest as manifests
from amodal_perception.runtime.tensorrt.manifest import manifest_path

pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed")

pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed")
WORDS_86 = ("--backend", "tensorrt-rtx", "--compute-capability", "86")


def build(*words, **options):
    return amodal("build-engine", *words, **options)


def test_what_the_parser_does_not_know_is_named_in_one_line(model, tmp_path):
    graph = onnx.load(model)
    (cast,) = [n for n in graph.graph.node if n.op_type == "ReduceMax"]
    graph.graph.initializer.append(numpy_helper.from_array(np.array([-1], np.int64), "flat"))
    cast.input[0] = "single"
    graph.graph.node.insert(1, helper.make_node("Reshape", ["pixels", "flat"], ["row"]))
    graph.graph.node.insert(2, helper.make_node("Unique", ["row"], ["single"]))
    onnx.save(graph, model)
    done = build(model, "--out", tmp_path / "e.engine", *WORDS_86)
    assert "TensorRT's parser refuses it" in failure(done)
    assert not list(tmp_path.glob("*e.engine*"))


def test_full_disk(model, tmp_path):
    out = tmp_path / "out" / "e.engine"
    limit = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (100_000, 100_000))
    done = build(model, "--out", out, *WORDS_86, preexec_fn=limit)
    assert f"{out}: File too large" in failure(done)
    assert list(out.parent.iterdir()) == []


def test_two_processes_build_one_engine(model, tmp_path):
    out = tmp_path / "e.engine"
    words = [*AMODAL, "build-engine", str(model), "--out", str(out), *WORDS_86]
    both = [subprocess.Popen(words, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    texts = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sorted("is there already" in text for text in texts) == [False, True]
    manifests.read_trusted(out)


def test_without_gpu_one_must_be_named(model, tmp_path):
    if not gpu.problem():
        pytest.skip("a GPU is here")
    done = build(model, "--out", tmp_path / "e.engine")
    message = failure(done)
    assert "name one with --compute-capability, such as 86" in message
    assert gpu.problem() in message


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--compute-capability", "87"], "compute capability 87 is unknown; known: 75, 80, 86"),
        (["--compute-capability", "86", "--workspace", "-1"], "workspace is -1 MiB"),
        (["--compute-capability", "86", "--optimization-level", "9"], "must be 0 to 5"),
        (["--out", "e.plan"], "must end in .engine"),
    ],
)
def test_options_out_of_range(model, tmp_path, words, message):
    assert message in failure(build(model, *words, cwd=tmp_path))


def test_no_model_named():
    assert "name an .onnx file" in failure(build())


def test_check_list_and_prune(model, tmp_path, cache_home):
    assert build(model, *WORDS_86).returncode == 0
    folder = cache_home / "amodal_perception" / "engines"
    (engine,) = folder.glob("*.engine")
    done = build("--check", engine)
    assert "can be used" in done.stdout

    write_model(model, scores=np.array([0.8, 0.7]))
    assert "is stale" in failure(build("--check", engine))
    (folder / ".half.engine.1.tmp").write_bytes(b"left by a crash")
    (folder / "gone.engine.json").write_text("{}")
    assert build(model, *WORDS_86).returncode == 0
    done = build("--list")
    assert "2 engines in" in done.stdout
    assert done.stdout.count("can be used") == 1
    done = build("--prune")
    assert "4 files removed" in done.stdout
    (left,) = folder.glob("*.engine")
    assert left != engine
    assert sorted(folder.iterdir()) == [left, manifest_path(left)]
