import pytest
import torch
from torchvision.ops import roi_align as reference

from training.models.detector_protocol import Rois
from training.models.roi.roi_align import RoiPooler, crop_masks, level_of_boxes


def random_boxes(count: int, size_px: float, seed: int = 0) -> torch.Tensor:
    """Boxes of all sizes, many of which leave the map on one side or lie outside altogether."""
    generator = torch.Generator().manual_seed(seed)
    corner = (torch.rand(2, count, 2, generator=generator) * 1.6 - 0.3) * size_px
    side = torch.rand(2, count, 2, generator=generator) * size_px
    return torch.cat([corner, corner + side], -1)


def with_image_index(boxes: torch.Tensor) -> torch.Tensor:
    index = torch.arange(float(len(boxes)))[:, None, None].expand(*boxes.shape[:2], 1)
    return torch.cat([index, boxes], -1).flatten(0, 1)


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("level", [2, 3, 5])
def test_equals_torchvision_on_one_level(level, aligned):
    stride = 2**level
    features = torch.randn(2, 5, 20, 30, generator=torch.Generator().manual_seed(1))
    boxes = random_boxes(40, 25.0 * stride)
    boxes[:, :5, 2:] = boxes[:, :5, :2] + 0.3 * stride  # less than a cell
    pool = RoiPooler(first=level, count=1, aligned=aligned)
    theirs = reference(features, with_image_index(boxes), 14, 1 / stride, 2, aligned=aligned)
    torch.testing.assert_close(pool([features], boxes, cells=14), theirs, atol=2e-5, rtol=0)
    rois = Rois(boxes.flatten(0, 1), torch.arange(2).repeat_interleave(40), torch.zeros(80))
    torch.testing.assert_close(pool.of_rois([features], rois, cells=14), theirs)


def test_every_box_is_pooled_from_the_level_of_its_size():
    generator = torch.Generator().manual_seed(2)
    levels = [torch.randn(2, 3, 96 // 2**i, 128 // 2**i, generator=generator) for i in range(3)]
    boxes = random_boxes(50, 400.0)
    level_of = level_of_boxes(boxes, first=2, last=4)
    assert set(level_of.unique().tolist()) == {2.0, 3.0, 4.0}
    pool = RoiPooler(first=2, count=3)
    ours = pool(levels, boxes, cells=7)
    rois = Rois(boxes.flatten(0, 1), torch.arange(2).repeat_interleave(50), torch.zeros(100))
    torch.testing.assert_close(pool.of_rois(levels, rois, cells=7), ours, atol=2e-5, rtol=0)
    for level, features in enumerate(levels, 2):
        theirs = reference(features, with_image_index(boxes), 7, 1 / 2**level, 2, aligned=True)
        chosen = (level_of == level).flatten()
        torch.testing.assert_close(ours[chosen], theirs[chosen], atol=2e-5, rtol=0)


@pytest.mark.parametrize(
    ("side", "level"), [(111.0, 2), (113.0, 3), (223.0, 3), (225.0, 4), (900.0, 4), (0.0, 2)]
)
def test_level_rule(side, level):
    box = torch.tensor([10.0, 20.0, 10.0 + side, 20.0 + side])
    assert level_of_boxes(box, first=2, last=4).item() == level


def rois_of(boxes: torch.Tensor, instance: torch.Tensor) -> Rois:
    return Rois(boxes, torch.zeros_like(instance), instance)


def test_crops_of_a_box_on_the_pixel_grid_are_its_pixels():
    mask = (torch.rand(1, 60, 80, generator=torch.Generator().manual_seed(3)) > 0.5).to(
        torch.uint8
    )
    rois = rois_of(torch.tensor([[20.0, 10.0, 48.0, 38.0]]), torch.tensor([0]))
    crop = crop_masks(mask[None], rois, cells=28)
    assert torch.equal(crop[0], mask[0, 10:38, 20:48].float())


def test_crops_equal_torchvision_thresholded():
    masks = torch.zeros(1, 30, 50, 60)
    boxes = random_boxes(30, 60.0)[0]
    for i in range(30):
        masks[0, i, i : i + 12, 5 : 10 + i] = 1
    instance = torch.randperm(30, generator=torch.Generator().manual_seed(0))
    box_of = torch.cat([instance[:, None].float(), boxes], 1)
    theirs = reference(masks[0, :, None], box_of, 28, 1.0, 2, aligned=True)
    clear = (theirs[:, 0] - 0.5).abs() > 1e-4
    ours = crop_masks(masks.bool(), rois_of(boxes, instance), cells=28)
    assert ours.unique().tolist() == [0.0, 1.0]
    assert torch.equal(ours[clear], (theirs[:, 0] >= 0.5).float()[clear])


def test_crops_of_the_second_image_are_its_own():
    masks = torch.zeros(2, 2, 20, 20, dtype=torch.uint8)
    masks[1, 0, :, :10] = 1
    box = torch.tensor([[0.0, 0.0, 20.0, 20.0]])
    rois = Rois(box.repeat(3, 1), torch.tensor([1, 0, 1]), torch.tensor([0, 0, 1]))
    crops = crop_masks(masks, rois, cells=4)
    assert crops.sum((1, 2)).tolist() == [8.0, 0.0, 0.0]


def test_gradient_reaches_the_features_of_every_level():
    levels = [torch.randn(1, 3, 96 // 2**i, 128 // 2**i, requires_grad=True) for i in range(3)]
    boxes = torch.tensor([[10.0, 10, 60, 60], [10, 10, 160, 160], [0, 0, 300, 300]])
    rois = rois_of(boxes, torch.tensor([0, 1, 2]))
    RoiPooler(first=2, count=3).of_rois(levels, rois, cells=7).sum().backward()
    assert all(features.grad.any() for features in levels)


def test_no_rois():
    levels = [torch.randn(1, 3, 16, 16)]
    rois = rois_of(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
    assert RoiPooler(first=2, count=1).of_rois(levels, rois, cells=7).shape == (0, 3, 7, 7)
    masks = torch.zeros(1, 1, 64, 64, dtype=torch.uint8)
    assert crop_masks(masks, rois, cells=28).shape == (0, 28, 28)


def test_every_pixel_of_a_large_roi_counts():
    """Of a cell of 16 x 16 pixels, the target is what most of them are."""
    generator = torch.Generator().manual_seed(3)
    mask = torch.rand(448, 448, generator=generator) < 0.5
    rois = Rois(torch.tensor([[0.0, 0, 448, 448]]), torch.tensor([0]), torch.tensor([0]))
    share = mask.float().unflatten(0, (28, 16)).unflatten(2, (28, 16)).mean((1, 3))
    crop = crop_masks(mask[None, None], rois, cells=28)[0]
    assert torch.equal(crop, (share >= 0.5).float())
