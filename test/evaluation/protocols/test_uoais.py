"""UOAIS's protocol on drawings, with answers worked out on paper."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.protocol_drawings import FRONT, GUESSES, LONE, check, measured, predictions, truth
from helpers.scenes import amodal_file, annotation, mask

from amodal_perception.evaluation.protocols.uoais import hungarian_assignment


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


GREED_IS_NOT_ENOUGH = [[0.9, 0.8], [0.85, 0.1]]
ONE_GAIN = [[0, 0, 0, 0], [0.5, 0, 0, 0], [0, 0, 0, 0]]


@pytest.mark.parametrize(
    ("gain", "pairs"),
    [
        (GREED_IS_NOT_ENOUGH, [[0, 1], [1, 0]]),
        (ONE_GAIN, [[1, 0], [0, 1], [2, 2]]),
        (np.transpose(ONE_GAIN), [[0, 1], [1, 0], [2, 2]]),
        (np.zeros((2, 1)), [[0, 0]]),
        (np.zeros((0, 3)), []),
    ],
)
def test_pairs_without_gain_are_made_last_and_in_order(gain, pairs):
    assert hungarian_assignment(np.asarray(gain, np.float64)).tolist() == pairs
