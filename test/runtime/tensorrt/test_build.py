"""Engines are built for real by TensorRT for RTX, which needs no GPU for it."""

import json
import os
import resource
import signal
import subprocess
import sys
from functools import partial

import numpy as np
import onnx
import pytest
from helpers.onnx_models import write_model
from onnx import helper, numpy_helper

from amodal_perception.commands.inspect_file import describe
from amodal_perception.errors import ConfigError, ModelFileError
from amodal_perception.files import sha256_of
from amodal_perception.runtime import DEFAULT_MODEL
from amodal_perception.runtime.tensorrt import build as build_module
from amodal_perception.runtime.tensorrt import gpu
from amodal_perception.runtime.tensorrt import manifest as manifests
from amodal_perception.runtime.tensorrt.build import BuildOptions, build_engine
from amodal_perception.runtime.tensorrt.manifest import manifest_path

pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed")
RTX_86 = BuildOptions(backend="tensorrt-rtx", compute_capability=86)
WORDS = (sys.executable, "-m", "amodal_perception.cli", "build-engine")
WORDS_86 = ("--backend", "tensorrt-rtx", "--compute-capability", "86")


def amodal(*words, **options):
    return subprocess.run([*WORDS, *map(str, words)], capture_output=True, text=True, **options)


def said(done) -> str:
    """Return the one line of a failure."""
    assert done.returncode == 1, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("amodal: ")]
    assert "Traceback" not in done.stderr
    return line


def test_engine_and_manifest(model, tmp_path):
    built = build_engine(model, tmp_path / "e" / "discs.engine", RTX_86)
    assert built.is_new
    content = json.loads((tmp_path / "e" / "discs.engine.json").read_text())
    assert content["onnx_sha256"] == sha256_of(model)
    assert content["engine_sha256"] == sha256_of(built.path)
    assert (content["backend"], content["compute_capability"]) == ("tensorrt-rtx", 86)
    assert content["inputs"] == {"image": {"shape": [1, 288, 384, 3], "dtype": "uint8"}}
    assert content["outputs"]["labels"] == {"shape": [32], "dtype": "int64"}
    assert set(content["layers"].values()) >= {"float32", "int64"}
    assert sorted(p.name for p in built.path.parent.iterdir()) == [
        "discs.engine",
        "discs.engine.json",
    ]
    manifest, metadata, engine = manifests.read_trusted(built.path)
    assert manifest == built.manifest
    assert metadata.name == "two_discs"
    assert engine == built.path.read_bytes()


def test_inspect_tells_of_an_engine(model, tmp_path):
    found = describe(build_engine(model, tmp_path / "discs.engine", RTX_86).path)
    assert found["built for"] == "compute capability 86"
    assert found["can be used"] == "yes, on such a GPU"
    assert found["precision"] == "fp32"


def test_what_is_there_is_not_built_again(model, tmp_path):
    out = tmp_path / "discs.engine"
    first = build_engine(model, out, RTX_86)
    assert not build_engine(model, out, RTX_86).is_new
    assert build_engine(model, out, RTX_86, force=True).is_new
    for_89 = BuildOptions(backend="tensorrt-rtx", compute_capability=89)
    assert build_engine(model, out, for_89).is_new
    write_model(model, scores=np.array([0.8, 0.7]))
    changed = build_engine(model, out, for_89)
    assert changed.is_new
    assert changed.manifest.onnx_sha256 != first.manifest.onnx_sha256


def test_without_out_the_engine_lies_in_the_private_cache(model, cache_home):
    built = build_engine(model, options=RTX_86)
    assert built.path.parent == cache_home / "amodal_perception" / "engines"
    assert built.path.parent.stat().st_mode & 0o777 == 0o700
    assert built.path.name.startswith("discs-")
    assert built.path.name.endswith("-sm86.engine")


def test_int8_in_name_only_is_refused(model, tmp_path):
    graph = onnx.load(model)
    graph.metadata_props.add(key="precision", value="int8")
    onnx.save(graph, model)
    with pytest.raises(ModelFileError, match="says its precision is int8, but no layer would"):
        build_engine(model, tmp_path / "e.engine", RTX_86)
    assert not (tmp_path / "e.engine").exists()


def test_what_the_parser_does_not_know_is_named_in_one_line(model, tmp_path):
    graph = onnx.load(model)
    (cast,) = [n for n in graph.graph.node if n.op_type == "ReduceMax"]
    graph.graph.initializer.append(numpy_helper.from_array(np.array([-1], np.int64), "flat"))
    cast.input[0] = "single"
    graph.graph.node.insert(1, helper.make_node("Reshape", ["pixels", "flat"], ["row"]))
    graph.graph.node.insert(2, helper.make_node("Unique", ["row"], ["single"]))
    onnx.save(graph, model)
    done = amodal(model, "--out", tmp_path / "e.engine", *WORDS_86)
    assert "TensorRT's parser refuses it" in said(done)
    assert not list(tmp_path.glob("*e.engine*"))


@pytest.mark.parametrize("damage", [lambda b: b[:200], lambda b: b"nonsense", lambda b: b""])
def test_damaged_models_are_not_given_to_tensorrt(model, tmp_path, damage):
    model.write_bytes(damage(model.read_bytes()))
    with pytest.raises(ModelFileError, match=r"discs\.onnx: "):
        build_engine(model, tmp_path / "e.engine", RTX_86)


@pytest.mark.parametrize("location", ["weights.bin", "../weights.bin", "/etc/hostname"])
def test_data_outside_the_file_is_not_read(model, tmp_path, monkeypatch, location):
    monkeypatch.chdir(model.parent)
    for folder in (model.parent, tmp_path):
        np.zeros(128, np.float32).tofile(folder / "weights.bin")
    graph = onnx.load(model)
    boxes = next(t for t in graph.graph.initializer if t.name == "fixed_boxes")
    boxes.ClearField("raw_data")
    boxes.data_location = onnx.TensorProto.EXTERNAL
    boxes.external_data.add(key="location", value=location)
    model.write_bytes(graph.SerializeToString())
    with pytest.raises(ModelFileError, match="its weights are in other files"):
        build_engine(model, tmp_path / "e.engine", RTX_86)


def test_full_disk(model, tmp_path):
    out = tmp_path / "out" / "e.engine"
    limit = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (100_000, 100_000))
    done = amodal(model, "--out", out, *WORDS_86, preexec_fn=limit)
    assert f"{out}: File too large" in said(done)
    assert list(out.parent.iterdir()) == []


def test_interrupted_build_leaves_nothing(tmp_path, monkeypatch):
    def monitor(backend, cancelled):
        made = make_monitor(backend, cancelled)
        start = made.phase_start

        class Interrupting(type(made)):
            def phase_start(self, phase_name, parent_phase, num_steps):
                start(phase_name, parent_phase, num_steps)
                if not interrupted:
                    interrupted.append(phase_name)
                    os.kill(os.getpid(), signal.SIGINT)

        return Interrupting()

    interrupted = []
    make_monitor = build_module.make_monitor
    monkeypatch.setattr(build_module, "make_monitor", monitor)
    out = tmp_path / "out" / "e.engine"
    # A shell that started the tests in the background has them ignore it.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            build_engine(DEFAULT_MODEL, out, RTX_86)
    finally:
        signal.signal(signal.SIGINT, before)
    assert interrupted
    assert list(out.parent.iterdir()) == []


def test_what_a_killed_build_left_is_removed(model, tmp_path):
    out = tmp_path / "out" / "e.engine"
    out.parent.mkdir()
    for name in (".e.engine.123.tmp", ".e.engine.json.123.tmp", ".other.engine.123.tmp"):
        (out.parent / name).write_bytes(b"half")
    build_engine(model, out, RTX_86)
    assert {path.name for path in out.parent.iterdir()} == {
        "e.engine",
        "e.engine.json",
        ".other.engine.123.tmp",
    }


def test_two_processes_build_one_engine(model, tmp_path):
    out = tmp_path / "e.engine"
    words = [*WORDS, str(model), "--out", str(out), *WORDS_86]
    both = [subprocess.Popen(words, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    texts = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sorted("is there already" in text for text in texts) == [False, True]
    manifests.read_trusted(out)


def test_without_gpu_one_must_be_named(model, tmp_path):
    if gpu.compute_capability() is not None:
        pytest.skip("a GPU is here")
    done = amodal(model, "--out", tmp_path / "e.engine")
    assert "name one with --compute-capability, such as 86" in said(done)


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
    assert message in said(amodal(model, *words, cwd=tmp_path))


def test_no_model_named():
    assert "name an .onnx file" in said(amodal())


def test_backend_that_is_not_installed(model):
    try:
        import tensorrt  # noqa: F401
    except ImportError:
        with pytest.raises(ConfigError, match="tensorrt is not installed; pip install"):
            build_engine(model, options=BuildOptions(backend="tensorrt"))
    else:
        pytest.skip("TensorRT is installed")


def test_check_list_and_prune(model, tmp_path, cache_home):
    assert amodal(model, *WORDS_86).returncode == 0
    folder = cache_home / "amodal_perception" / "engines"
    (engine,) = folder.glob("*.engine")
    done = amodal("--check", engine)
    assert "can be used" in done.stdout

    write_model(model, scores=np.array([0.8, 0.7]))
    assert "is stale" in said(amodal("--check", engine))
    (folder / ".half.engine.1.tmp").write_bytes(b"left by a crash")
    (folder / "gone.engine.json").write_text("{}")
    assert amodal(model, *WORDS_86).returncode == 0
    done = amodal("--list")
    assert "2 engines in" in done.stdout
    assert done.stdout.count("can be used") == 1
    done = amodal("--prune")
    assert "4 files removed" in done.stdout
    (left,) = folder.glob("*.engine")
    assert left != engine
    assert sorted(folder.iterdir()) == [left, manifest_path(left)]
