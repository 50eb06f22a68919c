"""Pairs of true and predicted instances."""

from __future__ import annotations

import numpy as np

from amodal_perception.evaluation.one_to_one_matching import match_greedily


def test_greedy_matching_takes_the_best_free_column():
    iou = np.array([[0.6, 0.7, 0.0], [0.55, 0.9, 0.0], [0.8, 0.0, 0.4]])
    assert match_greedily(iou).tolist() == [1, 0, -1]
    assert match_greedily(np.zeros((2, 0))).tolist() == [-1, -1]
