"""Every protocol on drawings of 6 x 6 pixels, with answers worked out on paper."""

from __future__ import annotations

import math

import numpy as np
import pytest
from helpers.scenes import amodal_file, annotation, mask

from amodal_perception.evaluation.evaluate import evaluate

# Front hides half of back: the middle columns are front's. Lone is in full view.
FRONT = mask("..aa..", "..aa..", "..aa..", "......", "......", "......")  # 6 px
BACK = mask("..bbbb", "..bbbb", "..bbbb", "......", "......", "......")  # 12 px
BACK_SEEN = BACK & ~FRONT  # 6 px
LONE = mask("......", "......", "......", "......", "cccc..", "cccc..")  # 8 px
NOTHING = np.zeros((6, 6), np.bool_)


def truth(**options):
    rows = (
        annotation(FRONT),
        annotation(BACK, BACK_SEEN),
        annotation(LONE, **options.pop("lone", {})),
    )
    return amodal_file(*rows, occlusions=[(1, 2)], **options)


def predictions(*rows, **options):
    return amodal_file(*rows, name="predictions.json", **options)


def measured(true, predicted, protocol):
    prefix = f"{protocol}."
    return {
        name.removeprefix(prefix): value
        for name, value in evaluate(true, predicted, [protocol]).items()
        if name.startswith(prefix)
    }


def near(**expected):
    return {name.replace("__", "."): pytest.approx(value) for name, value in expected.items()}


def pick(figures, expected):
    return {name: figures.get(name) for name in expected}


def check(figures, **expected):
    wanted = near(**expected)
    assert pick(figures, wanted) == wanted


# Back is guessed one column too narrow (9 of 12 px, IoU 0.75), its visible part likewise (3 of 6).
NARROW = mask("..bbb.", "..bbb.", "..bbb.", "......", "......", "......")
NARROW_SEEN = NARROW & ~FRONT
GUESSES = (
    annotation(FRONT, score=0.9),
    annotation(NARROW, NARROW_SEEN, score=0.8),
)


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


def test_levels():
    figures = measured(truth(), predictions(*GUESSES), "blade")
    check(
        figures,
        # Front and lone in level 0: 1 and, as nothing overlaps it, 0. Back, half hidden, level 2.
        kins_levels__amodal_mask_mIoU_FG0=0.5,
        kins_levels__amodal_mask_mIoU_FG2=0.75,
        kins_levels__amodal_mask_mIoU_mean=0.625,
        kins_levels__visible_mask_mIoU_FG2=0.5,
        kins_levels__hidden_mask_mIoU_FG2=1,
        kins_levels__hidden_mask_mIoU_mean=1,
        kins_levels__precision50_FG0=0.5,
        cocoa_cls_levels__amodal_mask_mIoU_FG3=0.75,
    )
    assert "kins.amodal_mask_mIoU_FG0" not in figures  # the truth has none of KINS's classes


def test_wrong_class_scores_nothing_in_bayesian_amodal_and_is_passed_over_in_blade():
    rows = [
        annotation(BACK, BACK_SEEN, score=0.9, category=2),
        annotation(NARROW, NARROW_SEEN, score=0.8),
    ]
    true = amodal_file(annotation(BACK, BACK_SEEN))
    bayesian = measured(true, predictions(*rows), "bayesian_amodal")
    assert bayesian["kins_levels.amodal_mask_mIoU_FG2"] == 0
    blade = measured(true, predictions(*rows), "blade")
    assert blade["kins_levels.amodal_mask_mIoU_FG2"] == pytest.approx(0.75)


def test_levels_of_kins_take_its_classes_and_heights():
    tall = np.ones((60, 6), np.bool_)
    low = np.ones((60, 6), np.bool_)
    low[49:] = False
    classes = ("cyclist", "car", "tram", "truck", "van", "misc")
    rows = [
        annotation(tall, category=2),
        annotation(low, category=2),
        annotation(tall, category=6),
    ]
    found = predictions(annotation(tall, score=1.0, category=2), classes=classes)
    figures = measured(amodal_file(*rows, classes=classes), found, "blade")
    assert figures["kins.amodal_mask_mIoU_FG0"] == 1
    assert figures["kins_levels.amodal_mask_mIoU_FG0"] == pytest.approx((1 + 49 / 60 + 0) / 3)


def test_levels_of_occluded_vehicles_are_stored():
    rows = [
        annotation(FRONT, foreground_level=0, background_level=0),
        annotation(LONE, foreground_level=2, background_level=1),
    ]
    figures = measured(amodal_file(*rows), predictions(annotation(FRONT, score=1.0)), "blade")
    check(
        figures,
        occluded_vehicles__amodal_mask_mIoU_FG0_BG0=1,
        occluded_vehicles__amodal_mask_mIoU_FG2_BG1=0,
        occluded_vehicles__amodal_mask_mIoU_mean=0.5,
    )


def test_uoais():
    figures = measured(truth(), predictions(*GUESSES), "uoais")
    check(
        figures,
        # Predicted 6 + 9 px, all inside; true 6 + 12 + 8.
        amodal_mask__overlap_P=1,
        amodal_mask__overlap_R=15 / 26,
        amodal_mask__overlap_F=2 * 15 / 26 / (1 + 15 / 26),
        amodal_mask__F75=2 / 3,  # F of back is 18 / 21
        amodal_mask__mIoU=15 / 18,
        visible_mask__overlap_P=1,
        visible_mask__overlap_R=9 / 20,
        visible_mask__F75=1 / 3,  # F of back's visible part is 6 / 9
        hidden_mask__overlap_P=1,
        hidden_mask__overlap_R=1,
        hidden_mask__F75=1,
        occlusion__accuracy=1,
        occlusion__precision=1,
        occlusion__recall=2 / 3,
        occlusion__F=0.8,
    )


def test_uoais_boundaries():
    """One square, predicted a column to the right, and too small."""
    square = mask("......", ".aaa..", ".aaa..", ".aaa..", "......", "......")
    # Its boundary lies half a pixel up and left: lines and columns 0 and 3. The tolerance,
    # 0.03 px, is rounded up to 1, so that everything is near the other.
    moved = np.roll(square, 1, axis=1)
    figures = measured(
        amodal_file(annotation(square)), predictions(annotation(moved, score=1.0)), "uoais"
    )
    check(
        figures,
        amodal_mask__boundary_P=1,
        amodal_mask__boundary_R=1,
        amodal_mask__overlap_P=6 / 9,
        amodal_mask__F75=0,
    )
    # A square of 2 x 2 instead: the ring's lines and columns 0 and 2 are all near the other; of
    # the other's, only the corner (3, 3) is near nothing.
    small = mask("......", ".aa...", ".aa...", "......", "......", "......")
    figures = measured(
        amodal_file(annotation(square)), predictions(annotation(small, score=1.0)), "uoais"
    )
    check(figures, amodal_mask__boundary_P=1, amodal_mask__boundary_R=11 / 12)


def test_uoais_boundaries_do_not_run_along_the_image_border():
    """A mask at the right border is taken to go on beyond it."""
    half = mask("...aaa", "...aaa", "...aaa", "...aaa", "...aaa", "...aaa")
    whole = mask("aaaaaa", "aaaaaa", "aaaaaa", "aaaaaa", "aaaaaa", "aaaaaa")
    figures = measured(
        amodal_file(annotation(half)), predictions(annotation(whole, score=1.0)), "uoais"
    )
    check(figures, amodal_mask__boundary_P=0, amodal_mask__boundary_R=0)
    figures = measured(
        amodal_file(annotation(half)), predictions(annotation(half, score=1.0)), "uoais"
    )
    check(figures, amodal_mask__boundary_P=1, amodal_mask__boundary_R=1)


@pytest.mark.parametrize(
    ("rows", "guesses", "expected"),
    [
        ((annotation(FRONT),), (), {"overlap_P": 1, "overlap_R": 0, "overlap_F": 0, "F75": 0}),
        ((), (annotation(FRONT, score=0.9),), {"overlap_P": 0, "overlap_R": 1, "overlap_F": 0}),
        ((), (), {"overlap_P": 1, "overlap_R": 1, "overlap_F": 1, "F75": 1}),
    ],
)
def test_uoais_of_empty_sides(rows, guesses, expected):
    """A second image holds one object, found, so that half of every figure is 1."""
    rows = [*rows, annotation(LONE, image=2)]
    guesses = [*guesses, annotation(LONE, image=2, score=0.9)]
    figures = measured(amodal_file(*rows, images=2), predictions(*guesses, images=2), "uoais")
    for name, value in expected.items():
        assert figures[f"amodal_mask.{name}"] == pytest.approx((value + 1) / 2)


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


def test_matched():
    figures = measured(truth(), predictions(*GUESSES), "matched")
    check(
        figures,
        instances__recall=2 / 3,
        instances__precision=1,
        amodal_mask__mean_IoU=(1 + 0.75) / 2,
        visible_mask__mean_IoU=(1 + 0.5) / 2,
        hidden_mask__mean_IoU=1,
    )
