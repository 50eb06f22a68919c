"""Anchor-free one-stage detector (FCOS, Tian et al., ICCV 2019), class-agnostic.

ORCNN's detector is Faster R-CNN. This one stands in for it in the light model: no proposals and no
second box stage, so one pass of convolutions gives the boxes, which halves the cost and converges
faster from scratch. As in ORCNN, the boxes are *amodal*. The score predicts the IoU of the point's
box (as in quality focal loss), so there is no separate centre-ness; see `assign` for the targets.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.distributed import mean_over_processes
from training.models.assign import Assignment
from training.models.boxes import generalized_box_iou

PRIOR_SCORE = 0.01
INITIAL_SIDE_STRIDES = 3.0
"""Half the side of an untrained point's box: about the size of the objects a level is for."""


class SharedConv(nn.Module):
    """A 3x3 convolution shared by all levels, with statistics of each level's own."""

    def __init__(self, in_channels: int, out_channels: int, num_levels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(out_channels) for _ in range(num_levels))

    def forward(self, levels: list[Tensor]) -> list[Tensor]:
        """Map [B, C, H_l, W_l] of every level to [B, C', H_l, W_l]."""
        return [F.relu(norm(self.conv(x))) for norm, x in zip(self.norms, levels)]


class FcosHead(nn.Module):
    """One shared convolution, then one for the score and one for the box, on every level."""

    def __init__(self, channels: int, strides: tuple[int, ...]) -> None:
        super().__init__()
        self.strides = strides
        self.shared = SharedConv(channels, channels, len(strides))
        self.score_conv = SharedConv(channels, channels, len(strides))
        self.box_conv = SharedConv(channels, channels, len(strides))
        self.score = nn.Conv2d(channels, 1, 3, padding=1)
        self.box = nn.Conv2d(channels, 4, 3, padding=1)
        self.scales = nn.Parameter(torch.ones(len(strides)))
        nn.init.normal_(self.score.weight, std=0.01)
        nn.init.constant_(self.score.bias, -math.log((1 - PRIOR_SCORE) / PRIOR_SCORE))
        nn.init.normal_(self.box.weight, std=0.01)
        nn.init.constant_(self.box.bias, math.log(INITIAL_SIDE_STRIDES))

    def forward(self, levels: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Predict a box and its score at every point.

        Args:
            levels: maps [B, C, H_l, W_l] of the strides given.

        Returns:
            Score logits [B, L], boxes [B, L, 4] xyxy in input pixels, not clipped, and the
            points [L, 2] xy in input pixels, all float32.
        """
        shared = self.shared(levels)
        logits, distances, points = [], [], []
        for i, (s, b) in enumerate(zip(self.score_conv(shared), self.box_conv(shared))):
            logits.append(self.score(s).float().flatten(1))
            side = (self.scales[i] * self.box(b).float()).clamp(max=5.0).exp() * self.strides[i]
            distances.append(side.flatten(2).transpose(1, 2))
            points.append(grid_points(s, self.strides[i]))
        points_xy = torch.cat(points)
        left_top, right_bottom = torch.cat(distances, 1).split(2, dim=-1)
        boxes = torch.cat([points_xy - left_top, points_xy + right_bottom], -1)
        return torch.cat(logits, 1), boxes, points_xy


def grid_points(features: Tensor, stride: int) -> Tensor:
    """Return the centres of a map's cells, [H * W, 2] xy float32 input pixels, row by row."""
    height, width = int(features.shape[2]), int(features.shape[3])
    y = (torch.arange(height, dtype=torch.float32, device=features.device) + 0.5) * stride
    x = (torch.arange(width, dtype=torch.float32, device=features.device) + 0.5) * stride
    return torch.stack([x.repeat(height), y.repeat_interleave(width)], -1)


def detection_losses(
    logits: Tensor, boxes_xyxy: Tensor, gt_xyxy: Tensor, assignment: Assignment
) -> tuple[Tensor, Tensor]:
    """Return the score loss (binary cross-entropy to the quality) and the box loss (GIoU).

    Args:
        logits: [B, L].
        boxes_xyxy: [B, L, 4].
        gt_xyxy: [B, M, 4].
        assignment: the targets of the points.
    """
    quality = assignment.quality
    total = mean_over_processes(quality.sum()).clamp(min=1.0)
    score_loss = F.binary_cross_entropy_with_logits(logits, quality, reduction="sum") / total
    positive = quality > 0
    index = assignment.gt_index[..., None].expand(-1, -1, 4)
    target = gt_xyxy.gather(1, index)[positive]
    giou = generalized_box_iou(boxes_xyxy[positive], target)
    box_loss = ((1 - giou) * quality[positive]).sum() / total
    return score_loss, box_loss
