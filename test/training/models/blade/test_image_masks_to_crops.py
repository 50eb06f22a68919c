import pytest
import torch
import torch.nn.functional as F

from training.models.blade.image_masks_to_crops import boxes_of_image_masks, crop_image_masks


def test_box_of_a_map_lies_where_it_crosses_one_half():
    maps = torch.zeros(1, 3, 6, 8)
    maps[0, 0, 2:4, 3:6] = 1.0
    maps[0, 0, 2:4, 6] = 0.25  # a third of the way from 1 to 0.25 is left
    maps[0, 1, :, 0] = 0.6  # along the border
    fallback = torch.tensor([[[1.0, 2.0, 3.0, 4.0]] * 3])
    found = boxes_of_image_masks(maps, fallback, stride=4)[0]
    expected = [4 * 3, 4 * 2, 4 * (5.5 + 2 / 3), 4 * 4]
    assert found[0].tolist() == pytest.approx(expected)
    assert found[1].tolist() == pytest.approx([0, 0, 4 * (0.5 + 1 / 6), 24])
    assert found[2].tolist() == [1, 2, 3, 4]


def test_crops_are_bilinear_samples():
    torch.manual_seed(0)
    maps = torch.rand(1, 2, 8, 10)
    boxes = torch.tensor([[[0, 0, 40, 32], [5, 3, 27, 30]]], dtype=torch.float32)
    found = crop_image_masks(maps, boxes, stride=4, cells=7)
    for n in range(2):
        x0, y0, x1, y1 = boxes[0, n].tolist()
        part = (torch.arange(7) + 0.5) / 7
        x, y = (x0 + (x1 - x0) * part) / 40 * 2 - 1, (y0 + (y1 - y0) * part) / 32 * 2 - 1
        grid = torch.stack([x.expand(7, 7), y[:, None].expand(7, 7)], -1)[None]
        expected = F.grid_sample(maps[:, n : n + 1], grid, "bilinear", "border", False)
        torch.testing.assert_close(found[n], expected[0, 0], atol=1e-5, rtol=1e-5)
