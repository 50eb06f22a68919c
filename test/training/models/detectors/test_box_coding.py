import torch
from torchvision.models.detection._utils import BoxCoder

from training.models.detectors.box_coding import decode_boxes, encode_boxes
from training.models.detectors.faster_rcnn import DELTA_WEIGHTS


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
