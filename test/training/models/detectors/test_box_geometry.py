import torch
from torchvision import ops

from training.models.detectors.box_geometry import (
    box_iou,
    boxes_of_masks,
    clip_boxes,
    generalized_box_iou,
)


def random_boxes(count: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * 50
    return torch.cat([corner, corner + 1 + torch.rand(count, 2, generator=generator) * 50], 1)


def test_iou_of_all_pairs_equals_torchvision():
    a, b = random_boxes(20, 0), random_boxes(30, 1)
    torch.testing.assert_close(box_iou(a[:, None], b), ops.box_iou(a, b))


def test_giou_of_all_pairs_equals_torchvision():
    a, b = random_boxes(20, 0), random_boxes(30, 1)
    ours = generalized_box_iou(a[:, None], b)
    torch.testing.assert_close(ours, ops.generalized_box_iou(a, b))
    assert ours.min() < 0


def test_clip_moves_corners_into_the_image():
    clipped = clip_boxes(torch.tensor([[-5.0, 3.0, 50.0, 99.0]]), (40, 30))
    assert clipped.tolist() == [[0.0, 3.0, 30.0, 40.0]]


def test_boxes_of_masks():
    masks = torch.zeros(1, 3, 8, 10, dtype=torch.uint8)
    masks[0, 0, 2:5, 3:9] = 1
    masks[0, 1, 7, 0] = 1
    assert boxes_of_masks(masks).tolist() == [[[3, 2, 9, 5], [0, 7, 1, 8], [0, 0, 0, 0]]]
