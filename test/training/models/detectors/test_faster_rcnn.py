import pytest
import torch
from helpers.small_networks import batch_of, levels_of
from torch import Tensor
from torchvision.models.detection.roi_heads import RoIHeads

from training.models.detectors.box_coding import encode_boxes
from training.models.detectors.box_geometry import box_iou, clip_boxes
from training.models.detectors.faster_rcnn import DELTA_WEIGHTS, FasterRcnn

SCENE_HW = (480, 640)
THEIRS = RoIHeads(
    *(None, None, None),
    fg_iou_thresh=0.5,
    bg_iou_thresh=0.5,
    batch_size_per_image=512,
    positive_fraction=0.25,
    bbox_reg_weights=None,
    score_thresh=0.05,
    nms_thresh=0.5,
    detections_per_img=100,
)
"""torchvision's second stage, for what follows its layers."""


def scores_to_logits(scores: Tensor) -> Tensor:
    """Logits whose softmax gives the scores [P, K] of the classes, the background first."""
    background = 1 - scores.sum(1, keepdim=True)
    return torch.cat([background, scores], 1).clamp(min=1e-6).log()


def crowd(objects: int, proposals: int, classes: int, seed: int) -> tuple[Tensor, ...]:
    """A second stage's outputs for overlapping objects, each of which many proposals show.

    Returns:
        The objects' boxes [objects, 4] and classes [objects], proposals [P, 4], logits
        [P, classes + 1] and deltas [P, classes, 4]. A proposal has a second class as well, mostly
        above the threshold, whose box lies a little beside.
    """
    generator = torch.Generator().manual_seed(seed)
    columns = 10
    number = torch.arange(objects)
    corner = torch.stack([number % columns * 60.0, number // columns * 70.0], 1)  # half covered
    true_boxes = torch.cat([corner, corner + torch.tensor([90.0, 110.0])], 1)
    labels = torch.randint(classes, (objects,), generator=generator)
    shown = torch.arange(proposals) % objects
    moved = true_boxes[shown] + 3 * torch.randn(proposals, 4, generator=generator)
    moved = clip_boxes(moved, SCENE_HW)
    best = 0.45 + 0.33 * torch.rand(objects, generator=generator)
    first = best[shown] - 0.2 * torch.rand(proposals, generator=generator)
    scores = torch.zeros(proposals, classes)
    if classes > 1:
        other = torch.randint(classes, (proposals,), generator=generator)
        scores[torch.arange(proposals), other] = 0.2 * torch.rand(proposals, generator=generator)
    scores[torch.arange(proposals), labels[shown]] = first
    target = true_boxes[shown] + 2 * torch.randn(proposals, 4, generator=generator)
    deltas = encode_boxes(target, moved, DELTA_WEIGHTS)[:, None].repeat(1, classes, 1)
    deltas = deltas + 0.05 * torch.randn(deltas.shape, generator=generator)
    return true_boxes, labels, moved, scores_to_logits(scores), deltas


def detected(logits: Tensor, deltas: Tensor, proposals: Tensor, kept: Tensor | None = None):
    """Boxes, scores and labels that `FasterRcnn` finds."""
    detector = FasterRcnn(8, deltas.shape[1], instances=100, proposals=len(proposals))
    kept = torch.ones(len(proposals)) if kept is None else kept
    found = detector.postprocess(logits, deltas, proposals[None], kept[None], SCENE_HW)
    counts = found.scores[0] > 0
    return found.boxes_xyxy[0, counts], found.scores[0, counts], found.labels[0, counts]


def of_torchvision(logits: Tensor, deltas: Tensor, proposals: Tensor):
    """Boxes, scores and labels that torchvision finds in the same."""
    deltas = torch.cat([torch.zeros_like(deltas[:, :1]), deltas], 1).flatten(1)
    (boxes,), (scores,), (labels,) = THEIRS.postprocess_detections(
        logits, deltas, [proposals], [SCENE_HW]
    )
    return boxes, scores, labels - 1


def test_all_of_60_crowded_objects_are_detected():
    true_boxes, _, proposals, logits, deltas = crowd(60, 1000, 1, seed=0)
    boxes, scores, _ = detected(logits, deltas, proposals)
    iou = box_iou(true_boxes[:, None], boxes)
    assert (iou.amax(1) > 0.8).all()
    expected, expected_scores, _ = of_torchvision(logits, deltas, proposals)
    torch.testing.assert_close(boxes, expected)
    torch.testing.assert_close(scores, expected_scores)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("objects", "classes"), [(60, 80), (60, 7), (40, 3)])
def test_detections_in_a_crowd_are_torchvisions(objects, classes, seed):
    _, _, proposals, logits, deltas = crowd(objects, 1000, classes, seed)
    boxes, scores, labels = detected(logits, deltas, proposals)
    expected = of_torchvision(logits, deltas, proposals)
    for ours, theirs in zip((boxes, scores, labels), expected):
        torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=0)
    assert len(scores) == 100
    assert len(labels.unique()) >= min(classes, 7)


def test_proposals_that_fill_up_the_number_and_boxes_without_extent_are_not_detected():
    _, _, proposals, logits, deltas = crowd(6, 24, 1, seed=0)
    kept = (torch.arange(24) % 6 != 2).float()
    assert len(detected(logits, deltas, proposals)[0]) == 6
    assert len(detected(logits, deltas, proposals, kept)[0]) == 5
    beside = proposals + torch.tensor([5000.0, 0, 5000, 0])  # clipped to the border
    assert len(detected(logits, deltas, beside)[0]) == 0
    assert len(of_torchvision(logits, deltas, beside)[0]) == 0


def test_slots_of_no_class_take_their_share_of_the_scores_and_are_not_detected():
    _, _, proposals, logits, deltas = crowd(6, 24, 3, seed=0)
    more = torch.cat([logits, torch.full((24, 2), 1.5)], 1)
    _, plain, _ = detected(logits, deltas, proposals)
    _, scores, labels = detected(more, deltas, proposals)
    assert len(FasterRcnn(8, 3, instances=5, class_slots=6).classes.bias) == 6
    assert labels.max() <= 2
    assert 0.05 < scores.max() < 0.1 < plain.max()


def test_second_stage_learns_class_and_box_of_its_class_alone():
    torch.manual_seed(0)
    detector = FasterRcnn(32, 3, instances=20, proposals=40, rois_per_image=16)
    levels = levels_of(2, 5, 32)
    batch = batch_of([[10.0, 10.0, 50.0, 50.0]], [1])
    losses, rois = detector.loss_and_rois(
        [x[:1] for x in levels], batch, torch.Generator().manual_seed(0)
    )
    assert (rois.instance == 0).all()
    losses["box"].backward()
    used = detector.boxes.weight.grad.abs().sum(1).view(4, 4).sum(1) > 0  # background, 3 classes
    # The true box itself is a proposal without error; others around it may have been drawn.
    assert used.tolist() in ([False, False, True, False], [False] * 4)
