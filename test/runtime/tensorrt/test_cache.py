"""The cache of engines; `amodal build-engine` checks, lists and prunes it."""

import pytest

from amodal_perception.runtime.tensorrt.build import BuildOptions, build_engine

pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed")
RTX_86 = BuildOptions(backend="tensorrt-rtx", compute_capability=86)


def test_without_out_the_engine_lies_in_the_private_cache(model, cache_home):
    built = build_engine(model, options=RTX_86)
    assert built.path.parent == cache_home / "amodal_perception" / "engines"
    assert built.path.parent.stat().st_mode & 0o777 == 0o700
    assert built.path.name.startswith("discs-")
    assert built.path.name.endswith("-sm86.engine")
