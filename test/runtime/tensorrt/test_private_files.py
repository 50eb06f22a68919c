"""Engines and their cache: nobody else may have written them."""

import os
import stat

import pytest

from amodal_perception.errors import ModelFileError
from amodal_perception.runtime import load_runtime
from amodal_perception.runtime.tensorrt.manifest import manifest_path, read_trusted
from amodal_perception.runtime.tensorrt.private_files import cache_folder

pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed")


@pytest.mark.parametrize("which", ["engine", "manifest", "folder"])
def test_writable_by_anybody(engine, which):
    place = {"engine": engine, "manifest": manifest_path(engine), "folder": engine.parent}[which]
    place.chmod(place.stat().st_mode | stat.S_IWOTH)
    with pytest.raises(ModelFileError, match=r"anybody can write to .*; chmod o-w"):
        load_runtime(engine)


def test_writable_by_anybody_behind_a_link(engine, tmp_path):
    link = tmp_path / "current.engine"
    link.symlink_to(engine)
    manifest_path(link).symlink_to(manifest_path(engine))
    read_trusted(link)
    engine.chmod(0o666)
    with pytest.raises(ModelFileError, match="anybody can write to"):
        load_runtime(link)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("place", [lambda engine: engine, manifest_path])
def test_of_another_user(engine, place, monkeypatch):
    os.chown(place(engine), 12345, -1)
    with pytest.raises(ModelFileError, match="belongs to user 12345; build the engine yourself"):
        load_runtime(engine)


def test_cache_behind_a_link_is_refused(tmp_path, cache_home):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (cache_home / "amodal_perception").mkdir(parents=True)
    (cache_home / "amodal_perception" / "engines").symlink_to(elsewhere)
    with pytest.raises(ModelFileError, match="is a link, where engines want a folder"):
        cache_folder()


def test_cache_that_others_can_write_to_is_refused(cache_home):
    folder = cache_folder()
    folder.chmod(0o755)  # readable by others is mended, for nothing can have been planted
    assert cache_folder().stat().st_mode & 0o777 == 0o700
    folder.chmod(0o777)
    with pytest.raises(ModelFileError, match="others can write to it"):
        cache_folder()
