"""Engines that ONNX Runtime keeps: used again for the same model, libraries and GPU alone."""

import os
import stat

import pytest

from amodal_perception.runtime.onnx_engine_cache import OnnxEngineCache
from amodal_perception.runtime.providers import provider_options

MODEL = "ab" * 32
HERE = {"onnxruntime": "1.23.2", "tensorrt": "10.9", "gpu": "NVIDIA X"}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    cache = OnnxEngineCache(MODEL, HERE)
    assert stat.S_IMODE(cache.folder.stat().st_mode) == 0o700
    (cache.folder / "kernel_sm86.engine").write_bytes(b"engine")
    (cache.folder / "timings.timing").write_bytes(b"times")
    cache.note_files()
    return cache.folder


def kept(folder, identity=HERE):
    return len(list(OnnxEngineCache(MODEL, identity).folder.glob("*.engine")))


def test_the_same_machine_uses_them_again(folder):
    assert kept(folder) == 1


@pytest.mark.parametrize("key", HERE)
def test_of_another_machine_are_removed(folder, key):
    assert kept(folder, HERE | {key: "another"}) == 0
    assert list(folder.iterdir()) == []


def test_changed_or_added_files_are_removed(folder):
    (folder / "kernel_sm86.engine").write_bytes(b"changed")
    assert kept(folder) == 0


def test_planted_files_are_removed(folder):
    (folder / "kernel_sm89.engine").write_bytes(b"planted")
    assert kept(folder) == 0


def test_files_that_others_can_write_are_removed(folder):
    (folder / "kernel_sm86.engine").chmod(0o666)
    assert kept(folder) == 0


def test_half_a_build_is_removed(folder):
    (folder / "belongs_here.json").unlink()
    assert kept(folder) == 0


def test_a_link_is_not_followed(folder, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "mine.txt").write_text("precious")
    folder.rename(tmp_path / "moved")
    folder.symlink_to(elsewhere)
    assert kept(folder) == 0
    assert not folder.is_symlink()
    assert os.listdir(elsewhere) == ["mine.txt"]


def test_options_of_the_providers(tmp_path):
    assert provider_options("cpu", 1, tmp_path) == {}
    assert provider_options("cuda", 1) == {"device_id": "1", "use_tf32": "0"}
    options = provider_options("tensorrt", 2, tmp_path)
    assert options["device_id"] == "2"
    assert options["trt_engine_cache_path"] == options["trt_timing_cache_path"] == str(tmp_path)
    assert options["trt_engine_cache_enable"] == options["trt_timing_cache_enable"] == "1"
