import pytest

from training.loop.config import from_mapping
from training.loop.optim import learning_rate


def test_learning_rate_rises_then_falls_to_nothing():
    config = from_mapping({"iterations": 100, "warmup": 10, "learning_rate": 1.0}, source="test")
    rates = [learning_rate(config, i) for i in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[9] == pytest.approx(1.0)
    assert rates == sorted(rates[:10]) + sorted(rates[10:], reverse=True)
    assert rates[100] == pytest.approx(0.0)
