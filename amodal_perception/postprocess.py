"""The network's tensors become instances at camera resolution; the invariants hold from here."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from amodal_perception.boxes import clip_boxes
from amodal_perception.masks import box_windows, fit_crops, stretch_crop
from amodal_perception.runtime.contract import RawDetections
from amodal_perception.structures import BoolArray, FloatArray, Instances, ViewTransform


@dataclass(frozen=True)
class PostprocessConfig:
    """What counts as an instance.

    Attributes:
        score_threshold: lowest score kept, 0..1.
        mask_threshold: lowest probability of a mask's pixel, 0..1.
        max_instances: most instances kept, best first.
    """

    score_threshold: float = 0.5
    mask_threshold: float = 0.5
    max_instances: int = 100


def postprocess(
    raw: RawDetections, view: ViewTransform, config: PostprocessConfig = PostprocessConfig()
) -> Instances:
    """Turn the network's outputs into instances.

    Guarantees: every visible mask is inside its amodal mask; a pixel is visible of one instance
    at most (of two that claim it, the likelier: probability times score); every instance has
    visible pixels; masks lie in the image; scores descend.

    Args:
        raw: the network's outputs, input pixels.
        view: where the camera image lies in the input.
        config: thresholds.

    Returns:
        Instances at camera resolution.
    """
    # A damaged model can give NaN; comparing drops NaN scores, boxes must be asked.
    sound = np.isfinite(raw.boxes_xyxy).all(axis=1) & (raw.scores > 0)
    keep = np.flatnonzero(sound & (raw.scores >= config.score_threshold))
    keep = keep[np.argsort(-raw.scores[keep], kind="stable")][: config.max_instances]
    boxes_xyxy = view.boxes_to_camera(raw.boxes_xyxy[keep]).astype(np.float32)
    windows_xyxy = box_windows(boxes_xyxy, view.camera_hw)

    probability = np.stack([raw.amodal[keep], raw.visible[keep]], axis=1)
    crops = fit_crops(probability, boxes_xyxy, windows_xyxy)

    # First who owns which pixel, inside the windows alone: whole images are the costly part.
    owner = np.full(view.camera_hw, -1, np.int16)
    belief = np.zeros(view.camera_hw, np.float32)
    amodal_inside: dict[int, BoolArray] = {}
    for i, row in enumerate(keep):
        x0, y0, x1, y1 = windows_xyxy[i]
        if x0 == x1 or y0 == y1:
            continue
        amodal_p, visible_p = stretch_crop(crops[i], windows_xyxy[i])
        amodal_inside[i] = amodal_p >= config.mask_threshold
        claim = visible_p * raw.scores[row]
        claim *= amodal_inside[i] & (visible_p >= config.mask_threshold)
        wins = claim > belief[y0:y1, x0:x1]
        np.copyto(belief[y0:y1, x0:x1], claim, where=wins)
        np.copyto(owner[y0:y1, x0:x1], i, where=wins)

    visible_inside = {}
    for i in amodal_inside:
        x0, y0, x1, y1 = windows_xyxy[i]
        visible_inside[i] = owner[y0:y1, x0:x1] == i
    shown = [i for i in amodal_inside if visible_inside[i].any()]
    amodal = np.zeros((len(shown), *view.camera_hw), np.bool_)
    visible = np.zeros((len(shown), *view.camera_hw), np.bool_)
    for k, i in enumerate(shown):
        x0, y0, x1, y1 = windows_xyxy[i]
        amodal[k, y0:y1, x0:x1] = amodal_inside[i]
        visible[k, y0:y1, x0:x1] = visible_inside[i]
    rows = keep[shown]
    return Instances(
        boxes_xyxy=clip_boxes(boxes_xyxy[shown], view.camera_hw),
        scores=raw.scores[rows].astype(np.float32),
        labels=raw.labels[rows].astype(np.int32),
        amodal=amodal,
        visible=visible,
        windows_xyxy=windows_xyxy[shown],
        occluder=_paste_occluders(raw, rows, boxes_xyxy[shown], view.camera_hw, config),
    )


def _paste_occluders(
    raw: RawDetections,
    rows: NDArray[np.integer],
    boxes_xyxy: FloatArray,
    camera_hw: tuple[int, int],
    config: PostprocessConfig,
) -> BoolArray | None:
    """Paste the occluder layer of systems that predict one: [N, H, W] bool, else None."""
    if raw.occluder is None:
        return None
    occluder = np.zeros((len(rows), *camera_hw), np.bool_)
    windows_xyxy = box_windows(boxes_xyxy, camera_hw)
    crops = fit_crops(raw.occluder[rows][:, None], boxes_xyxy, windows_xyxy)
    for i, (x0, y0, x1, y1) in enumerate(windows_xyxy):
        (probability,) = stretch_crop(crops[i], windows_xyxy[i])
        occluder[i, y0:y1, x0:x1] = probability >= config.mask_threshold
    return occluder
