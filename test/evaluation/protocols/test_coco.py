"""COCO's protocol on drawings, with answers worked out on paper."""

from __future__ import annotations

from helpers.protocol_drawings import GUESSES, check, measured, predictions, truth


def test_coco():
    """Two of three found: recall 2/3, precision 1 up to there: 67 of 101 recall points."""
    figures = measured(truth(), predictions(*GUESSES), "coco")
    two_thirds, one_third = 67 / 101, 34 / 101
    check(
        figures,
        # IoU 0.75 holds at 0.50 to 0.75, six of ten thresholds; then only front is found.
        amodal_mask__AP=0.6 * two_thirds + 0.4 * one_third,
        amodal_mask__AP50=two_thirds,
        amodal_mask__AP75=two_thirds,
        amodal_mask__AR100=0.6 * 2 / 3 + 0.4 / 3,
        amodal_mask__AR1=1 / 3,
        visible_mask__AP=0.1 * two_thirds + 0.9 * one_third,
        amodal_box__AP75=two_thirds,
        visible_box__AP75=one_third,
    )
    assert "amodal_mask.APm" not in figures  # nothing of that size: left out, not -1
