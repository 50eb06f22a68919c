import pytest
import torch

from training.models.bcnet.occluder_targets import balanced_rois, occluder_masks
from training.structures import Batch


def drawn_batch(windows: list[tuple[int, int, int, int]]) -> Batch:
    """Draw rectangles x0, y0, x1, y1 in an image of 40 x 40, the first in front."""
    amodal = torch.zeros(1, len(windows), 40, 40, dtype=torch.uint8)
    for i, (x0, y0, x1, y1) in enumerate(windows):
        amodal[0, i, y0:y1, x0:x1] = 1
    visible = amodal.clone()
    for i in range(1, len(windows)):
        visible[0, i] *= 1 - amodal[0, :i].amax(0)
    return Batch(
        torch.zeros(1, 40, 40, 3, dtype=torch.uint8),
        torch.tensor([windows], dtype=torch.float32),
        torch.ones(1, len(windows), dtype=torch.bool),
        torch.zeros(1, len(windows), dtype=torch.int64),
        amodal,
        visible,
    )


DRAWN = [(10, 10, 20, 20), (15, 10, 30, 20), (25, 12, 40, 30), (0, 34, 6, 40)]


def unions(batch: Batch, **changes) -> torch.Tensor:
    options = {"neighbour_masks": "visible", "order_aware": False, "overlap_iou": 0.05}
    return occluder_masks(batch, **{**options, **changes})[0]


def test_occluder_is_the_union_of_overlapping_neighbours():
    batch = drawn_batch(DRAWN)
    amodal, visible = batch.amodal[0], batch.visible[0]
    # Neighbours are compared by the boxes of the masks that are used: seen, object 1 begins where
    # object 0 ends.
    found = unions(batch, neighbour_masks="amodal")
    assert torch.equal(found[0], amodal[1])
    assert torch.equal(found[1], torch.maximum(amodal[0], amodal[2]))
    assert torch.equal(found[2], amodal[1])
    assert found[3].sum() == 0
    found = unions(batch)
    assert found[0].sum() == 0
    assert torch.equal(found[1], torch.maximum(visible[0], visible[2]))
    assert torch.equal(found[2], visible[1])


def test_order_aware_occluders_are_in_front():
    batch = drawn_batch(DRAWN)
    found = unions(batch, neighbour_masks="amodal", order_aware=True)
    assert found[0].sum() == 0
    assert torch.equal(found[1], batch.amodal[0, 0])
    assert torch.equal(found[2], batch.amodal[0, 1])


def test_neighbours_need_more_overlap_than_the_threshold():
    batch = drawn_batch([(0, 0, 20, 20), (15, 0, 35, 20)])  # IoU 100 / 700
    assert unions(batch, neighbour_masks="amodal", overlap_iou=0.142)[1].sum() == 400
    assert unions(batch, neighbour_masks="amodal", overlap_iou=0.143)[1].sum() == 0


@pytest.mark.parametrize(("rows", "kept"), [(2, False), (3, True)])
def test_union_of_at_most_20_pixels_in_the_box_is_empty(rows, kept):
    batch = drawn_batch([(0, 0, 10, rows), (0, 0, 10, 10)])  # 20 or 30 pixels
    assert (unions(batch)[1].sum() > 0) == kept


def test_padding_is_nobodys_neighbour():
    batch = drawn_batch(DRAWN)
    batch = batch._replace(valid=torch.tensor([[False, True, True, True]]))
    assert torch.equal(unions(batch, neighbour_masks="amodal")[1], batch.amodal[0, 2])


def test_what_is_seen_of_the_neighbours_in_an_object_is_what_hides_it():
    batch = drawn_batch([(12, 12, 28, 28), (10, 10, 30, 30), (5, 5, 35, 35)])
    hidden = batch.amodal[0] * unions(batch)
    assert torch.equal(hidden, batch.amodal[0] - batch.visible[0])


def occluder_targets(occluded: list[int]) -> torch.Tensor:
    targets = torch.zeros(len(occluded), 4, 4)
    targets[:, 1, 1] = torch.tensor(occluded, dtype=torch.float32)
    return targets


def test_drawn_balance_takes_as_many_others_as_occluded():
    targets = occluder_targets([0, 0, 1, 0, 1, 0, 0, 0])
    drawn = set()
    for seed in range(20):
        chosen = balanced_rois(targets, "drawn", torch.Generator().manual_seed(seed)).tolist()
        assert chosen[:2] == [2, 4]
        assert len(chosen) == len(set(chosen)) == 4
        drawn |= set(chosen[2:])
    assert drawn == {0, 1, 3, 5, 6, 7}


@pytest.mark.parametrize(
    ("occluded", "drawn", "released"),
    [
        ([0, 0, 0], [], []),
        ([1, 1, 0], [0, 1, 2], [0, 1, 0, 1]),
        ([1, 1], [0, 1], [0, 1, 0, 1]),
        ([0, 0, 1], None, [2, 0]),
    ],
)
def test_balance_by_hand(occluded, drawn, released):
    generator = torch.Generator().manual_seed(0)
    targets = occluder_targets(occluded)
    if drawn is not None:
        assert balanced_rois(targets, "drawn", generator).tolist() == drawn
    assert balanced_rois(targets, "released", generator).tolist() == released
