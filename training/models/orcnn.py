"""ORCNN: amodal boxes, then amodal, visible and occluded masks of each (WACV 2019).

    image -> backbone -> feature pyramid -> detector -> amodal boxes
                              |                             |
                              +--------- RoIAlign <---------+
                                            |
                               amodal head, visible head -> occluded = amodal - relu(visible)

The light version here replaces ResNet-50 and Faster R-CNN by smaller parts; what deviates is said
where it does (`backbone`, `fpn`, `fcos`, `mask_heads`).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from amodal_perception.errors import ConfigError
from training.batch import Batch, Detections
from training.models.assign import Assignment, assign
from training.models.backbone import Backbone
from training.models.boxes import clip_boxes
from training.models.fcos import FcosHead, detection_losses
from training.models.fpn import FeaturePyramid
from training.models.mask_heads import OcclusionMaskHeads, mask_losses, probabilities
from training.models.nms import matrix_nms
from training.models.roi_align import crop_masks, roi_align

MEAN_RGB = (123.7, 116.3, 103.5)
STD_RGB = (58.4, 57.1, 57.4)


class Orcnn(nn.Module):
    """Occlusion R-CNN; see the module's docstring."""

    roi_cells = 14
    mask_cells = 28
    roi_levels = 2  # P2 and P3: at the light model's input size few boxes would go higher
    candidates = 128
    instances = 32
    nms_iou = 0.6
    box_weight = 2.0
    rois_per_image = 12

    def __init__(
        self,
        *,
        stem_width: int,
        widths: tuple[int, ...],
        depths: tuple[int, ...],
        channels: int,
        mask_width: int,
        mask_context_width: int,
        occluded_weight: float = 1.0,
        hidden_weight: float = 1.0,
    ) -> None:
        super().__init__()
        self.occluded_weight = occluded_weight
        self.hidden_weight = hidden_weight
        self.backbone = Backbone(stem_width=stem_width, widths=widths, depths=depths)
        self.fpn = FeaturePyramid(widths, channels)
        self.detector = FcosHead(channels, strides=(8, 16, 32))
        self.mask_heads = OcclusionMaskHeads(channels, mask_width, mask_context_width)
        self.register_buffer("mean", torch.tensor(MEAN_RGB).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(STD_RGB).view(3, 1, 1), persistent=False)

    def pyramid(self, images: Tensor) -> list[Tensor]:
        """Map [B, H, W, 3] uint8 RGB to [P2, P3, P4, P5]."""
        x = images.to(torch.float32).permute(0, 3, 1, 2)
        return self.fpn(self.backbone((x - self.mean) / self.std))

    def roi_features(self, levels: list[Tensor], boxes_xyxy: Tensor) -> Tensor:
        """Pool [B, R, 4] boxes to [B * R, C, 14, 14]."""
        levels = levels[: self.roi_levels]
        return roi_align(levels, boxes_xyxy, cells=self.roi_cells).flatten(0, 1)

    def forward(self, images: Tensor) -> Detections:
        """Find the objects in [B, H, W, 3] uint8 RGB images."""
        levels = self.pyramid(images)
        logits, boxes, _ = self.detector(levels[1:])
        boxes, scores = self.select(logits, clip_boxes(boxes, _size_hw(images)))
        amodal, visible = probabilities(self.mask_heads(self.roi_features(levels, boxes)))
        labels = torch.zeros_like(scores, dtype=torch.int64)
        shape = scores.shape
        return Detections(
            boxes, scores, labels, amodal.unflatten(0, shape), visible.unflatten(0, shape)
        )

    def select(self, logits: Tensor, boxes_xyxy: Tensor) -> tuple[Tensor, Tensor]:
        """Keep the best boxes that do not repeat each other: [B, N, 4] and [B, N] scores."""
        top, index = logits.topk(min(self.candidates, logits.shape[1]), dim=1)
        boxes = boxes_xyxy.gather(1, index[..., None].expand(-1, -1, 4))
        scores = top.sigmoid() * matrix_nms(boxes, iou_threshold=self.nms_iou)
        scores, index = scores.topk(self.instances, dim=1)
        return boxes.gather(1, index[..., None].expand(-1, -1, 4)), scores

    def losses(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Return the named terms of the training loss, weighted; their sum is minimised.

        Args:
            batch: images and truth.
            generator: draws the RoIs of the mask heads.
        """
        levels = self.pyramid(batch.images)
        logits, boxes, points = self.detector(levels[1:])
        assignment = assign(
            logits.detach().sigmoid(), boxes.detach(), points, batch.boxes_xyxy, batch.valid
        )
        score, box = detection_losses(logits, boxes, batch.boxes_xyxy, assignment)

        rois, gt_index, taken = sample_rois(
            clip_boxes(boxes.detach(), _size_hw(batch.images)),
            assignment,
            batch,
            count=self.rois_per_image,
            generator=generator,
        )
        # Padding must not reach the heads: it would spoil the statistics of their normalisation.
        mask_logits = self.mask_heads(self.roi_features(levels, rois)[taken.flatten()])
        image = torch.arange(len(rois))[:, None].expand_as(gt_index)[taken]
        instance, roi = gt_index[taken], rois[taken]
        amodal = crop_masks(batch.amodal[image, instance], roi, cells=self.mask_cells)
        visible = crop_masks(batch.visible[image, instance], roi, cells=self.mask_cells)
        masks = mask_losses(mask_logits, amodal, visible, self.hidden_weight)
        masks["occluded"] = self.occluded_weight * masks["occluded"]
        return {"score": score, "box": self.box_weight * box, **masks}


@torch.no_grad()
def sample_rois(
    boxes_xyxy: Tensor,
    assignment: Assignment,
    batch: Batch,
    *,
    count: int,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor, Tensor]:
    """Draw the boxes on which the mask heads are trained.

    Half are the detector's own boxes (IoU at least 0.5), so the heads see its mistakes; the rest
    are true boxes, a little displaced, so that they learn while the detector knows nothing.

    Returns:
        Boxes [B, count, 4], the instance of each [B, count], and [B, count] bool, False for
        padding.
    """
    B = len(boxes_xyxy)
    rois = torch.zeros(B, count, 4)
    index = torch.zeros(B, count, dtype=torch.int64)
    taken = torch.zeros(B, count, dtype=torch.bool)
    for b in range(B):
        found = torch.nonzero(assignment.iou[b] >= 0.5)[:, 0]
        found = found[torch.randperm(len(found), generator=generator)[: count // 2]]
        truth = torch.nonzero(batch.valid[b])[:, 0]
        truth = truth[torch.randperm(len(truth), generator=generator)[: count - len(found)]]
        true_boxes = batch.boxes_xyxy[b, truth]
        side = (true_boxes[:, 2:] - true_boxes[:, :2]).repeat(1, 2)
        moved = true_boxes + 0.05 * side * torch.randn(side.shape, generator=generator)
        moved = clip_boxes(moved, _size_hw(batch.images))
        n = len(found) + len(truth)
        rois[b, :n] = torch.cat([boxes_xyxy[b, found], moved])
        index[b, :n] = torch.cat([assignment.gt_index[b, found], truth])
        taken[b, :n] = True
    return rois, index, taken


def _size_hw(images: Tensor) -> tuple[int, int]:
    return int(images.shape[1]), int(images.shape[2])


@dataclass(frozen=True)
class OrcnnLightSettings:
    """The default model: under 5 GFLOP at 288 x 384, 3.2 million parameters.

    Attributes:
        occluded_weight: of L_IV in the loss; the paper's is 1. On visible pixels L_IV pulls the
            amodal logits down until the visible ones have grown; from scratch a smaller weight
            learns amodal masks sooner.
        hidden_weight: of hidden pixels in L_A and L_V; the paper's is 1. They are few (6 % of the
            amodal boxes' area in the simulated scenes), and all that is known of the order of
            objects comes from them.
    """

    occluded_weight: float = 1.0
    hidden_weight: float = 1.0

    def build(self, num_classes: int) -> Orcnn:
        """Build the network with random weights; it knows one class."""
        if num_classes != 1:
            raise ConfigError(
                f"orcnn_light finds one class of objects, the data has {num_classes}"
            )
        return Orcnn(
            stem_width=24,
            widths=(32, 80, 160, 224),
            depths=(1, 2, 2, 2),
            channels=64,
            mask_width=40,
            mask_context_width=64,
            occluded_weight=self.occluded_weight,
            hidden_weight=self.hidden_weight,
        )
