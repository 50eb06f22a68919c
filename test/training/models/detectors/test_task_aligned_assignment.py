import torch

from training.models.detectors.task_aligned_assignment import (
    POINTS_PER_OBJECT,
    task_aligned_assignment,
)

POINTS = torch.cartesian_prod(torch.arange(4.0, 64, 8), torch.arange(4.0, 64, 8))


def boxes_around_points(half: float) -> torch.Tensor:
    return torch.cat([POINTS - half, POINTS + half], 1)[None]


def test_points_outside_every_object_and_padding_are_negative():
    gt = torch.tensor([[[8.0, 8.0, 32.0, 32.0], [0.0, 0.0, 64.0, 64.0]]])
    result = task_aligned_assignment(
        torch.full((1, 2, 64), 0.5),
        boxes_around_points(12),
        POINTS,
        gt,
        torch.tensor([[True, False]]),
    )
    positive = result.quality[0] > 0
    inside = ((POINTS > 8) & (POINTS < 32)).all(1)
    assert positive.any()
    assert not (positive & ~inside).any()
    assert (result.gt_index[0, positive] == 0).all()
    assert positive.sum() <= POINTS_PER_OBJECT


def test_best_point_of_an_object_has_the_iou_of_its_box_as_quality():
    gt = torch.tensor([[[8.0, 8.0, 32.0, 32.0]]])
    result = task_aligned_assignment(
        torch.full((1, 1, 64), 0.5), boxes_around_points(10), POINTS, gt, torch.tensor([[True]])
    )
    torch.testing.assert_close(result.quality.max(), result.iou.max())
    assert 0.5 < result.quality.max() < 1


def test_a_point_two_objects_want_goes_to_the_box_it_predicts_better():
    gt = torch.tensor([[[8.0, 8.0, 32.0, 32.0], [8.0, 8.0, 56.0, 56.0]]])
    boxes = boxes_around_points(1)
    shared = int(((POINTS - 20) ** 2).sum(1).argmin())
    boxes[0, shared] = gt[0, 1]
    result = task_aligned_assignment(
        torch.full((1, 2, 64), 0.5), boxes, POINTS, gt, torch.ones(1, 2, dtype=torch.bool)
    )
    assert result.gt_index[0, shared] == 1
    torch.testing.assert_close(result.quality[0, shared], torch.tensor(1.0))


def test_image_without_objects_has_no_positive_points():
    result = task_aligned_assignment(
        torch.full((1, 1, 64), 0.5),
        boxes_around_points(10),
        POINTS,
        torch.zeros(1, 1, 4),
        torch.tensor([[False]]),
    )
    assert result.quality.sum() == 0
    assert result.iou.sum() == 0
