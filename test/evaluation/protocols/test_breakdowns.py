"""Figures by class and by hidden share, on drawings."""

from __future__ import annotations

import math

import pytest
from helpers.protocol_drawings import GUESSES, predictions, truth

from amodal_perception.evaluation.evaluate import evaluate


def test_tables():
    true = truth(lone={"category": 2})
    figures = evaluate(true, predictions(*GUESSES), None)
    assert figures["per_class.cup.amodal_mask_AP50"] == pytest.approx(1)
    assert figures["per_class.box.amodal_mask_AP50"] == 0
    assert figures["per_occlusion.hidden_0.recall"] == 0.5
    assert figures["per_occlusion.hidden_40_60.recall"] == 1
    assert figures["per_occlusion.hidden_40_60.amodal_mask_mean_IoU"] == pytest.approx(0.75)
    # Front's prediction matches an ignored object; nothing else is a false alarm up to 0.75.
    assert figures["per_occlusion.hidden_40_60.amodal_mask_AP"] == pytest.approx(0.6)
    assert not any(math.isnan(value) or value < 0 for value in figures.values())
