"""The light models' detector: anchor-free, one stage (after FCOS, Tian et al., ICCV 2019).

ORCNN's detector is Faster R-CNN. The light models use this one instead: no proposals and no
second box stage, so one pass of convolutions gives the boxes, which halves the cost and
converges faster from scratch. The score predicts the IoU of the point's box (as in quality focal
loss), so there is no separate centre-ness; see `task_aligned_assignment` for the targets. Boxes
that survive NMS are averaged with those that nearly agree (`nms.box_voting`). The published FCOS
is in `training.models.detectors.fcos`.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.distributed import all_reduce_mean
from training.models.detector_protocol import Proposals, Rois, concatenate_rois, image_size_hw
from training.models.detectors.box_geometry import clip_boxes, generalized_box_iou
from training.models.detectors.instance_points import Points, PointTargets, grid_points
from training.models.detectors.nms import nms_per_class
from training.models.detectors.task_aligned_assignment import (
    Assignment,
    task_aligned_assignment,
)
from training.structures import Batch

PRIOR_SCORE = 0.01
INITIAL_SIDE_STRIDES = 3.0
"""Half the side of an untrained point's box: about the size of the objects a level is for."""
CANDIDATES_PER_INSTANCE = 6
"""With fewer, the many points of a few obvious objects leave no room for hidden ones."""
NMS_IOU = 0.6
VOTE_IOU = 0.8
BOX_WEIGHT = 2.0
ROIS_PER_IMAGE = 12


class SharedConv(nn.Module):
    """A 3x3 convolution shared by all levels, with batch normalisation of each level's own."""

    def __init__(self, in_channels: int, out_channels: int, num_levels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(out_channels) for _ in range(num_levels))

    def forward(self, levels: list[Tensor]) -> list[Tensor]:
        """Map [B, C, H_l, W_l] of every level to [B, C', H_l, W_l]."""
        return [F.relu(norm(self.conv(x))) for norm, x in zip(self.norms, levels)]


class LightDetector(nn.Module):
    """One-stage head: a shared convolution, then one for scores and one for boxes, on P3 to P5.

    Args:
        channels: of the pyramid's maps.
        num_classes: number of scores at a point.
        instances: how many boxes to return.
    """

    strides = (8, 16, 32)

    def __init__(self, channels: int, num_classes: int, *, instances: int) -> None:
        super().__init__()
        self.instances = instances
        self.shared = SharedConv(channels, channels, len(self.strides))
        self.score_conv = SharedConv(channels, channels, len(self.strides))
        self.box_conv = SharedConv(channels, channels, len(self.strides))
        self.score = nn.Conv2d(channels, num_classes, 3, padding=1)
        self.box = nn.Conv2d(channels, 4, 3, padding=1)
        self.scales = nn.Parameter(torch.ones(len(self.strides)))
        assert self.score.bias is not None
        assert self.box.bias is not None
        nn.init.normal_(self.score.weight, std=0.01)
        nn.init.constant_(self.score.bias, -math.log((1 - PRIOR_SCORE) / PRIOR_SCORE))
        nn.init.normal_(self.box.weight, std=0.01)
        nn.init.constant_(self.box.bias, math.log(INITIAL_SIDE_STRIDES))

    def forward(self, levels: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Predict a box and its scores at every point.

        Args:
            levels: maps [B, C, H_l, W_l] of P2 to P5.

        Returns:
            Score logits [B, L, K], boxes [B, L, 4] xyxy in input pixels, not clipped, and the
            points [L, 2] xy in input pixels, all float32.
        """
        return self._predict(*self._towers(levels))

    def _towers(self, levels: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Return the features of scores and of boxes, each [B, C, H_l, W_l] on P3 to P5."""
        shared = self.shared(levels[1:])
        return self.score_conv(shared), self.box_conv(shared)

    def _predict(
        self, score_features: list[Tensor], box_features: list[Tensor]
    ) -> tuple[Tensor, Tensor, Tensor]:
        logits, distances, points = [], [], []
        for i, (s, b) in enumerate(zip(score_features, box_features)):
            logits.append(self.score(s).float().flatten(2).transpose(1, 2))  # [B, L_l, K]
            side = (self.scales[i] * self.box(b).float()).clamp(max=5.0).exp() * self.strides[i]
            distances.append(side.flatten(2).transpose(1, 2))  # [B, L_l, 4]
            points.append(grid_points(s, self.strides[i]))
        points_xy = torch.cat(points)
        left_top, right_bottom = torch.cat(distances, 1).split(2, dim=-1)
        boxes = torch.cat([points_xy - left_top, points_xy + right_bottom], -1)
        return torch.cat(logits, 1), boxes, points_xy

    def detect(self, levels: list[Tensor], size_hw: tuple[int, int]) -> Proposals:
        """Detect objects; arguments as of `Detector.detect`."""
        return self.detect_points(levels, size_hw)[0]

    def detect_points(
        self, levels: list[Tensor], size_hw: tuple[int, int]
    ) -> tuple[Proposals, Points]:
        """Detect objects; also return the points that `Proposals.index` refers to."""
        score_features, box_features = self._towers(levels)
        logits, boxes, points = self._predict(score_features, box_features)
        found = nms_per_class(
            logits.sigmoid(),
            clip_boxes(boxes, size_hw),
            candidates=CANDIDATES_PER_INSTANCE * self.instances,
            instances=self.instances,
            iou_threshold=NMS_IOU,
            vote_iou=VOTE_IOU,
        )
        # A mean of boxes at the image's border can lie outside of it, by rounding.
        found = found._replace(boxes_xyxy=clip_boxes(found.boxes_xyxy, size_hw))
        return found, self._points(points, box_features)

    def loss_and_rois(
        self, levels: list[Tensor], batch: Batch, generator: torch.Generator
    ) -> tuple[dict[str, Tensor], Rois]:
        """Return the losses of score and box, and RoIs; `generator` samples the RoIs."""
        logits, boxes, points = self(levels)
        assignment, _ = self._assign(logits, boxes, points, batch)
        found = clip_boxes(boxes.detach(), image_size_hw(batch.images))
        rois = sample_rois(found, assignment, batch, count=ROIS_PER_IMAGE, generator=generator)
        return self._losses(logits, boxes, batch, assignment), rois

    def loss_and_points(
        self, levels: list[Tensor], batch: Batch
    ) -> tuple[dict[str, Tensor], Points, PointTargets]:
        """Return the losses of score and box, and the points to train heads on."""
        score_features, box_features = self._towers(levels)
        logits, boxes, points = self._predict(score_features, box_features)
        assignment, scores = self._assign(logits, boxes, points, batch)
        own = scores.gather(1, assignment.gt_index[:, None])[:, 0]
        return (
            self._losses(logits, boxes, batch, assignment),
            self._points(points, box_features),
            PointTargets(assignment.quality > 0, assignment.gt_index, own),
        )

    def _assign(
        self, logits: Tensor, boxes: Tensor, points: Tensor, batch: Batch
    ) -> tuple[Assignment, Tensor]:
        """Assign points to objects; also return their scores for those classes, [B, M, L]."""
        scores = logits.detach().sigmoid().transpose(1, 2)  # [B, K, L]
        wanted = batch.labels[..., None].expand(-1, -1, scores.shape[2])
        scores = scores.gather(1, wanted)
        return task_aligned_assignment(
            scores, boxes.detach(), points, batch.boxes_xyxy, batch.valid
        ), scores

    def _losses(
        self, logits: Tensor, boxes: Tensor, batch: Batch, assignment: Assignment
    ) -> dict[str, Tensor]:
        score, box = detection_losses(logits, boxes, batch, assignment)
        return {"score": score, "box": BOX_WEIGHT * box}

    def _points(self, points_xy: Tensor, features: list[Tensor]) -> Points:
        stride = torch.cat(
            [
                torch.full((x.shape[2] * x.shape[3],), float(stride), device=points_xy.device)
                for x, stride in zip(features, self.strides)
            ]
        )
        return Points(points_xy, stride, features)


def detection_losses(
    logits: Tensor, boxes_xyxy: Tensor, batch: Batch, assignment: Assignment
) -> tuple[Tensor, Tensor]:
    """Return the score loss (binary cross-entropy to the quality) and the box loss (GIoU).

    Args:
        logits: [B, L, K].
        boxes_xyxy: [B, L, 4].
        batch: the truth.
        assignment: the targets of the points.
    """
    quality = assignment.quality
    total = all_reduce_mean(quality.sum()).clamp(min=1.0)
    label = batch.labels.gather(1, assignment.gt_index)[..., None]
    wanted = torch.zeros_like(logits).scatter(2, label, quality[..., None])
    score_loss = F.binary_cross_entropy_with_logits(logits, wanted, reduction="sum") / total
    positive = quality > 0
    index = assignment.gt_index[..., None].expand(-1, -1, 4)
    target = batch.boxes_xyxy.gather(1, index)[positive]
    giou = generalized_box_iou(boxes_xyxy[positive], target)
    box_loss = ((1 - giou) * quality[positive]).sum() / total
    return score_loss, box_loss


@torch.no_grad()
def sample_rois(
    boxes_xyxy: Tensor,
    assignment: Assignment,
    batch: Batch,
    *,
    count: int,
    generator: torch.Generator,
) -> Rois:
    """Sample the RoIs on which other heads are trained, at most `count` an image.

    Half are the detector's own boxes (IoU at least 0.5), so that the heads see its errors; the
    rest are true boxes with jitter, so that heads learn before the detector does.

    Args:
        boxes_xyxy: [B, L, 4] of all points.
        assignment: of the points.
        batch: the truth.
        count: RoIs of an image.
        generator: on the CPU.
    """
    device, size_hw = boxes_xyxy.device, image_size_hw(batch.images)
    rois = []
    for b in range(len(boxes_xyxy)):
        found = torch.nonzero(assignment.iou[b] >= 0.5)[:, 0]
        order = torch.randperm(len(found), generator=generator)[: count // 2]
        found = found[order.to(device)]
        truth = torch.nonzero(batch.valid[b])[:, 0]
        order = torch.randperm(len(truth), generator=generator)[: count - len(found)]
        truth = truth[order.to(device)]
        true_boxes = batch.boxes_xyxy[b, truth]
        side = (true_boxes[:, 2:] - true_boxes[:, :2]).repeat(1, 2)
        shift = torch.randn(side.shape, generator=generator).to(device)
        moved = clip_boxes(true_boxes + 0.05 * side * shift, size_hw)
        boxes = torch.cat([boxes_xyxy[b, found], moved])
        rois.append((boxes, torch.cat([assignment.gt_index[b, found], truth])))
    return concatenate_rois(rois)
