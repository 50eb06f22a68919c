"""Calibration of scores on drawings."""

from __future__ import annotations

import numpy as np
from helpers.protocol_drawings import FRONT, LONE, check, measured, predictions, truth
from helpers.scenes import annotation


def test_calibration():
    rows = [
        annotation(FRONT, score=0.95),  # right
        annotation(LONE, score=0.65),  # right
        annotation(np.roll(LONE, -2, axis=0), score=0.45),  # wrong
    ]
    figures = measured(truth(), predictions(*rows), "calibration")
    check(
        figures,
        amodal_mask__ECE=(0.05 + 0.35 + 0.45) / 3,
        amodal_mask__Brier=(0.05**2 + 0.35**2 + 0.45**2) / 3,
    )
