import pytest
from helpers.tensorrt_builds import cache_home, model

from amodal_perception.runtime.tensorrt.build import BuildOptions, build_engine

__all__ = ["cache_home", "engine", "model"]


@pytest.fixture
def engine(model):
    """Give a built engine beside its model."""
    options = BuildOptions(backend="tensorrt-rtx", compute_capability=86)
    return build_engine(model, model.with_name("discs.engine"), options).path
