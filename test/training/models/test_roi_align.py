import pytest
import torch
from torchvision.ops import roi_align as reference

from training.models.roi_align import crop_masks, interpolation_matrix, level_of_boxes, roi_align


def random_boxes(count: int, size_px: float, seed: int = 0) -> torch.Tensor:
    """Boxes of all sizes, many of which leave the map on one side or lie outside altogether."""
    generator = torch.Generator().manual_seed(seed)
    corner = (torch.rand(2, count, 2, generator=generator) * 1.6 - 0.3) * size_px
    side = torch.rand(2, count, 2, generator=generator) * size_px
    return torch.cat([corner, corner + side], -1)


def with_image_index(boxes: torch.Tensor) -> torch.Tensor:
    index = torch.arange(float(len(boxes)))[:, None, None].expand(*boxes.shape[:2], 1)
    return torch.cat([index, boxes], -1).flatten(0, 1)


@pytest.mark.parametrize("level", [2, 3, 5])
def test_equals_torchvision_on_one_level(level):
    stride = 2**level
    features = torch.randn(2, 5, 20, 30, generator=torch.Generator().manual_seed(1))
    boxes = random_boxes(40, 25.0 * stride)
    ours = roi_align([features], boxes, cells=14, first=level)
    theirs = reference(features, with_image_index(boxes), 14, 1 / stride, 2, aligned=True)
    torch.testing.assert_close(ours.flatten(0, 1), theirs, atol=2e-5, rtol=0)


def test_every_box_is_pooled_from_the_level_of_its_size():
    generator = torch.Generator().manual_seed(2)
    levels = [torch.randn(2, 3, 96 // 2**i, 128 // 2**i, generator=generator) for i in range(3)]
    boxes = random_boxes(50, 400.0)
    level_of = level_of_boxes(boxes, first=2, last=4)
    assert set(level_of.unique().tolist()) == {2.0, 3.0, 4.0}
    ours = roi_align(levels, boxes, cells=7)
    for level, features in enumerate(levels, 2):
        theirs = reference(features, with_image_index(boxes), 7, 1 / 2**level, 2, aligned=True)
        chosen = (level_of == level).flatten()
        torch.testing.assert_close(ours.flatten(0, 1)[chosen], theirs[chosen], atol=2e-5, rtol=0)


@pytest.mark.parametrize(
    ("side", "level"), [(111.0, 2), (113.0, 3), (223.0, 3), (225.0, 4), (900.0, 4), (0.0, 2)]
)
def test_level_rule(side, level):
    box = torch.tensor([10.0, 20.0, 10.0 + side, 20.0 + side])
    assert level_of_boxes(box, first=2, last=4).item() == level


def test_crops_of_a_box_on_the_pixel_grid_are_its_pixels():
    mask = (torch.rand(1, 60, 80, generator=torch.Generator().manual_seed(3)) > 0.5).to(
        torch.uint8
    )
    crop = crop_masks(mask, torch.tensor([[20.0, 10.0, 48.0, 38.0]]), cells=28)
    assert torch.equal(crop[0], mask[0, 10:38, 20:48].float())


def test_crops_equal_torchvision_thresholded():
    masks = torch.zeros(30, 50, 60)
    boxes = random_boxes(30, 60.0)[0]
    for i in range(30):
        masks[i, i : i + 12, 5 : 10 + i] = 1
    index = torch.arange(30.0)[:, None]
    theirs = reference(masks[:, None], torch.cat([index, boxes], 1), 28, 1.0, 2, aligned=True)
    clear = (theirs[:, 0] - 0.5).abs() > 1e-4
    ours = crop_masks(masks.bool(), boxes, cells=28)
    assert ours.unique().tolist() == [0.0, 1.0]
    assert torch.equal(ours[clear], (theirs[:, 0] >= 0.5).float()[clear])


def test_weights_inside_the_map_sum_to_one():
    matrix = interpolation_matrix(torch.tensor([3.0]), torch.tensor([17.5]), cells=9, length=20)
    torch.testing.assert_close(matrix.sum(-1), torch.ones(1, 9))
