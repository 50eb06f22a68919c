"""The peer of the benchmark."""

import pytest

pytest.importorskip("torchvision", reason="needs torchvision")
from training.studies.torchvision_peer import steps


def test_finds_as_many_instances_as_asked():
    step, facts = steps((64, 96), 7, 2, 1)
    assert facts == {"instances": 7}
    assert step()["inference"] > 0
