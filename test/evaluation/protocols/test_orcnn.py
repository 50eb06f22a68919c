"""ORCNN's protocol on drawings, with answers worked out on paper."""

from __future__ import annotations

import pytest
from helpers.protocol_drawings import (
    BACK,
    BACK_SEEN,
    FRONT,
    GUESSES,
    check,
    measured,
    predictions,
    truth,
)
from helpers.scenes import amodal_file, annotation, mask

from amodal_perception.evaluation.comparison import compare_files
from amodal_perception.evaluation.protocols.orcnn import orcnn


def test_orcnn():
    figures = measured(truth(), predictions(*GUESSES), "orcnn")
    two_thirds, one_third = 67 / 101, 34 / 101
    check(
        figures,
        all__AP_A=0.6 * two_thirds + 0.4 * one_third,
        all__AP_V=0.1 * two_thirds + 0.9 * one_third,
        all__AP_AV=0.1 * two_thirds + 0.9 * one_third,  # the smaller IoU decides
        # Front and its prediction are ignored: one of one found.
        occluded__AP_A=0.6,
        occluded__AP_V=0.1,
        occluded__AP_AV=0.1,
        # Hidden parts agree, but the prediction of front, which has none, is a false alarm: its
        # amodal mask has IoU 6/12 with back, too, so that the rule does not leave it out.
        occluded__AP_IV50=0.5,
        occluded__left_out_share=0,
        occluded__ambiguous_share=1,
    )


def test_orcnn_of_predictions_without_visible_masks():
    rows = [annotation(FRONT, score=0.9), annotation(BACK, score=0.8)]
    for row in rows:
        del row["visible_segmentation"]
    figures = measured(truth(), predictions(*rows), "orcnn")
    check(figures, all__AP_A=67 / 101, all__AP_AV=0.1 * 67 / 101 + 0.9 * 34 / 101)
    assert "occluded.AP_IV50" not in figures


def test_orcnn_without_classes():
    rows = [annotation(FRONT, score=0.9, category=2), annotation(BACK, BACK_SEEN, score=0.8)]
    figures = measured(truth(), predictions(*rows), "orcnn")
    # With classes the best prediction is a false alarm: precision 1/2 at recall 1/3.
    check(figures, all__AP_A=34 / 101 / 1, all_class_agnostic__AP_A=67 / 101)


def test_occluded_only_leaves_out_predictions_of_whole_objects():
    """The rule of ORCNN's AP_V: a prediction of an ignored object is no false alarm ..."""
    whole = mask("aaa...", "aaa...", "......", "......", "......", "......")
    back = mask("......", "......", "...bbb", "...bbb", "...bbb", "...bbb")
    seen = mask("......", "......", "......", "......", "...bbb", "...bbb")
    half = mask("aaa...", "......", "......", "......", "......", "......")
    truth = amodal_file(annotation(whole), annotation(back, seen))
    predictions = amodal_file(
        annotation(whole, half, score=0.9),  # its visible mask matches nothing at 0.75
        annotation(back, seen, score=0.8),
        name="predictions.json",
    )
    metrics = orcnn(compare_files(truth, predictions))
    figures = {name: metric(None) for name, metric in metrics.items()}
    assert figures["occluded.left_out_share"] == 0.5
    assert figures["occluded.ambiguous_share"] == 0
    assert figures["occluded.AP_V"] == pytest.approx(1)
    assert figures["occluded.AP_IV50"] == pytest.approx(1)
    # ... while COCO's rule alone, which AP_AV keeps, counts it as one above IoU 0.5.
    assert figures["occluded.AP_AV"] == pytest.approx((1 + 9 * 0.5) / 10)
