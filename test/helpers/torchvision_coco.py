"""A file of weights as torchvision's Mask R-CNN of COCO has it, without the download.

The backbone is random, its normalisation measured on the photographs; the last layers are random
plus the least-squares solution for the photographs' objects. So detections are many, of several
classes, with scores from the threshold to near 1, and some are right.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import FrozenBatchNorm2d, box_iou, roi_align

from amodal_perception.runtime import ModelMetadata, RawDetections
from amodal_perception.structures import UInt8Array
from training.models.backbones.pretrained_weights import COCO_SLOTS

SLOTS = len(COCO_SLOTS)
CLASS_LOGIT, MASK_LOGIT, RANDOM_LOGIT = 9.0, 3.0, 2.5
RIDGE = 1.0


def torchvision_mask_rcnn(input_hw: tuple[int, int], proposals: int, detections: int) -> MaskRCNN:
    """torchvision's network as `maskrcnn_resnet50_fpn(weights=COCO_V1)` builds it.

    Its own resizing is switched off by the sizes: an image of `input_hw` stays as it is. It
    returns so many detections that those of unused slots take no other's place.
    """
    backbone = resnet_fpn_backbone(
        backbone_name="resnet50", weights=None, norm_layer=FrozenBatchNorm2d
    )
    network = MaskRCNN(
        backbone,
        SLOTS,
        min_size=min(input_hw),
        max_size=max(input_hw),
        rpn_post_nms_top_n_test=proposals,
        box_detections_per_img=detections,
    ).eval()
    for norm in norms_of(network):
        norm.eps = 0.0  # torchvision sets it for the file of COCO
    return network


def norms_of(network: MaskRCNN) -> list[FrozenBatchNorm2d]:
    return [part for part in network.modules() if isinstance(part, FrozenBatchNorm2d)]


def to_input(network: MaskRCNN, images: Sequence[UInt8Array]) -> ImageList:
    """Convert [H, W, 3] uint8 RGB images as torchvision's users do, and transform them."""
    tensors = [torch.from_numpy(image).permute(2, 0, 1).float() / 255 for image in images]
    return network.transform(tensors)[0]


@torch.no_grad()
def fit(
    network: MaskRCNN, images: Sequence[UInt8Array], truths: Sequence[tuple[Tensor, ...]]
) -> None:
    """Fill the network with random weights that detect something in the images.

    Args:
        network: changed in place.
        images: [H, W, 3] uint8 RGB of the network's input size.
        truths: of every image boxes [n, 4] xyxy, labels [n] (slots) and masks [n, H, W] uint8.
    """
    for name, norm in network.named_modules():
        if name.endswith("bn3"):
            norm.weight.fill_(0.3)  # else random blocks amplify rounding from each to the next
    for block in network.backbone.fpn.layer_blocks:
        block[0].weight.mul_(1 / 4)  # features of the order of 1, as in a trained one
    rpn, roi = network.rpn.head, network.roi_heads
    for layer, std in ((rpn.conv[0][0], 0.03), (rpn.cls_logits, 0.1), (rpn.bbox_pred, 0.01)):
        torch.nn.init.normal_(layer.weight, std=std)
    given = to_input(network, images)
    measuring = [norm.register_forward_pre_hook(_measure) for norm in norms_of(network)]
    features = network.backbone(given.tensors)
    for hook in measuring:
        hook.remove()

    sizes = given.image_sizes
    proposals, _ = network.rpn(given, features)
    hidden = roi.box_head(roi.box_roi_pool(features, proposals, sizes))
    x = roi.mask_head(roi.mask_roi_pool(features, [boxes for boxes, _, _ in truths], sizes))
    x = roi.mask_predictor.relu(roi.mask_predictor.conv5_mask(x))  # [n, 256, 28, 28]
    labels, deltas, masks = [], [], []
    for found, (boxes, slots, bitmaps) in zip(proposals, truths):
        iou, nearest = box_iou(found, boxes).max(1)
        near = iou >= 0.4
        labels.append(torch.where(near, slots[nearest], 0))
        (encoded,) = roi.box_coder.encode([boxes[nearest]], [found])
        deltas.append(torch.where(near[:, None], encoded, 0.0))
        index = torch.arange(len(boxes))[:, None]
        masks.append(roi_align(bitmaps[:, None].float(), torch.cat([index, boxes], 1), 28))

    wanted = CLASS_LOGIT * torch.nn.functional.one_hot(torch.cat(labels), SLOTS).float()
    _solve(roi.box_predictor.cls_score, hidden, wanted, noise=RANDOM_LOGIT)
    every_class = torch.cat(deltas).repeat(1, SLOTS)
    _solve(roi.box_predictor.bbox_pred, hidden, every_class, noise=0.3)
    pixels = x.permute(0, 2, 3, 1).flatten(0, 2)
    logits = MASK_LOGIT * (2 * torch.cat(masks).flatten() - 1)[:, None].repeat(1, SLOTS)
    _solve(roi.mask_predictor.mask_fcn_logits, pixels, logits, noise=1.0)


def _measure(norm: FrozenBatchNorm2d, inputs: tuple[Tensor]) -> None:
    norm.running_mean.copy_(inputs[0].mean((0, 2, 3)))
    norm.running_var.copy_(inputs[0].var((0, 2, 3)))


def _solve(layer: torch.nn.Module, x: Tensor, wanted: Tensor, *, noise: float) -> None:
    """Set a linear layer to ridge regression, plus random outputs of the deviation `noise`."""
    mean, centre = x.mean(0), wanted.mean(0)
    x = x - mean
    gram = x.T @ x + RIDGE * torch.eye(x.shape[1])
    weight = torch.linalg.solve(gram, x.T @ (wanted - centre)).T  # [outputs, inputs]
    random = torch.randn(weight.shape)
    weight = weight + noise * random / (x @ random.T).std()
    layer.weight.copy_(weight.reshape(layer.weight.shape))
    layer.bias.copy_(centre - weight @ mean)


def as_published(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Give a state dict the names of the published file, which is older than today's layers."""
    renamed = {}
    for name, value in state.items():
        name = re.sub(r"^(backbone\.fpn\.\w+_blocks\.\d)\.0\.", r"\1.", name)
        name = name.replace("rpn.head.conv.0.0.", "rpn.head.conv.")
        match = re.fullmatch(r"roi_heads\.mask_head\.(\d)\.0\.(\w+)", name)
        if match:
            name = f"roi_heads.mask_head.mask_fcn{int(match[1]) + 1}.{match[2]}"
        renamed[name] = value
    return renamed


class TorchvisionRuntime:
    """torchvision's network as an inference runtime, of the classes that `metadata` names.

    Its second stage is asked for the masks of 28 x 28, before they are pasted.
    """

    def __init__(self, network: MaskRCNN, metadata: ModelMetadata, instances: int) -> None:
        self.network, self.metadata, self.instances = network, metadata, instances
        self.unused = 0
        """Detections of unused slots, so far."""

    def __call__(self, image: UInt8Array) -> RawDetections:
        with torch.inference_mode():
            one = to_input(self.network, [image[0]])
            features = self.network.backbone(one.tensors)
            proposals, _ = self.network.rpn(one, features)
            (found,), _ = self.network.roi_heads(features, proposals, one.image_sizes)
        names = [COCO_SLOTS[slot] for slot in found["labels"].tolist()]
        known = np.array([name in self.metadata.class_names for name in names])
        self.unused += int((~known).sum())
        chosen = np.flatnonzero(known)[: self.instances]
        masks = found["masks"].numpy()[chosen, 0]
        return RawDetections(
            boxes_xyxy=found["boxes"].numpy()[chosen],
            scores=found["scores"].numpy()[chosen],
            labels=np.array([self.metadata.class_names.index(names[i]) for i in chosen]),
            amodal=masks,
            visible=masks,
        )
