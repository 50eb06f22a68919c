import numpy as np
import pytest

from amodal_perception.evaluation.protocols.uoais import hungarian_assignment

GREED_IS_NOT_ENOUGH = [[0.9, 0.8], [0.85, 0.1]]
ONE_GAIN = [[0, 0, 0, 0], [0.5, 0, 0, 0], [0, 0, 0, 0]]


@pytest.mark.parametrize(
    ("gain", "pairs"),
    [
        (GREED_IS_NOT_ENOUGH, [[0, 1], [1, 0]]),
        (ONE_GAIN, [[1, 0], [0, 1], [2, 2]]),
        (np.transpose(ONE_GAIN), [[0, 1], [1, 0], [2, 2]]),
        (np.zeros((2, 1)), [[0, 0]]),
        (np.zeros((0, 3)), []),
    ],
)
def test_pairs_without_gain_are_made_last_and_in_order(gain, pairs):
    assert hungarian_assignment(np.asarray(gain, np.float64)).tolist() == pairs
