"""FCOS by hand."""

import math

import pytest
import torch
from helpers.small_networks import IMAGE_HW, batch_of
from torchvision.ops import batched_nms

from training.models.detectors.box_geometry import box_iou, clip_boxes
from training.models.detectors.fcos import STRIDES, Fcos, FcosTargets, rois_of
from training.models.detectors.nms import nms_per_class


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
    score = detector.postprocess(output, IMAGE_HW).scores[0, 0].item()
    assert score == pytest.approx(0.5 if kept else 0.0)  # sqrt(0.5 * 0.5)


def test_fcos_rois_are_true_boxes_and_found_ones_that_match():
    batch = batch_of([[0.0, 0.0, 40.0, 40.0]], [0])
    boxes = torch.tensor([[[0.0, 0.0, 40.0, 30.0], [50.0, 0.0, 90.0, 40.0], [0.0, 0.0, 40.0, 40]]])
    found = nms_per_class(
        torch.tensor([[[0.9], [0.8], [0.0]]]), boxes, candidates=3, instances=3, iou_threshold=0.9
    )
    rois = rois_of(found, batch)
    assert rois.boxes_xyxy.tolist() == [[0, 0, 40, 40], [0, 0, 40, 30]]


def test_fcos_finds_all_of_90_crowded_objects_as_the_authors_do():
    """810 points of P3 and 810 of P4 are above the threshold; the authors take 1000 of a level."""
    generator = torch.Generator().manual_seed(0)
    number = torch.arange(90)
    corner = torch.stack([number % 15 * 40.0, number // 15 * 60.0], 1)  # a third is covered
    objects = torch.cat([corner, corner + torch.tensor([60.0, 80.0])], 1)
    shown = torch.arange(1620) % 90
    boxes = objects[shown] + 2 * torch.randn(1620, 4, generator=generator)
    best = 0.3 + 0.6 * torch.rand(90, generator=generator)
    scores = best[shown] - 0.2 * torch.rand(1620, generator=generator)
    detector = Fcos(32, 1, instances=100)
    output = detector([torch.zeros(1, 32, 2, 2)] * 5)._replace(
        logits=scores.logit()[None, :, None],
        boxes_xyxy=boxes[None],
        centerness=torch.full((1, 1620), 9.0),
    )
    found = detector.postprocess(output, (480, 640))
    boxes = clip_boxes(boxes, (480, 640))
    kept = batched_nms(boxes, scores, torch.zeros(1620), 0.6)[:100]
    count = int((found.scores[0] > 0).sum())
    torch.testing.assert_close(found.boxes_xyxy[0, :count], boxes[kept])
    assert (box_iou(objects[:, None], boxes[kept]).amax(1) > 0.8).all()
