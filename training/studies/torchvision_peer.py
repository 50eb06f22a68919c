"""Latency peer: how fast is torchvision's Mask R-CNN? For ``amodal bench --peer torchvision``."""

from __future__ import annotations

import time
from typing import Any

import torch
from torchvision.models.detection import maskrcnn_resnet50_fpn

from amodal_perception.benchmark.fixed_objects import jpeg_messages
from amodal_perception.benchmark.timed_processes import Step
from amodal_perception.conversions.images import message_to_frame
from amodal_perception.storage.amodal_coco import Json


def steps(
    input_hw: tuple[int, int], instances: int, classes: int, num_threads: int
) -> tuple[Step, Json]:
    """Make the steps: an image through Mask R-CNN R50-FPN with random weights.

    Speed needs no training. Random weights find nothing, so the thresholds are opened: it
    always returns `instances` objects, and pays for their masks as ours does.
    """
    torch.set_num_threads(num_threads)
    torch.manual_seed(0)
    model = maskrcnn_resnet50_fpn(
        weights=None,
        weights_backbone=None,
        num_classes=classes + 1,
        min_size=min(input_hw),
        max_size=max(input_hw),
        box_score_thresh=0.0,
        box_nms_thresh=1.0,
        box_detections_per_img=instances,
    ).eval()
    image = message_to_frame(jpeg_messages()[0]).image

    def infer() -> Any:
        with torch.inference_mode():
            tensor = torch.from_numpy(image.copy()).permute(2, 0, 1).float() / 255
            return model([tensor])[0]

    def step() -> dict[str, float]:
        started = time.perf_counter()
        infer()
        return {"inference": (time.perf_counter() - started) * 1e3}

    return step, {"instances": len(infer()["masks"])}
