"""Tiny scenes drawn as text, for tests that a reader can check by eye."""

from __future__ import annotations

import numpy as np

from amodal_perception.masks import mask_windows
from amodal_perception.structures import BoolArray, Instances


def mask(*rows: str) -> BoolArray:
    """Turn rows of text into a mask: '.' is False, anything else True."""
    return np.array([[c != "." for c in row] for row in rows], np.bool_)


def instances(
    amodal: list[BoolArray],
    visible: list[BoolArray] | None = None,
    scores: list[float] | None = None,
) -> Instances:
    """Build instances from masks; by default all is visible and certain."""
    masks = np.stack(amodal)
    windows = mask_windows(masks)
    return Instances.from_masks(
        boxes_xyxy=windows.astype(np.float32),
        scores=np.array(scores or [1.0] * len(masks), np.float32),
        labels=np.zeros(len(masks), np.int32),
        amodal=masks,
        visible=masks.copy() if visible is None else np.stack(visible),
        windows_xyxy=windows,
    )


def stacked(*amodal: BoolArray) -> Instances:
    """Build instances that lie on each other, the first on top."""
    covered = np.zeros_like(amodal[0])
    visible = []
    for layer in amodal:
        visible.append(layer & ~covered)
        covered = covered | layer
    return instances(list(amodal), visible)
