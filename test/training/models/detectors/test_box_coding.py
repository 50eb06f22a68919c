import torch
from torchvision import ops
from torchvision.models.detection._utils import BoxCoder

from training.models.detectors import box_coding
from training.models.detectors.box_coding import decode_boxes, encode_boxes
from training.models.detectors.faster_rcnn import DELTA_WEIGHTS


def random_boxes(count: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * 50
    return torch.cat([corner, corner + 1 + torch.rand(count, 2, generator=generator) * 50], 1)


def test_iou_of_all_pairs_equals_torchvision():
    a, b = random_boxes(20, 0), random_boxes(30, 1)
    torch.testing.assert_close(box_coding.box_iou(a[:, None], b), ops.box_iou(a, b))


def test_giou_of_all_pairs_equals_torchvision():
    a, b = random_boxes(20, 0), random_boxes(30, 1)
    ours = box_coding.generalized_box_iou(a[:, None], b)
    torch.testing.assert_close(ours, ops.generalized_box_iou(a, b))
    assert ours.min() < 0


def test_clip_moves_corners_into_the_image():
    clipped = box_coding.clip_boxes(torch.tensor([[-5.0, 3.0, 50.0, 99.0]]), (40, 30))
    assert clipped.tolist() == [[0.0, 3.0, 30.0, 40.0]]


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
