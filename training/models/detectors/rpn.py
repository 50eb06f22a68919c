"""Region proposal network (Ren et al., NeurIPS 2015) on a feature pyramid (Lin et al., 2017).

Anchors, box coding and numbers are torchvision's and Detectron's, so weights of both fit.
Proposals are theirs, too, but for chains of suppression longer than `nms.ITERATIONS`.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from training.distributed import all_reduce_mean
from training.models.detectors.anchor_matching import match_anchors, sample_anchors
from training.models.detectors.box_coding import decode_boxes, encode_boxes
from training.models.detectors.box_geometry import clip_boxes, shortest_side
from training.models.detectors.nms import matrix_nms
from training.structures import Batch

STRIDES = (4, 8, 16, 32, 64)
ASPECT_RATIOS = (0.5, 1.0, 2.0)
ANCHOR_STRIDES = 8
"""Side of a square anchor: 32 pixels on P2 to 512 on P6."""
DELTA_WEIGHTS = (1.0, 1.0, 1.0, 1.0)
PER_LEVEL = 1000
"""Best anchors of a level that go into the suppression (ORCNN: 1000)."""
MIN_SIDE_PX = 1e-3
"""Smaller proposals are dropped, as in torchvision."""
NMS_IOU = 0.7
POSITIVE_IOU = 0.7
NEGATIVE_IOU = 0.3
ANCHORS_PER_IMAGE = 256
POSITIVE_SHARE = 0.5
SMOOTH_L1_BETA = 1 / 9


class RpnOutput(NamedTuple):
    """Outputs of the RPN head at all A anchors of a level.

    Attributes:
        logits: [B, A] objectness.
        deltas: [B, A, 4] encoded boxes, relative to the anchors.
        boxes_xyxy: [A, 4] the anchors.
    """

    logits: Tensor
    deltas: Tensor
    boxes_xyxy: Tensor


class RegionProposalNetwork(nn.Module):
    """A 3x3 convolution shared by all levels, then objectness and deltas of 3 anchors a cell.

    Args:
        channels: of the pyramid's maps.
        conventions: ``detectron2``: anchors of a level are its stride apart. ``torchvision``: the
            image's size divided by the map's, rounded down, which differs on P6 where the image is
            no multiple of 64.
    """

    def __init__(self, channels: int, *, conventions: str = "detectron2") -> None:
        super().__init__()
        self.conventions = conventions
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.objectness = nn.Conv2d(channels, len(ASPECT_RATIOS), 1)
        self.deltas = nn.Conv2d(channels, 4 * len(ASPECT_RATIOS), 1)
        for layer in (self.conv, self.objectness, self.deltas):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(self, levels: list[Tensor]) -> list[RpnOutput]:
        """Predict objectness and box deltas at the anchors on P2 to P6."""
        outputs = []
        height, width = (STRIDES[0] * int(side) for side in levels[0].shape[2:])
        for features, stride in zip(levels, STRIDES):
            x = F.relu(self.conv(features))
            logits = self.objectness(x).float().permute(0, 2, 3, 1).flatten(1)  # [B, H * W * 3]
            deltas = self.deltas(x).float().permute(0, 2, 3, 1)  # [B, H, W, 3 * 4]
            spacing_yx = (stride, stride)
            if self.conventions == "torchvision":
                rows, columns = (int(side) for side in features.shape[2:])
                spacing_yx = (height // rows, width // columns)
            anchors = grid_anchors(features, stride, spacing_yx)
            outputs.append(RpnOutput(logits, deltas.reshape(*logits.shape, 4), anchors))
        return outputs

    def propose(
        self, outputs: list[RpnOutput], size_hw: tuple[int, int], count: int
    ) -> tuple[Tensor, Tensor]:
        """Propose boxes: top-k, decoding and NMS by static operations.

        Returns:
            Boxes [B, count, 4], best first, and [B, count] float32, 1 for proposals, and 0 for
            suppressed boxes that fill up the number.
        """
        scores, boxes = [], []
        for level in outputs:
            best, index = level.logits.topk(min(PER_LEVEL, int(level.logits.shape[1])), dim=1)
            row = index[..., None].expand(-1, -1, 4)
            anchors = level.boxes_xyxy[index]
            found = decode_boxes(level.deltas.gather(1, row), anchors, DELTA_WEIGHTS)
            found = clip_boxes(found, size_hw)
            # A box without extent overlaps nothing, so it does not matter in the suppression.
            kept = matrix_nms(found, iou_threshold=NMS_IOU) * (
                shortest_side(found) >= MIN_SIDE_PX
            ).to(best.dtype)
            scores.append(best.sigmoid() * kept)
            boxes.append(found)
        merged = torch.cat(scores, 1)
        top, index = merged.topk(min(count, int(merged.shape[1])), dim=1)
        chosen = torch.cat(boxes, 1).gather(1, index[..., None].expand(-1, -1, 4))
        return chosen, (top > 0).to(top.dtype)

    @torch.no_grad()
    def propose_for_training(
        self, outputs: list[RpnOutput], size_hw: tuple[int, int], count: int
    ) -> list[Tensor]:
        """Propose boxes for training: top-k, decoding and torchvision's NMS, a list by image."""
        proposals = []
        for b in range(len(outputs[0].logits)):
            scores, boxes, numbers = [], [], []
            for number, level in enumerate(outputs):
                best, index = level.logits[b].topk(min(PER_LEVEL, level.logits.shape[1]))
                found = decode_boxes(
                    level.deltas[b, index], level.boxes_xyxy[index], DELTA_WEIGHTS
                )
                found = clip_boxes(found, size_hw)
                whole = shortest_side(found) >= MIN_SIDE_PX
                scores.append(best[whole])
                boxes.append(found[whole])
                numbers.append(torch.full_like(best[whole], number))
            merged = torch.cat(boxes)
            kept = torchvision.ops.batched_nms(
                merged, torch.cat(scores), torch.cat(numbers), NMS_IOU
            )
            proposals.append(merged[kept[:count]])
        return proposals

    def losses(
        self, outputs: list[RpnOutput], batch: Batch, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Return the losses of objectness (cross-entropy) and boxes (smooth L1)."""
        logits = torch.cat([level.logits for level in outputs], 1)
        deltas = torch.cat([level.deltas for level in outputs], 1)
        anchors = torch.cat([level.boxes_xyxy for level in outputs])
        objectness, box = logits.sum() * 0, deltas.sum() * 0
        count = 0
        for b in range(len(logits)):
            gt_xyxy = batch.boxes_xyxy[b]
            iou, gt_index, best_box = match_anchors(anchors, gt_xyxy, batch.valid[b])
            positive, negative = sample_anchors(
                (iou >= POSITIVE_IOU) | best_box,
                (iou < NEGATIVE_IOU) & ~best_box,
                count=ANCHORS_PER_IMAGE,
                share=POSITIVE_SHARE,
                generator=generator,
            )
            wanted = torch.cat([torch.ones_like(positive), torch.zeros_like(negative)])
            drawn = logits[b, torch.cat([positive, negative])]
            objectness = objectness + F.binary_cross_entropy_with_logits(
                drawn, wanted.to(drawn.dtype), reduction="sum"
            )
            target = encode_boxes(gt_xyxy[gt_index[positive]], anchors[positive], DELTA_WEIGHTS)
            box = box + F.smooth_l1_loss(
                deltas[b, positive], target, beta=SMOOTH_L1_BETA, reduction="sum"
            )
            count += len(wanted)
        total = all_reduce_mean(logits.new_tensor(float(count))).clamp(min=1.0)
        return {"objectness": objectness / total, "proposal": box / total}


def grid_anchors(features: Tensor, stride: int, spacing_yx: tuple[int, int]) -> Tensor:
    """Return the anchors of a level, [H * W * 3, 4] xyxy, cell by cell, row by row.

    As torchvision and Detectron have it, they are centred on the cells' upper left corners and
    rounded to whole pixels.

    Args:
        features: the level's map, [B, C, H, W].
        stride: of the level, which gives the anchors' size.
        spacing_yx: distance of neighbouring anchors, pixels.
    """
    height, width, device = int(features.shape[2]), int(features.shape[3]), features.device
    ratio = torch.tensor(ASPECT_RATIOS, device=device)
    side = float(ANCHOR_STRIDES * stride)
    half = torch.stack([side / ratio.sqrt(), side * ratio.sqrt()], -1) / 2  # [3, 2] width, height
    shape = torch.cat([-half, half], -1).round()
    y = torch.arange(height, dtype=torch.float32, device=device) * spacing_yx[0]
    x = torch.arange(width, dtype=torch.float32, device=device) * spacing_yx[1]
    corner = torch.stack([x.repeat(height), y.repeat_interleave(width)], -1).repeat(1, 2)
    return (corner[:, None] + shape).flatten(0, 1)
