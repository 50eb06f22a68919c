"""Mask scoring: lower the score of a detection whose masks are unsure (maskness of SOLO)."""

from __future__ import annotations

from torch import Tensor

from training.structures import Detections


def rescore_by_maskness(found: Detections) -> Detections:
    """Mask scoring: multiply scores by the maskness of both masks, and sort again.

    Maskness is the mean probability of a mask's pixels (Wang et al., "SOLO: A Simple Framework
    for Instance Segmentation", TPAMI 2021). A detector's scores do not depend on masks.
    """
    scores = found.scores * _maskness(found.amodal) * _maskness(found.visible)
    scores, order = scores.topk(int(scores.shape[1]), dim=1)
    reordered = {
        name: _reordered(values, order)
        for name, values in found._asdict().items()
        if values is not None
    }
    return Detections(**{**reordered, "scores": scores})


def _maskness(masks: Tensor) -> Tensor:
    """Return the mean of the probabilities of [B, N, m, m] from 0.5 on, 0 without any: [B, N]."""
    inside = (masks >= 0.5).to(masks.dtype)
    return (masks * inside).mean((2, 3)) / inside.mean((2, 3)).clamp(min=1e-9)


def _reordered(values: Tensor, order: Tensor) -> Tensor:
    """Gather [B, N, ...] values in the order of indices [B, N]."""
    while order.ndim < values.ndim:
        order = order[..., None]
    return values.gather(1, order.expand(values.shape))
