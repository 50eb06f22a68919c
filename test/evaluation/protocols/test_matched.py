"""Figures of matched instances, on drawings."""

from __future__ import annotations

from helpers.protocol_drawings import GUESSES, check, measured, predictions, truth


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
