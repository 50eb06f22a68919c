"""Figures that can be weighted by image."""

from __future__ import annotations

import numpy as np

from amodal_perception.evaluation.weighted_metrics import MeanOf, Ratio


def test_mean_of_measures_leaves_out_those_of_nothing():
    nothing, half = Ratio(np.zeros(2), np.zeros(2)), Ratio(np.ones(2), np.array([1.0, 3.0]))
    assert MeanOf([nothing, half])(None) == 0.5
    assert np.isnan(MeanOf([nothing])(None))
