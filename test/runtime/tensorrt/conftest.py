import pytest
from helpers.onnx_models import write_model


@pytest.fixture
def model(tmp_path):
    """A tiny model, in a folder of its own."""
    folder = tmp_path / "models"
    folder.mkdir()
    return write_model(folder / "discs.onnx")


@pytest.fixture(autouse=True)
def cache_home(tmp_path, monkeypatch):
    """No test touches the user's cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"
