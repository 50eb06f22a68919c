"""Masks are pasted as Detectron2 pastes them: PyTorch's `grid_sample`, to the pixel."""

import numpy as np
import torch
import torch.nn.functional as F

from amodal_perception.preprocess import letterbox
from amodal_perception.raw_masks import paste_detections
from amodal_perception.runtime import RawDetections

SIZE_HW = (120, 160)
CELLS = 28


def grid_sampled(crop, box_xyxy, size_hw=SIZE_HW):
    """Paste one mask by `grid_sample` on the centres of the image's pixels."""
    x0, y0, x1, y1 = torch.from_numpy(box_xyxy)
    y = (torch.arange(size_hw[0], dtype=torch.float32) + 0.5 - y0) / (y1 - y0) * 2 - 1
    x = (torch.arange(size_hw[1], dtype=torch.float32) + 0.5 - x0) / (x1 - x0) * 2 - 1
    grid = torch.stack([x.repeat(len(y), 1), y[:, None].repeat(1, len(x))], -1)
    pasted = F.grid_sample(torch.from_numpy(crop)[None, None], grid[None], align_corners=False)
    return (pasted[0, 0] >= 0.5).numpy()


def random_boxes(rng, count):
    """Boxes of all sizes, thin ones, some beyond the borders, corners of some on half pixels."""
    height, width = SIZE_HW
    centre = rng.uniform(-0.1, 1.1, (count, 2)) * (width, height)
    size = np.exp(rng.uniform(np.log(1), np.log(200), (count, 2)))
    boxes = np.concatenate([centre - size / 2, centre + size / 2], 1)
    rounded = rng.random(count) < 0.3
    boxes[rounded] = np.round(boxes[rounded] * 2) / 2
    return boxes.astype(np.float32)


def test_pasted_masks_equal_those_of_grid_sample_to_the_pixel():
    rng = np.random.default_rng(0)
    boxes = random_boxes(rng, 400)
    amodal = rng.random((400, CELLS, CELLS), np.float32)
    binary = rng.random(400) < 0.3
    amodal[binary] = amodal[binary] > 0.5
    raw = RawDetections(boxes, np.full(400, 0.9, np.float32), np.arange(400), amodal, amodal)
    transform = letterbox(np.zeros((*SIZE_HW, 3), np.uint8), SIZE_HW)[1]
    found = paste_detections(raw, transform)
    assert 300 < len(found) <= 400
    differing = set_pixels = 0
    for i, number in enumerate(found.labels):
        whole = np.zeros(SIZE_HW, bool)
        x0, y0, x1, y1 = found.windows_xyxy[i]
        whole[y0:y1, x0:x1] = found.masks["amodal"][i]
        differing += np.count_nonzero(whole != grid_sampled(amodal[number], boxes[number]))
        set_pixels += np.count_nonzero(whole)
    assert set_pixels > 100_000
    assert differing == 0
