"""Faster R-CNN, FCOS and the light detector, by hand and by torchvision."""

import math

import pytest
import torch
from helpers.small_networks import random_batch
from torchvision.models.detection._utils import BoxCoder
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import batched_nms

from training.models.detectors.box_coding import decode_boxes, encode_boxes
from training.models.detectors.faster_rcnn import DELTA_WEIGHTS, FasterRcnn
from training.models.detectors.fcos import STRIDES, Fcos, FcosTargets, rois_of
from training.models.detectors.light import LightDetector
from training.models.detectors.nms import matrix_nms, select
from training.models.detectors.rpn import RegionProposals, grid_anchors
from training.models.parts import CHOICES, Parts
from training.structures import Batch

IMAGE_HW = (64, 96)


def batch_of(boxes: list[list[float]], labels: list[int], size_hw=IMAGE_HW) -> Batch:
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
    generator = torch.Generator().manual_seed(0)
    sizes = [(math.ceil(IMAGE_HW[0] / 2**i), math.ceil(IMAGE_HW[1] / 2**i)) for i in range(8)]
    return [
        torch.randn(images, channels, *sizes[first + i], generator=generator) for i in range(count)
    ]


def detectors() -> dict[str, tuple[torch.nn.Module, list[torch.Tensor]]]:
    torch.manual_seed(0)
    faster = FasterRcnn(32, 3, instances=20, proposals=40, rois_per_image=16)
    return {
        "faster_rcnn": (faster, levels_of(2, 5, 32)),
        "fcos": (Fcos(32, 3, instances=20, score_threshold=0.0), levels_of(3, 5, 32)),
        "light": (LightDetector(32, 3, instances=20), levels_of(2, 4, 32)),
    }


@pytest.mark.parametrize("name", CHOICES["detector"])
def test_every_detector_finds_and_learns(name):
    detector, levels = detectors()[name]
    found = detector.eval().detect(levels, IMAGE_HW)
    assert found.boxes_xyxy.shape == (2, 20, 4)
    assert found.scores.shape == found.labels.shape == found.index.shape == (2, 20)
    assert (found.scores.diff(dim=1) <= 0).all()
    assert found.labels.min() >= 0
    assert found.labels.max() <= 2
    assert found.boxes_xyxy.min() >= 0
    assert (found.boxes_xyxy[..., 2] <= IMAGE_HW[1]).all()

    batch = random_batch(3, 3)
    losses, rois = detector.train().loss_and_rois(levels, batch, torch.Generator().manual_seed(0))
    again, _ = detector.loss_and_rois(levels, batch, torch.Generator().manual_seed(0))
    assert all(torch.isfinite(loss) and loss == again[term] for term, loss in losses.items())
    sum(losses.values()).backward()
    assert [n for n, p in detector.named_parameters() if p.grad is None] == []
    assert len(rois.boxes_xyxy) > 0
    assert set(rois.image.tolist()) == {0, 1}


@pytest.mark.parametrize("name", CHOICES["detector"])
def test_every_detector_bears_an_image_without_objects(name):
    detector, levels = detectors()[name]
    losses, rois = detector.loss_and_rois(
        levels, random_batch(0), torch.Generator().manual_seed(0)
    )
    assert all(torch.isfinite(loss) for loss in losses.values())
    assert len(rois.boxes_xyxy) == 0


def test_anchors_are_torchvisions():
    # 64 divides the image, so that torchvision's strides, image size by map size, are ours.
    maps = [torch.zeros(1, 1, 128 // s, 192 // s) for s in (4, 8, 16, 32, 64)]
    sizes, ratios = ((32,), (64,), (128,), (256,), (512,)), ((0.5, 1.0, 2.0),) * 5
    images = ImageList(torch.zeros(1, 3, 128, 192), [(128, 192)])
    (theirs,) = AnchorGenerator(sizes, ratios)(images, maps)
    ours = torch.cat([grid_anchors(m, s) for m, s in zip(maps, (4, 8, 16, 32, 64))])
    torch.testing.assert_close(ours, theirs)


def test_box_coding_is_torchvisions_and_its_inverse():
    generator = torch.Generator().manual_seed(0)
    low = torch.rand(2, 30, 2, generator=generator) * 50
    boxes, reference = torch.cat([low, low + 5 + 60 * torch.rand(2, 30, 2)], -1)
    coder = BoxCoder(DELTA_WEIGHTS)
    deltas = encode_boxes(boxes, reference, DELTA_WEIGHTS)
    torch.testing.assert_close(deltas, coder.encode_single(boxes, reference))
    torch.testing.assert_close(decode_boxes(deltas, reference, DELTA_WEIGHTS), boxes)
    wild = torch.full((30, 4), 100.0)  # a growth without limit would overflow
    theirs = coder.decode_single(wild, reference)
    torch.testing.assert_close(decode_boxes(wild, reference, DELTA_WEIGHTS), theirs)


def test_static_proposals_are_those_of_training():
    torch.manual_seed(0)
    rpn = RegionProposals(16)
    torch.nn.init.normal_(rpn.objectness.weight, std=0.3)
    torch.nn.init.normal_(rpn.deltas.weight, std=0.05)
    judged = rpn(levels_of(2, 5, 16))
    static = rpn.propose(judged, IMAGE_HW, 30)
    free = rpn.propose_freely(judged, IMAGE_HW, 30)
    for a, b in zip(static, free):
        torch.testing.assert_close(a, b)


def test_rpn_losses_by_hand():
    rpn = RegionProposals(8)
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


def test_second_stage_learns_class_and_box_of_its_class_alone():
    detector, levels = detectors()["faster_rcnn"]
    batch = batch_of([[10.0, 10.0, 50.0, 50.0]], [1])
    losses, rois = detector.loss_and_rois(
        [x[:1] for x in levels], batch, torch.Generator().manual_seed(0)
    )
    assert (rois.instance == 0).all()
    losses["box"].backward()
    used = detector.boxes.weight.grad.abs().sum(1).view(4, 4).sum(1) > 0  # background, 3 classes
    # The true box itself is a proposal without error; others around it may have been drawn.
    assert used.tolist() in ([False, False, True, False], [False] * 4)


def fcos_targets(boxes: list[list[float]]) -> tuple[FcosTargets, torch.Tensor, torch.Tensor]:
    detector = Fcos(32, 1, instances=5)
    size_hw = (256, 256)
    levels = [torch.zeros(1, 32, math.ceil(256 / s), math.ceil(256 / s)) for s in STRIDES]
    output = detector(levels)
    return detector.targets(output, batch_of(boxes, [0] * len(boxes), size_hw)), *output[3:5]


def test_fcos_point_is_positive_near_the_centre_on_the_level_of_the_size():
    targets, points, level = fcos_targets([[20.0, 20.0, 100.0, 100.0]])
    positive = targets.positive[0]
    # Longest sides of 40 to 64 px: P3 alone, at most 1.5 strides of 8 px from the centre (60, 60).
    assert positive.sum() == 9 or positive.sum() == 4
    assert (level[positive] == 0).all()
    assert ((points[positive] - 60).abs() <= 12).all()


def test_fcos_point_in_two_objects_belongs_to_the_smaller():
    large, small = [20.0, 20.0, 104.0, 104.0], [22.0, 22.0, 102.0, 102.0]
    targets, _, level = fcos_targets([large, small])
    # On P3 both would have the points around (62, 62).
    alone, _, _ = fcos_targets([large])
    assert alone.positive[0, level == 0].any()
    assert set(targets.gt_index[targets.positive & (level == 0)].tolist()) == {1}


def test_fcos_centerness_by_hand():
    targets, points, _ = fcos_targets([[20.0, 20.0, 100.0, 100.0]])
    i = int(((points - torch.tensor([52.0, 60.0])).abs().sum(1)).argmin())
    assert points[i].tolist() == [52.0, 60.0]
    left, right = 32, 48
    assert targets.centerness[0, i].item() == pytest.approx(math.sqrt(left / right))


def test_fcos_box_loss_is_weighted_by_centerness():
    detector = Fcos(32, 1, instances=5, box_weight=1.25)
    batch = batch_of([[0.0, 0.0, 64.0, 64.0]], [0])
    output = detector([torch.zeros(1, 32, 2, 2)] * 5)._replace(
        logits=torch.zeros(1, 2, 1),
        boxes_xyxy=torch.tensor([[[0.0, 0.0, 64.0, 64.0], [0.0, 0.0, 64.0, 32.0]]]),
        centerness=torch.zeros(1, 2),
    )
    targets = FcosTargets(
        torch.ones(1, 2, dtype=torch.bool),
        torch.zeros(1, 2, dtype=torch.int64),
        batch.boxes_xyxy.expand(1, 2, 4),
        torch.tensor([[0.75, 0.25]]),
    )
    losses = detector.losses(output, targets, batch)
    assert losses["box"].item() == pytest.approx(1.25 * (0.75 * 0 + 0.25 * 0.5), rel=1e-4)
    # Logits of 0: each positive point has alpha (1 - 1/2)^2 ln 2.
    assert losses["class"].item() == pytest.approx(0.25 * 0.25 * math.log(2), rel=1e-4)
    assert losses["centerness"].item() == pytest.approx(math.log(2), rel=1e-4)


@pytest.mark.parametrize(("with_centerness", "kept"), [(False, True), (True, False)])
def test_fcos_threshold_before_or_after_centerness(with_centerness, kept):
    detector = Fcos(
        32, 1, instances=1, score_threshold=0.3, threshold_with_centerness=with_centerness
    )
    output = detector([torch.zeros(1, 32, 2, 2)] * 5)._replace(
        logits=torch.zeros(1, 1, 1),  # 0.5, and 0.25 after the centre-ness
        boxes_xyxy=torch.tensor([[[0.0, 0.0, 64.0, 64.0]]]),
        centerness=torch.zeros(1, 1),
    )
    score = detector.select(output, IMAGE_HW).scores[0, 0].item()
    assert score == pytest.approx(0.5 if kept else 0.0)  # sqrt(0.5 * 0.5)


def test_fcos_rois_are_true_boxes_and_found_ones_that_match():
    batch = batch_of([[0.0, 0.0, 40.0, 40.0]], [0])
    boxes = torch.tensor([[[0.0, 0.0, 40.0, 30.0], [50.0, 0.0, 90.0, 40.0], [0.0, 0.0, 40.0, 40]]])
    found = select(
        torch.tensor([[[0.9], [0.8], [0.0]]]), boxes, candidates=3, instances=3, iou_threshold=0.9
    )
    rois = rois_of(found, batch)
    assert rois.boxes_xyxy.tolist() == [[0, 0, 40, 40], [0, 0, 40, 30]]


def test_selection_equals_torchvisions_class_by_class():
    generator = torch.Generator().manual_seed(0)
    low = torch.rand(60, 2, generator=generator) * 100
    boxes = torch.cat([low, low + 30 + 20 * torch.rand(60, 2, generator=generator)], 1)
    scores = torch.rand(60, 3, generator=generator)
    found = select(scores[None], boxes[None], candidates=180, instances=180, iou_threshold=0.4)
    flat = boxes.repeat_interleave(3, 0)
    kept = batched_nms(flat, scores.flatten(), torch.arange(180) % 3, 0.4)
    n = len(kept)
    torch.testing.assert_close(found.scores[0, :n], scores.flatten()[kept])
    torch.testing.assert_close(found.boxes_xyxy[0, :n], flat[kept])
    assert found.labels[0, :n].tolist() == (kept % 3).tolist()
    assert found.index[0, :n].tolist() == (kept // 3).tolist()
    assert (found.scores[0, n:] == 0).all()


def test_suppressed_instances_come_last_with_score_0():
    boxes = torch.tensor([0.0, 0.0, 30.0, 30.0]).repeat(1, 200, 1)
    boxes[0, 7] = torch.tensor([50.0, 10.0, 90.0, 60.0])
    scores = torch.linspace(0.9, 0.1, 200)[None, :, None]
    found = select(scores, boxes, candidates=128, instances=32, iou_threshold=0.6)
    assert (found.scores > 0).sum() == 2
    assert found.boxes_xyxy[0, 1].tolist() == [50.0, 10.0, 90.0, 60.0]


def test_boxes_of_other_classes_are_not_suppressed():
    boxes = torch.tensor([[[0.0, 0, 9, 9], [0.0, 0, 9, 9]]])
    assert matrix_nms(boxes, iou_threshold=0.5).tolist() == [[1.0, 0.0]]
    labels = torch.tensor([[0, 1]])
    assert matrix_nms(boxes, iou_threshold=0.5, labels=labels).tolist() == [[1.0, 1.0]]


@pytest.mark.parametrize("backbone", CHOICES["backbone"])
def test_backbones_give_maps_of_the_channels_and_strides_they_state(backbone):
    network = Parts(backbone=backbone)._backbone().eval()
    with torch.inference_mode():
        maps = network(torch.zeros(1, 3, 64, 96))
    assert tuple(m.shape[1] for m in maps) == network.channels
    assert [tuple(m.shape[2:]) for m in maps] == [(16, 24), (8, 12), (4, 6), (2, 3)]


def test_frozen_parts_do_not_learn():
    network = Parts(backbone="resnet18", frozen_norm=True, frozen_stages=2)._backbone().train()
    network(torch.randn(2, 3, 64, 64))[-1].sum().backward()
    learning = {name for name, p in network.named_parameters() if p.grad is not None}
    assert not [name for name in learning if name.startswith(("conv1", "layer1"))]
    assert not [name for name in learning if "bn" in name]
    assert any(name.startswith("layer2") for name in learning)
    assert network.bn1.running_mean.abs().sum() == 0  # no statistics were taken
