"""`amodal doctor` judges what it finds: each mismatch has its row, its level and its remedy."""

import json
import sys
from dataclasses import replace

import pytest
from helpers.command import amodal
from helpers.recorded_engines import write_engine

from amodal_perception import doctor
from amodal_perception.doctor import ABSENT, ERROR, OK, WARNING, Findings, Imported, Row, judge

HERE = {
    "NumPy": Imported(True, "2.2.6"),
    "OpenCV": Imported(True, "4.12.0"),
    "rclpy": Imported(True, "7.1.5"),
    "RMW": Imported(True, "rmw_fastrtps_cpp"),
    "ONNX Runtime": Imported(True, "1.23.2 CPUExecutionProvider"),
    "CUDA runtime": Imported(True, "12090"),
    "TensorRT": Imported(True, "10.13.0"),
    "TensorRT for RTX": Imported(False),
}
FITTING = Findings(
    libraries=HERE,
    driver=12080,
    hardware="NVIDIA GPU at PCI 0000:01:00.0",
    gpus=(("0: NVIDIA X (12.0 GiB, compute capability 86, 28 multiprocessors), GPU-1", 86),),
    gpu_problem="",
    packages={"tensorrt-cu12": "10.13.0", "onnxruntime": "1.23.2"},
)


def row(findings, name):
    (found,) = [row for row in judge(findings) if row.name == name]
    return found


def with_library(name, imported):
    return replace(FITTING, libraries=HERE | {name: imported})


def test_a_machine_on_which_all_fits():
    rows = judge(FITTING)
    assert doctor.worst(rows) == OK
    assert {row.level for row in rows} == {OK, ABSENT}
    names = [row.name for row in rows]
    assert names == [
        *("Python", "NumPy", "OpenCV", "rclpy", "RMW", "ONNX Runtime"),
        *("CUDA driver", "CUDA runtime", "TensorRT", "TensorRT for RTX"),
        *("GPU", "CUDA versions"),
    ]


def test_a_machine_without_nvidia_is_no_fault():
    absent = dict.fromkeys(("CUDA runtime", "TensorRT", "rclpy", "RMW"), Imported(False))
    machine = replace(
        FITTING,
        libraries=HERE | absent,
        driver=0,
        hardware="",
        gpus=(),
        gpu_problem="CUDA's Python bindings do not load (x; no driver): pip install y",
        packages={},
    )
    assert doctor.worst(judge(machine)) == OK
    assert row(machine, "GPU").level == ABSENT
    with_tensorrt = replace(machine, libraries=machine.libraries | {"TensorRT": HERE["TensorRT"]})
    assert row(with_tensorrt, "GPU").level == WARNING


def test_hardware_without_a_driver():
    found = row(replace(FITTING, driver=0), "CUDA driver")
    assert (found.level, found.found) == (ERROR, "none, for NVIDIA GPU at PCI 0000:01:00.0")
    assert "sudo ubuntu-drivers install" in found.remedy


def test_why_no_gpu_can_be_used_and_what_mends_it():
    problem = "the driver finds no GPU (cudaErrorNoDevice; driver for CUDA 12.8): nvidia-smi"
    found = row(replace(FITTING, gpus=(), gpu_problem=problem), "GPU")
    words = "the driver finds no GPU (cudaErrorNoDevice; driver for CUDA 12.8)"
    assert found == Row("GPU", words, ERROR, "nvidia-smi")


def test_bindings_newer_than_the_driver():
    found = row(with_library("CUDA runtime", Imported(True, "13050")), "CUDA versions")
    assert found.level == ERROR
    assert "CUDA bindings for CUDA 13, tensorrt-cu12 for CUDA 12; the driver serves CUDA 12.8" in (
        found.found
    )
    assert found.remedy.startswith("pip install 'cuda-bindings==12.*'")


def test_two_cudas_that_the_driver_serves_both():
    machine = replace(with_library("CUDA runtime", Imported(True, "13050")), driver=13000)
    found = row(machine, "CUDA versions")
    assert (found.level, found.remedy) == (WARNING, "pip install 'cuda-bindings==12.*'")


@pytest.mark.parametrize(
    ("name", "imported", "level", "words"),
    [
        ("NumPy", Imported(False), ERROR, "pip install numpy"),
        ("rclpy", Imported(False), ABSENT, "source a ROS installation"),
        ("rclpy", Imported(True, problem="does not load: No module x"), ERROR, "Jazzy 3.12"),
        ("TensorRT", Imported(True, problem="crashes when"), ERROR, "docs/tensorrt.md"),
        ("TensorRT", Imported(True, "8.5.2.2"), ERROR, "TensorRT 10 or newer"),
        ("CUDA runtime", Imported(False), WARNING, "only an NVIDIA GPU needs it"),
    ],
)
def test_libraries_that_are_missing_or_broken(name, imported, level, words):
    found = row(with_library(name, imported), name)
    assert found.level == level
    assert words in found.remedy


def test_an_old_gpu():
    old = replace(FITTING, gpus=(("0: NVIDIA Old", 61),))
    assert row(old, "GPU").level == ERROR


def test_onnx_runtime_installed_twice():
    both = replace(FITTING, packages={"onnxruntime": "1.23", "onnxruntime-gpu": "1.23"})
    found = row(both, "ONNX Runtime")
    assert found.level == WARNING
    assert "installed twice" in found.found


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("import os; os.kill(os.getpid(), 11)", "crashes when it is imported (signal 11)"),
        ("raise ImportError('libcudart.so.12: cannot open')", "libcudart.so.12: cannot open"),
        ("while True: pass", "hangs when it is imported"),
    ],
)
def test_a_library_that_crashes_or_hangs_is_a_row(tmp_path, monkeypatch, source, problem):
    (tmp_path / "bad_library.py").write_text(source)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(doctor, "TIMEOUT_S", 5.0)
    assert problem in doctor._imported("bad_library", "1").problem


def test_python_versions():
    assert doctor._python_row((3, 9), "x86_64").level == ERROR
    assert doctor._python_row(sys.version_info[:2], "x86_64").level == OK


def test_the_command_on_this_machine(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    done = amodal("doctor", "--json")
    content = json.loads(done.stdout)
    assert done.returncode == doctor.EXIT_CODES[content["level"]]
    by_name = {row["name"]: row for row in content["rows"]}
    assert by_name["NumPy"]["level"] == by_name["model"]["level"] == OK
    assert "Python" in amodal("doctor").stdout


def test_a_model_that_cannot_be_used_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "m.onnx").write_text("nonsense")
    done = amodal("doctor", "--model", tmp_path / "m.onnx")
    assert done.returncode == 2
    assert "is no usable ONNX model" in done.stdout
    engine = write_engine(tmp_path / "m.engine", backend_version="1.0")
    done = amodal("doctor", "--model", engine)
    assert done.returncode == 2
    assert f"{engine}: " in done.stdout
