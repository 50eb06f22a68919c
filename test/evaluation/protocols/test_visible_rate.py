"""AP of occluded objects by visible rate, on drawings."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.protocol_drawings import BACK, BACK_SEEN, LONE, measured, predictions, truth
from helpers.scenes import amodal_file, annotation


def test_vrsp_forgives_what_calls_itself_unoccluded_and_strict_does_not():
    rows = [
        annotation(BACK, BACK_SEEN, score=0.5),
        annotation(np.roll(LONE, -2, axis=0), score=0.9),  # a false alarm in full view
    ]
    true = truth()
    assert measured(true, predictions(*rows), "vrsp")["amodal_mask.AP_occ85"] == pytest.approx(1)
    strict = measured(true, predictions(*rows), "strict")
    assert strict["amodal_mask.AP_occ85"] == pytest.approx(0.5)
    # Half is visible: occluded by every bound.
    assert strict["amodal_mask.AP_occ60"] == pytest.approx(0.5)


def test_visible_rate_at_the_bound():
    """Of 20 pixels 17 are visible, 0.85: occluded in truth, and in float32 not in prediction."""
    amodal = np.zeros((6, 6), np.bool_)
    amodal.flat[:20] = True
    visible = amodal.copy()
    visible.flat[17:20] = False
    true = amodal_file(annotation(amodal, visible))
    wrong = annotation(np.roll(amodal, 14), np.roll(visible, 14), score=0.9)
    right = annotation(amodal, visible, score=0.8)
    figures = measured(true, predictions(wrong, right), "vrsp")
    assert figures["amodal_mask.AP_occ85"] == pytest.approx(1)
    assert "amodal_mask.AP_occ75" not in figures
