"""Faster R-CNN (Ren et al., NeurIPS 2015) with a feature pyramid: RPN, then a second stage.

    pyramid -> RPN -> proposals -> RoIAlign 7 x 7 -> two layers of 1024 -> class, box of the class

In an amodal system the ground-truth boxes are amodal, and so are proposals and detections.

Detections are those of Detectron2 and torchvision: every pair of a proposal and a class above the
score threshold goes into the suppression of its class, then the best are taken. What a static
graph leaves different:

- With several classes at most two pairs a proposal go in (`CANDIDATES_PER_PROPOSAL`), the best
  2000 of 1000 proposals. Scores of a proposal sum to 1, so up to 19 of its classes can be above
  0.05, but those of a trained network have one or two. With one class none is left out.
- Chains of suppression longer than `nms.ITERATIONS` may leave a box too many or too few.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.distributed import all_reduce_mean
from training.models.detector_protocol import Proposals, Rois, concatenate_rois, image_size_hw
from training.models.detectors.anchor_matching import match_anchors, sample_anchors
from training.models.detectors.box_coding import decode_boxes, encode_boxes
from training.models.detectors.box_geometry import clip_boxes, shortest_side
from training.models.detectors.nms import nms_per_class
from training.models.detectors.rpn import RegionProposalNetwork
from training.models.roi.roi_align import RoiPooler
from training.structures import Batch

CELLS = 7
WIDTH = 1024
DELTA_WEIGHTS = (10.0, 10.0, 5.0, 5.0)
POSITIVE_IOU = 0.5
POSITIVE_SHARE = 0.25
SMOOTH_L1_BETA = 1 / 9
SCORE_THRESHOLD = 0.05
NMS_IOU = 0.5
CANDIDATES_PER_PROPOSAL = 2
MIN_SIDE_PX = 1e-2
"""Smaller boxes are dropped, as in torchvision."""


class FasterRcnn(nn.Module):
    """Two-stage detector: RPN, RoIAlign, then class and box of every proposal.

    Args:
        channels: of the pyramid's maps P2 to P6.
        num_classes: without the background.
        instances: how many boxes to return.
        proposals: how many boxes the second stage classifies.
        rois_per_image: proposals of an image that it is trained on (Detectron 512, ORCNN 256).
        class_slots: number of logits of a proposal, where it is more than `num_classes` and one
            for the background. What is more is of no class, and never detected.
        conventions: ``detectron2`` or ``torchvision``, see `SharedSettings`.
    """

    def __init__(
        self,
        channels: int,
        num_classes: int,
        *,
        instances: int,
        proposals: int = 1000,
        rois_per_image: int = 512,
        class_slots: int = 0,
        conventions: str = "detectron2",
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.instances = instances
        self.proposals = proposals
        self.rois_per_image = rois_per_image
        self.pool = RoiPooler(first=2, count=4, aligned=conventions == "detectron2")
        self.rpn = RegionProposalNetwork(channels, conventions=conventions)
        self.fc6 = nn.Linear(channels * CELLS**2, WIDTH)
        self.fc7 = nn.Linear(WIDTH, WIDTH)
        # The first one is the background.
        self.classes = nn.Linear(WIDTH, max(class_slots, num_classes + 1))
        self.boxes = nn.Linear(WIDTH, 4 * (num_classes + 1))
        for layer, std in ((self.classes, 0.01), (self.boxes, 0.001)):
            nn.init.normal_(layer.weight, std=std)
            nn.init.zeros_(layer.bias)

    def classify(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Second stage: class logits and box deltas of RoIs from their features [R, C, 7, 7].

        Returns:
            Logits of the background, the K classes and slots of no class [R, 1 + K + ...], and
            deltas [R, K, 4].
        """
        # The pooler's output is channels-last in memory. Permuting the weights once costs less
        # than permuting the features of all RoIs.
        weight = self.fc6.weight.unflatten(1, (-1, CELLS, CELLS)).permute(0, 2, 3, 1).flatten(1)
        x = F.linear(features.permute(0, 2, 3, 1).flatten(1), weight, self.fc6.bias)
        x = F.relu(self.fc7(F.relu(x)))
        deltas = self.boxes(x).float().unflatten(1, (self.num_classes + 1, 4))
        return self.classes(x).float(), deltas[:, 1:]

    def detect(self, levels: list[Tensor], size_hw: tuple[int, int]) -> Proposals:
        """Detect objects; arguments as of `Detector.detect`."""
        proposals, kept = self.rpn.propose(self.rpn(levels), size_hw, self.proposals)
        logits, deltas = self.classify(self.pool(levels, proposals, cells=CELLS))
        return self.postprocess(logits, deltas, proposals, kept, size_hw)

    def postprocess(
        self,
        logits: Tensor,
        deltas: Tensor,
        proposals_xyxy: Tensor,
        kept: Tensor,
        size_hw: tuple[int, int],
    ) -> Proposals:
        """Score threshold and NMS of every class.

        Args:
            logits: [B * P, slots], of `classify`.
            deltas: [B * P, K, 4], of `classify`.
            proposals_xyxy: [B, P, 4] input pixels.
            kept: [B, P] float32, 0 for proposals that only fill up the number.
            size_hw: of the input image, pixels.
        """
        B, P, K = int(proposals_xyxy.shape[0]), int(proposals_xyxy.shape[1]), self.num_classes
        scores = logits.softmax(1)[:, 1 : K + 1].reshape(B, P, K)
        boxes = decode_boxes(deltas.reshape(B, P, K, 4), proposals_xyxy[:, :, None], DELTA_WEIGHTS)
        boxes = clip_boxes(boxes, size_hw)
        counts = (scores > SCORE_THRESHOLD) & (shortest_side(boxes) >= MIN_SIDE_PX)
        return nms_per_class(
            scores * counts.to(scores.dtype) * kept[:, :, None],
            boxes,
            candidates=CANDIDATES_PER_PROPOSAL * P,
            instances=self.instances,
            iou_threshold=NMS_IOU,
        )

    def loss_and_rois(
        self, levels: list[Tensor], batch: Batch, generator: torch.Generator
    ) -> tuple[dict[str, Tensor], Rois]:
        """Return the four losses, and the positive proposals as RoIs.

        `generator` samples the anchors and proposals that are trained on.
        """
        rpn_outputs = self.rpn(levels)
        losses = self.rpn.losses(rpn_outputs, batch, generator)
        proposals = self.rpn.propose_for_training(
            rpn_outputs, image_size_hw(batch.images), self.proposals
        )
        rois, positive = self.sample_rois(proposals, batch, generator)

        logits, deltas = self.classify(self.pool.of_rois(levels, rois, cells=CELLS))
        labels = torch.where(positive, rois.labels(batch) + 1, 0)
        total = all_reduce_mean(logits.new_tensor(float(len(labels)))).clamp(min=1.0)
        losses["class"] = F.cross_entropy(logits, labels, reduction="sum") / total

        wanted = Rois(*(values[positive] for values in rois))
        gt_xyxy = batch.boxes_xyxy[wanted.image, wanted.instance]
        target = encode_boxes(gt_xyxy, wanted.boxes_xyxy, DELTA_WEIGHTS)
        own = deltas[positive, wanted.labels(batch)]
        box = F.smooth_l1_loss(own, target, beta=SMOOTH_L1_BETA, reduction="sum")
        losses["box"] = box / total
        return losses, wanted

    @torch.no_grad()
    def sample_rois(
        self, proposals: list[Tensor], batch: Batch, generator: torch.Generator
    ) -> tuple[Rois, Tensor]:
        """Sample RoIs from proposals and true boxes, a quarter of them positive.

        Args:
            proposals: of every image, [P_b, 4].
            batch: the truth.
            generator: on the CPU.

        Returns:
            RoIs and whether each is positive, [R] bool.
        """
        rois, positives = [], []
        for b, found in enumerate(proposals):
            boxes = torch.cat([batch.boxes_xyxy[b, batch.valid[b]], found])
            iou, gt_index, _ = match_anchors(boxes, batch.boxes_xyxy[b], batch.valid[b])
            positive, negative = sample_anchors(
                iou >= POSITIVE_IOU,
                iou < POSITIVE_IOU,
                count=self.rois_per_image,
                share=POSITIVE_SHARE,
                generator=generator,
            )
            drawn = torch.cat([positive, negative])
            rois.append((boxes[drawn], gt_index[drawn]))
            positives.append(torch.arange(len(drawn), device=drawn.device) < len(positive))
        return concatenate_rois(rois), torch.cat(positives)
