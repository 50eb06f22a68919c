"""Occlusion and depth order on drawings: pcnet, order, instaorder, and edges by hidden share."""

from __future__ import annotations

import pytest
from helpers.protocol_drawings import (
    BACK,
    BACK_SEEN,
    FRONT,
    LONE,
    check,
    measured,
    predictions,
    truth,
)
from helpers.scenes import amodal_file, annotation, mask


def order_scene(*edges):
    rows = [
        annotation(FRONT, score=0.9),
        annotation(BACK, BACK_SEEN, score=0.8),
        annotation(LONE, score=0.7),
    ]
    return predictions(*rows, occlusions=edges)


@pytest.mark.parametrize(
    ("edges", "accuracy_all", "accuracy_occluded", "matrix_accuracy"),
    [
        ([(1, 2)], 1, 1, 1),
        ([], 2 / 3, 0, 5 / 6),
        ([(2, 1)], 2 / 3, 0, 4 / 6),
        # Both ways: front covers 6 px of back, back none of front: front is in front.
        ([(1, 2), (2, 1)], 1, 1, 5 / 6),
        ([(1, 2), (1, 3)], 2 / 3, 1, 5 / 6),
    ],
)
def test_order_matrices(edges, accuracy_all, accuracy_occluded, matrix_accuracy):
    pcnet = measured(truth(), order_scene(*edges), "pcnet")
    for scope in ("matched_pairs", "end_to_end"):
        assert pcnet[f"{scope}.accuracy_all"] == pytest.approx(accuracy_all)
        assert pcnet[f"{scope}.accuracy_occluded"] == accuracy_occluded
    order = measured(truth(), order_scene(*edges), "order")
    assert order["matched_pairs.matrix_accuracy"] == pytest.approx(matrix_accuracy)


@pytest.mark.parametrize(
    ("edges", "share"), [([], 0), ([(1, 2)], 1), ([(2, 1)], 0), ([(1, 2), (2, 1), (1, 3)], 1)]
)
def test_edges_count_where_what_they_hide_is_hidden(edges, share):
    figures = measured(truth(), order_scene(*edges), "per_occlusion")
    assert figures["hidden_40_60.edge_recall"] == share
    assert "hidden_0.edge_recall" not in figures


def test_missed_objects_cost_end_to_end():
    found = predictions(annotation(FRONT, score=0.9), annotation(LONE, score=0.7))
    pcnet = measured(truth(), found, "pcnet")
    check(pcnet, matched_pairs__accuracy_all=1, end_to_end__accuracy_all=1 / 3)
    assert "matched_pairs.accuracy_occluded" not in pcnet
    assert pcnet["end_to_end.accuracy_occluded"] == 0
    order = measured(truth(), found, "order")
    check(order, end_to_end__recall=0, end_to_end__F1=0, end_to_end__matrix_accuracy=1 / 3)


def test_edges_at_false_alarms_cost_end_to_end_only():
    stray = mask("......", "......", "......", "dddddd", "......", "......")
    rows = [
        annotation(FRONT, score=0.9),
        annotation(BACK, BACK_SEEN, score=0.8),
        annotation(stray, score=0.7),
    ]
    found = predictions(*rows, occlusions=[(1, 2), (3, 1)])
    order = measured(truth(), found, "order")
    check(order, matched_pairs__precision=1, end_to_end__precision=0.5, end_to_end__recall=1)
    instaorder = measured(truth(), found, "instaorder")
    check(instaorder, matched_pairs__precision=1, end_to_end__precision=0.5)


def test_instaorder_averages_images_and_mutual_occlusion_is_two_entries():
    rows = [annotation(FRONT), annotation(BACK, BACK_SEEN), annotation(LONE)]
    rows += [annotation(FRONT, image=2), annotation(LONE, image=2)]
    true = amodal_file(*rows, occlusions=[(1, 2), (2, 1), (1, 3)], images=2)
    guesses = [{**row, "score": 0.9} for row in rows]
    found = predictions(*guesses, occlusions=[(1, 2), (3, 1)], images=2)
    figures = measured(true, found, "instaorder")
    # Image 1: one of two predicted, one of three true. Image 2: nothing to find, nothing found: 1.
    check(
        figures,
        matched_pairs__precision=(1 / 2 + 1) / 2,
        matched_pairs__recall=(1 / 3 + 1) / 2,
        matched_pairs__F1=(2 / 5 + 1) / 2,
        # Without the mutual pair: one predicted, wrong; one true, missed.
        matched_pairs__precision_no_mutual=0.5,
        matched_pairs__recall_no_mutual=0.5,
        matched_pairs__F1_no_mutual=0.5,
    )


def test_whdr():
    def said(closer, farther, **extra):
        return {"closer_id": closer, "farther_id": farther, **extra}

    rows = [annotation(FRONT), annotation(BACK, BACK_SEEN), annotation(LONE)]
    orders = [
        said(1, 2, count=2),  # weighs 1
        said(2, 3, count=4, overlap=True),  # weighs 1/2
        said(1, 3, equal=True, count=2),
    ]
    true = amodal_file(*rows, depth_orders=orders)
    guesses = [{**row, "score": 0.9} for row in rows]
    answers = [said(1, 2), said(3, 2), said(3, 1, equal=True)]
    figures = measured(true, predictions(*guesses, depth_orders=answers), "instaorder")
    check(
        figures,
        matched_pairs__WHDR_distinct=0,
        matched_pairs__WHDR_distinct_eq=0,
        matched_pairs__WHDR_overlap=1,
        matched_pairs__WHDR_overlap_neq=1,
        matched_pairs__WHDR_all=0.5 / 2.5,
        matched_pairs__WHDR_all_neq=0.5 / 1.5,
    )
    assert "matched_pairs.WHDR_overlap_eq" not in figures
    missed = predictions(*guesses[:2], depth_orders=answers[:1])
    figures = measured(true, missed, "instaorder")
    check(figures, matched_pairs__WHDR_all=0, end_to_end__WHDR_all=1.5 / 2.5)
