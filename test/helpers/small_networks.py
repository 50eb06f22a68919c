"""Networks small enough for tests, and batches for them."""

from __future__ import annotations

import math

import torch

from training.loop.config import from_mapping
from training.models.backbones.fpn import LightPyramid
from training.models.backbones.light_backbone import LightBackbone
from training.models.detectors.light_detector import LightDetector
from training.models.orcnn import Orcnn, OrcnnMaskHeads, OrcnnSettings
from training.models.roi.mask_heads import LightMaskHead
from training.models.roi.roi_align import RoiPooler
from training.models.shared_modules import SharedModules
from training.structures import Batch
from training.train import train

SIZE_HW = (96, 128)
IMAGE_HW = (64, 96)
"""Of the batches."""


def small_orcnn(
    num_classes: int = 1, settings: OrcnnSettings | None = None, out_channels: int = 1
) -> Orcnn:
    torch.manual_seed(0)
    settings = settings or OrcnnSettings()
    backbone = LightBackbone(stem_width=8, widths=(8, 16, 16, 16), depths=(1, 1, 1, 1))
    shared = SharedModules(
        backbone,
        LightPyramid(backbone.channels, 16),
        LightDetector(16, num_classes, instances=32),
        RoiPooler(first=2, count=2),
        16,
    )
    heads = OrcnnMaskHeads(
        LightMaskHead(16, 8, 8, out_channels=out_channels),
        LightMaskHead(16, 8, 8, out_channels=out_channels),
        independent=settings.independent,
    )
    return Orcnn(shared, heads, settings)


def random_batch(num_objects: int, num_classes: int = 1) -> Batch:
    """Two images of noise; a bar across all objects hides a part of each."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (2, 64, 96, 3), dtype=torch.uint8, generator=generator)
    amodal = torch.zeros(2, max(1, num_objects), 64, 96, dtype=torch.uint8)
    boxes = torch.zeros(2, max(1, num_objects), 4)
    for i in range(num_objects):
        amodal[:, i, 10 : 40 + 5 * i, 20 * i : 20 * i + 30] = 1
        boxes[:, i] = torch.tensor([20.0 * i, 10, 20 * i + 30, 40 + 5 * i])
    visible = amodal.clone()
    visible[:, :, :, 25:35] = 0
    valid = torch.ones(2, max(1, num_objects), dtype=torch.bool) & (num_objects > 0)
    labels = torch.arange(valid.shape[1]).remainder(num_classes).repeat(2, 1)
    return Batch(images, boxes, valid, labels, amodal, visible)


def train_briefly(folder, model: dict) -> None:
    """One step on the data set `drawn` in the folder; the run goes to `run`."""
    values = {"data": str(folder / "drawn"), "out": str(folder / "run"), "input_hw": SIZE_HW}
    values |= {"model": model, "iterations": 1, "batch_size": 2, "workers": 0, "device": "cpu"}
    train(from_mapping(values, source="test"))


def batch_of(boxes: list[list[float]], labels: list[int], size_hw=IMAGE_HW) -> Batch:
    """One black image with boxes, whose masks are empty."""
    M = len(boxes)
    masks = torch.zeros(1, M, *size_hw, dtype=torch.uint8)
    return Batch(
        torch.zeros(1, *size_hw, 3, dtype=torch.uint8),
        torch.tensor([boxes]),
        torch.ones(1, M, dtype=torch.bool),
        torch.tensor([labels]),
        masks,
        masks,
    )


def levels_of(first: int, count: int, channels: int, images: int = 2) -> list[torch.Tensor]:
    """Maps of noise of a feature pyramid of `IMAGE_HW`."""
    generator = torch.Generator().manual_seed(0)
    sizes = [(math.ceil(IMAGE_HW[0] / 2**i), math.ceil(IMAGE_HW[1] / 2**i)) for i in range(8)]
    return [
        torch.randn(images, channels, *sizes[first + i], generator=generator) for i in range(count)
    ]
