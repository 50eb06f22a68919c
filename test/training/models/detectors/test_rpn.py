import math

import pytest
import torch
from helpers.small_networks import IMAGE_HW, batch_of, levels_of
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList

from training.models.detectors.rpn import RegionProposalNetwork


@pytest.mark.parametrize(
    ("conventions", "size_hw"),
    [
        ("detectron2", (128, 192)),  # multiples of 64, where both agree
        ("torchvision", (128, 192)),
        ("torchvision", (288, 352)),  # 5 x 6 cells of P6, 57 and 58 pixels apart
    ],
)
def test_anchors_are_torchvisions(conventions, size_hw):
    height, width = size_hw
    maps = [torch.zeros(1, 8, -(-height // s), -(-width // s)) for s in (4, 8, 16, 32, 64)]
    sizes, ratios = ((32,), (64,), (128,), (256,), (512,)), ((0.5, 1.0, 2.0),) * 5
    images = ImageList(torch.zeros(1, 3, *size_hw), [size_hw])
    (theirs,) = AnchorGenerator(sizes, ratios)(images, maps)
    found = RegionProposalNetwork(8, conventions=conventions)(maps)
    torch.testing.assert_close(torch.cat([level.boxes_xyxy for level in found]), theirs)


def test_static_proposals_are_those_of_training():
    torch.manual_seed(0)
    rpn = RegionProposalNetwork(16)
    torch.nn.init.normal_(rpn.objectness.weight, std=0.3)
    torch.nn.init.normal_(rpn.deltas.weight, std=0.05)
    judged = rpn(levels_of(2, 5, 16))
    for count in (30, 1000):  # 1000: more than there are, so that suppressed boxes fill it up
        static, kept = rpn.propose(judged, IMAGE_HW, count)
        free = rpn.propose_for_training(judged, IMAGE_HW, count)
        for boxes, is_proposal, expected in zip(static, kept, free):
            torch.testing.assert_close(boxes[is_proposal > 0], expected)
            assert (is_proposal == 0).any() == (count == 1000)


def test_rpn_losses_by_hand():
    rpn = RegionProposalNetwork(8)
    levels = [torch.zeros(1, 8, 1, 1)] * 5
    for layer in (rpn.objectness, rpn.deltas):
        torch.nn.init.zeros_(layer.weight)
    torch.nn.init.constant_(rpn.objectness.bias, 1.0)
    torch.nn.init.constant_(rpn.deltas.bias, 0.5)
    # The square anchor of P2, at the corner of the only cell: 15 anchors, one positive.
    batch = batch_of([[-16.0, -16.0, 16.0, 16.0]], [0])
    losses = rpn.losses(rpn(levels), batch, torch.Generator().manual_seed(0))
    iou_of_others = [32 * 32 / (64 * 64), 32 * 22 / (32 * 32 + 46 * 22 - 32 * 22)]
    assert iou_of_others[0] < 0.3 < iou_of_others[1] < 0.7  # ignored: both oblong ones of P2
    positive, negative = math.log(1 + math.exp(-1)), math.log(1 + math.exp(1))
    assert losses["objectness"].item() == pytest.approx((positive + 12 * negative) / 13, rel=1e-5)
    smooth_l1 = 4 * (0.5 - 0.5 / 9)
    assert losses["proposal"].item() == pytest.approx(smooth_l1 / 13, rel=1e-5)
