"""Postprocessing: from the network's tensors to instances at camera resolution."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from amodal_perception.boxes import clip_boxes
from amodal_perception.masks import box_windows, resample_to_windows, resize_crop
from amodal_perception.runtime.contract import RawDetections
from amodal_perception.structures import (
    BoolArray,
    FloatArray,
    Instances,
    IntArray,
    LetterboxTransform,
)


@dataclass(frozen=True)
class PostprocessConfig:
    """Thresholds that decide what counts as an instance.

    Attributes:
        score_threshold: lowest score kept, 0..1.
        mask_threshold: lowest probability of a mask's pixel, 0..1.
        overlap_threshold: an instance is dropped when more than this share, 0..1, of its visible
            pixels are those of better ones: it repeats them, and would seem hidden by what it
            repeats. The rule of panoptic merging (Kirillov et al., "Panoptic Segmentation", CVPR
            2019). 1 keeps repetitions, as average precision wants it.
        max_instances: most instances kept, best first.
    """

    score_threshold: float = 0.5
    mask_threshold: float = 0.5
    overlap_threshold: float = 0.7
    max_instances: int = 100


def postprocess(
    raw: RawDetections,
    transform: LetterboxTransform,
    config: PostprocessConfig = PostprocessConfig(),
) -> Instances:
    """Turn the network's outputs into instances: thresholds, panoptic merging, mask pasting.

    Guarantees: every visible mask is inside its amodal mask; a pixel is visible of one instance
    at most (of two whose masks have it, the likelier: probability times score); every instance
    has visible pixels, and few enough of its own are those of better ones; masks lie in the image;
    scores descend.

    Args:
        raw: the network's outputs, input pixels.
        transform: where the camera image lies in the input.
        config: thresholds.

    Returns:
        Instances at camera resolution.
    """
    # A damaged model can give NaN; comparing drops NaN scores, boxes must be asked.
    sound = np.isfinite(raw.boxes_xyxy).all(axis=1) & (raw.scores > 0)
    keep = np.flatnonzero(sound & (raw.scores >= config.score_threshold))
    keep = keep[np.argsort(-raw.scores[keep], kind="stable")][: config.max_instances]
    boxes_xyxy = transform.boxes_to_camera(raw.boxes_xyxy[keep]).astype(np.float32)
    windows_xyxy = box_windows(boxes_xyxy, transform.camera_hw)
    in_image = (windows_xyxy[:, :2] < windows_xyxy[:, 2:]).all(axis=1)
    keep, boxes_xyxy, windows_xyxy = keep[in_image], boxes_xyxy[in_image], windows_xyxy[in_image]
    windows = [(slice(y0, y1), slice(x0, x1)) for x0, y0, x1, y1 in windows_xyxy.tolist()]

    probability = np.stack([raw.amodal[keep], raw.visible[keep]], axis=1)
    crops = resample_to_windows(probability, boxes_xyxy, windows_xyxy)
    # The panoptic map: at each pixel 1 + the index of the instance that has it, 0 where none does.
    instance_map = np.zeros(transform.camera_hw, np.min_scalar_type(len(windows)))
    best_score = np.zeros(transform.camera_hw, np.float32)
    amodal: list[BoolArray] = []
    for i, window in enumerate(windows):
        amodal_p, visible_p = resize_crop(crops[i], windows_xyxy[i])
        amodal.append(amodal_p >= config.mask_threshold)
        candidate = visible_p >= config.mask_threshold
        candidate &= amodal[i]
        overlap_px = np.count_nonzero(candidate & (instance_map[window] > 0))
        # Divided, not multiplied: 63 / 90 is exactly 0.7, but 0.7 * 90 is less than 63.
        if overlap_px / max(np.count_nonzero(candidate), 1) > config.overlap_threshold:
            continue
        score = visible_p * raw.scores[keep[i]]
        wins = score > best_score[window]
        wins &= candidate
        np.copyto(best_score[window], score, where=wins)
        np.copyto(instance_map[window], i + 1, where=wins)

    visible = [instance_map[window] == i for i, window in enumerate(windows, 1)]
    shown = [i for i, mask in enumerate(visible) if mask.any()]
    rows = keep[shown]
    return Instances(
        boxes_xyxy=clip_boxes(boxes_xyxy[shown], transform.camera_hw),
        scores=raw.scores[rows].astype(np.float32),
        labels=raw.labels[rows].astype(np.int32),
        size_hw=transform.camera_hw,
        windows_xyxy=windows_xyxy[shown],
        amodal_crops=tuple(amodal[i] for i in shown),
        visible_crops=tuple(visible[i] for i in shown),
        occluder_crops=_occluders(raw, rows, boxes_xyxy[shown], windows_xyxy[shown], config),
    )


def _occluders(
    raw: RawDetections,
    rows: NDArray[np.integer],
    boxes_xyxy: FloatArray,
    windows_xyxy: IntArray,
    config: PostprocessConfig,
) -> tuple[BoolArray, ...] | None:
    """Paste the occluder masks of systems that predict them (BCNet)."""
    if raw.occluder is None:
        return None
    crops = resample_to_windows(raw.occluder[rows][:, None], boxes_xyxy, windows_xyxy)
    resized = (resize_crop(crop, window) for crop, window in zip(crops, windows_xyxy))
    return tuple(probability >= config.mask_threshold for (probability,) in resized)
