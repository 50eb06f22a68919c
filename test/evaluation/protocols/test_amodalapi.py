"""amodalAPI's protocol on drawings, with answers worked out on paper."""

from __future__ import annotations

from helpers.protocol_drawings import (
    BACK,
    BACK_SEEN,
    FRONT,
    GUESSES,
    LONE,
    check,
    measured,
    predictions,
)
from helpers.scenes import amodal_file, annotation


def test_amodalapi():
    rows = [
        annotation(FRONT, isstuff=0),
        annotation(BACK, BACK_SEEN, isstuff=0),
        annotation(LONE, isstuff=1),
    ]
    figures = measured(amodal_file(*rows), predictions(*GUESSES), "amodalapi")
    check(
        figures,
        amodal_mask__AR100=0.6 * 2 / 3 + 0.4 / 3,
        amodal_mask__AR1=1 / 3,
        # Front and lone are unoccluded: one of two found; back's match is ignored to 0.75.
        amodal_mask__AP50_none=51 / 101,
        amodal_mask__AR100_none=0.5,
        amodal_mask__AP50_heavy=1,
        amodal_mask__AR100_heavy=0.6,
        amodal_mask_things__AP50=1,
        amodal_mask_stuff__AP50=0,
    )
    assert "amodal_mask.AP_partial" not in figures
