from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from amodal_perception.evaluation.assignment import assign


@given(
    arrays.arrays(
        np.float64,
        st.tuples(st.integers(0, 5), st.integers(0, 5)),
        elements=st.sampled_from([0, 0, 0.1, 0.25, 0.5, 0.75, 1]),
    )
)
def test_no_other_assignment_gains_more(gain):
    pairs = assign(gain)
    n, m = gain.shape
    assert len(pairs) == len(set(pairs[:, 0])) == len(set(pairs[:, 1])) == min(n, m)
    assert pairs[:, 0].tolist() == sorted(pairs[:, 0])
    wide = gain if n <= m else gain.T
    best = max(
        sum(wide[row, column] for row, column in enumerate(columns))
        for columns in itertools.permutations(range(wide.shape[1]), len(wide))
    )
    assert np.isclose(gain[pairs[:, 0], pairs[:, 1]].sum(), best)


def test_greed_is_not_enough():
    gain = np.array([[0.9, 0.8], [0.85, 0.1]])
    assert assign(gain).tolist() == [[0, 1], [1, 0]]


def test_leftovers_are_paired_in_order():
    gain = np.zeros((3, 4))
    gain[1, 0] = 0.5
    assert assign(gain).tolist() == [[0, 1], [1, 0], [2, 2]]
