"""Mean IoU by level of occlusion, on drawings."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.protocol_drawings import (
    BACK,
    BACK_SEEN,
    FRONT,
    GUESSES,
    LONE,
    NARROW,
    NARROW_SEEN,
    check,
    measured,
    predictions,
    truth,
)
from helpers.scenes import amodal_file, annotation


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
