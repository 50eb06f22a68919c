"""FCOS (Tian et al., ICCV 2019), as its authors' code has it: the detector of BCNet and BLADE.

A learnt scale a level, regression weighted by centre-ness, centre sampling. (torchvision's has
no scales, does not weight the regression, and starts from a higher score.) For a static graph the
best 2000 pairs of a point and a class are taken over all levels together, not 1000 of each level:
the result is the authors' wherever no more than 2000 pairs reach the score threshold, and no more
than 1000 of one level.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from training.distributed import all_reduce_mean
from training.models.detector_protocol import Proposals, Rois, concatenate_rois, image_size_hw
from training.models.detectors.anchor_matching import match_anchors
from training.models.detectors.box_geometry import box_area, clip_boxes, generalized_box_iou
from training.models.detectors.instance_points import Points, PointTargets, grid_points
from training.models.detectors.nms import nms_per_class
from training.structures import Batch

STRIDES = (8, 16, 32, 64, 128)
RANGES_PX = ((0.0, 64.0), (64.0, 128.0), (128.0, 256.0), (256.0, 512.0), (512.0, math.inf))
"""The longest distance from a point to a side of its box, by level."""
TOWER_CONVS = 4
PRIOR_SCORE = 0.01
CENTRE_RADIUS_STRIDES = 1.5
FOCAL_ALPHA = 0.25
FOCAL_GAMMA = 2.0
NMS_IOU = 0.6
CANDIDATES = 2000
ROI_IOU = 0.5


class FcosOutput(NamedTuple):
    """Outputs of the head at all L points of all levels.

    Attributes:
        logits: [B, L, K] of the classes.
        boxes_xyxy: [B, L, 4] input pixels, not clipped.
        centerness: [B, L] logits.
        points_xy: [L, 2] input pixels.
        level: [L] int64, position of the point's level among the five.
        box_features: maps [B, C, H_l, W_l] of the box tower, for heads that start there.
    """

    logits: Tensor
    boxes_xyxy: Tensor
    centerness: Tensor
    points_xy: Tensor
    level: Tensor
    box_features: list[Tensor]


class FcosTargets(NamedTuple):
    """Training targets of all points.

    Attributes:
        positive: [B, L] bool.
        gt_index: [B, L] int64, instance of a positive point; any valid index elsewhere.
        boxes_xyxy: [B, L, 4] that instance's box.
        centerness: [B, L] in [0, 1]; 0 at negative points.
    """

    positive: Tensor
    gt_index: Tensor
    boxes_xyxy: Tensor
    centerness: Tensor


class Fcos(nn.Module):
    """Two towers shared by P3 to P7: one for the class, one for the box and its centre-ness.

    Args:
        channels: of the pyramid's maps.
        num_classes: number of classes.
        instances: how many boxes to return.
        box_weight: of the regression in the loss (FCOS 1; BCNet's code 1.25).
        score_threshold: lowest score of a box (BCNet 0.03, BLADE's base 0.05).
        threshold_with_centerness: compare the score after multiplying it by centre-ness (BLADE's
            base) instead of before (BCNet).
    """

    def __init__(
        self,
        channels: int,
        num_classes: int,
        *,
        instances: int,
        box_weight: float = 1.0,
        score_threshold: float = 0.05,
        threshold_with_centerness: bool = False,
    ) -> None:
        super().__init__()
        self.instances = instances
        self.box_weight = box_weight
        self.score_threshold = score_threshold
        self.threshold_with_centerness = threshold_with_centerness
        self.class_tower = _tower(channels)
        self.box_tower = _tower(channels)
        self.classes = nn.Conv2d(channels, num_classes, 3, padding=1)
        self.boxes = nn.Conv2d(channels, 4, 3, padding=1)
        self.centerness = nn.Conv2d(channels, 1, 3, padding=1)
        self.scales = nn.Parameter(torch.ones(len(STRIDES)))
        for layer in (self.classes, self.boxes, self.centerness):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        assert self.classes.bias is not None
        nn.init.constant_(self.classes.bias, -math.log((1 - PRIOR_SCORE) / PRIOR_SCORE))

    def forward(self, levels: list[Tensor]) -> FcosOutput:
        """Predict class, box and centre-ness at all points of P3 to P7."""
        logits, distances, centerness, points, numbers, box_features = [], [], [], [], [], []
        for number, (features, stride) in enumerate(zip(levels, STRIDES)):
            box_feature = self.box_tower(features)
            side = F.relu(self.scales[number] * self.boxes(box_feature).float()) * stride
            scores = self.classes(self.class_tower(features))
            logits.append(scores.float().flatten(2).transpose(1, 2))  # [B, L_l, K]
            distances.append(side.flatten(2).transpose(1, 2))  # [B, L_l, 4]
            centerness.append(self.centerness(box_feature).float().flatten(1))  # [B, L_l]
            points.append(grid_points(features, stride))
            numbers += [number] * len(points[-1])
            box_features.append(box_feature)
        points_xy = torch.cat(points)
        left_top, right_bottom = torch.cat(distances, 1).split(2, dim=-1)
        return FcosOutput(
            logits=torch.cat(logits, 1),
            boxes_xyxy=torch.cat([points_xy - left_top, points_xy + right_bottom], -1),
            centerness=torch.cat(centerness, 1),
            points_xy=points_xy,
            level=torch.tensor(numbers, device=points_xy.device),
            box_features=box_features,
        )

    def detect(self, levels: list[Tensor], size_hw: tuple[int, int]) -> Proposals:
        """Detect objects; arguments as of `Detector.detect`."""
        return self.postprocess(self(levels), size_hw)

    def postprocess(self, output: FcosOutput, size_hw: tuple[int, int]) -> Proposals:
        """Score threshold and NMS; a score is the geometric mean of class and centre-ness."""
        scores = output.logits.sigmoid()
        product = scores * output.centerness.sigmoid()[..., None]
        compared = product if self.threshold_with_centerness else scores
        product = product * (compared > self.score_threshold).to(product.dtype)
        return nms_per_class(
            product.sqrt(),
            clip_boxes(output.boxes_xyxy, size_hw),
            candidates=CANDIDATES,
            instances=self.instances,
            iou_threshold=NMS_IOU,
        )

    def loss_and_rois(
        self, levels: list[Tensor], batch: Batch, generator: torch.Generator
    ) -> tuple[dict[str, Tensor], Rois]:
        """Return the three losses, and RoIs: true boxes and the detected ones that match them.

        Nothing is drawn at random.
        """
        output = self(levels)
        losses = self.losses(output, self.targets(output, batch), batch)
        with torch.no_grad():
            found = self.postprocess(output, image_size_hw(batch.images))
        return losses, rois_of(found, batch)

    def detect_points(
        self, levels: list[Tensor], size_hw: tuple[int, int]
    ) -> tuple[Proposals, Points]:
        """Detect objects; also return the points that `Proposals.index` refers to."""
        output = self(levels)
        return self.postprocess(output, size_hw), points_of(output)

    def loss_and_points(
        self, levels: list[Tensor], batch: Batch
    ) -> tuple[dict[str, Tensor], Points, PointTargets]:
        """Return the three losses, and the points to train heads on: the positive ones."""
        output = self(levels)
        targets = self.targets(output, batch)
        label = batch.labels.gather(1, targets.gt_index)[..., None]
        score = output.logits.detach().gather(2, label)[..., 0].sigmoid()
        score = score * output.centerness.detach().sigmoid()
        losses = self.losses(output, targets, batch)
        return losses, points_of(output), PointTargets(targets.positive, targets.gt_index, score)

    @torch.no_grad()
    def targets(self, output: FcosOutput, batch: Batch) -> FcosTargets:
        """Assign to every point the smallest object that holds it centrally and is of its level.

        A point without such an object is negative.
        """
        points, gt = output.points_xy, batch.boxes_xyxy[:, :, None]  # [L, 2], [B, M, 1, 4]
        stride = torch.tensor(STRIDES, dtype=points.dtype, device=points.device)[output.level]
        limits = torch.tensor(RANGES_PX, dtype=points.dtype, device=points.device)[output.level]
        sides = torch.cat([points - gt[..., :2], gt[..., 2:] - points], -1)  # [B, M, L, 4]
        centre = (gt[..., :2] + gt[..., 2:]) / 2
        radius = (CENTRE_RADIUS_STRIDES * stride)[:, None]
        low = torch.maximum(centre - radius, gt[..., :2])
        high = torch.minimum(centre + radius, gt[..., 2:])
        central = torch.cat([points - low, high - points], -1).amin(-1) > 0
        longest = sides.amax(-1)  # [B, M, L]
        fits = (longest >= limits[:, 0]) & (longest <= limits[:, 1]) & central
        fits = fits & batch.valid[:, :, None]
        area = box_area(batch.boxes_xyxy)[:, :, None].expand(fits.shape)
        smallest, gt_index = torch.where(fits, area, torch.full_like(area, math.inf)).min(1)
        positive = smallest.isfinite()

        boxes = batch.boxes_xyxy.gather(1, gt_index[..., None].expand(-1, -1, 4))
        left_top, right_bottom = points - boxes[..., :2], boxes[..., 2:] - points
        near, far = torch.minimum(left_top, right_bottom), torch.maximum(left_top, right_bottom)
        ratio = (near.clamp(min=0) / far.clamp(min=1e-6)).prod(-1)
        return FcosTargets(positive, gt_index, boxes, torch.where(positive, ratio.sqrt(), 0.0))

    def losses(self, output: FcosOutput, targets: FcosTargets, batch: Batch) -> dict[str, Tensor]:
        """Return the losses of class (focal), box (GIoU) and centre-ness (cross-entropy)."""
        positive = targets.positive
        count = all_reduce_mean(positive.sum().float()).clamp(min=1.0)
        label = batch.labels.gather(1, targets.gt_index)[..., None]
        wanted = torch.zeros_like(output.logits).scatter(2, label, positive[..., None].float())
        classes = torchvision.ops.sigmoid_focal_loss(
            output.logits, wanted, FOCAL_ALPHA, FOCAL_GAMMA, reduction="sum"
        )
        weight = targets.centerness[positive]
        total = all_reduce_mean(weight.sum()).clamp(min=1e-6)
        giou = generalized_box_iou(output.boxes_xyxy[positive], targets.boxes_xyxy[positive])
        centerness = F.binary_cross_entropy_with_logits(
            output.centerness[positive], weight, reduction="sum"
        )
        return {
            "class": classes / count,
            "box": self.box_weight * ((1 - giou) * weight).sum() / total,
            "centerness": centerness / count,
        }


def points_of(output: FcosOutput) -> Points:
    """Return the points of all levels with the box tower's features."""
    stride = torch.tensor(STRIDES, dtype=torch.float32, device=output.points_xy.device)
    return Points(output.points_xy, stride[output.level], output.box_features)


@torch.no_grad()
def rois_of(found: Proposals, batch: Batch) -> Rois:
    """Return the true boxes and the detected ones with an IoU of at least 0.5 with one of them."""
    rois = []
    for b in range(len(batch.valid)):
        true_boxes = batch.boxes_xyxy[b, batch.valid[b]]
        boxes = torch.cat([true_boxes, found.boxes_xyxy[b, found.scores[b] > 0]])
        iou, gt_index, _ = match_anchors(boxes, batch.boxes_xyxy[b], batch.valid[b])
        chosen = iou >= ROI_IOU
        rois.append((boxes[chosen], gt_index[chosen]))
    return concatenate_rois(rois)


def _tower(channels: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for _ in range(TOWER_CONVS):
        conv = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.normal_(conv.weight, std=0.01)
        nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
        layers += [conv, nn.GroupNorm(32, channels), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)
