import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from training.models.pgexp.mask_flow import MaskFlow, resample, warp
from training.models.pgexp.pgexp import (
    PgexpSettings,
)


@settings(max_examples=20, deadline=None)
@given(st.integers(-6, 6), st.integers(-6, 6))
def test_flow_moves_pixels_where_it_says(dx, dy):
    maps = torch.rand(1, 2, 14, 14)
    flow = torch.tensor([dx / 7, dy / 7]).view(1, 1, 2, 1, 1).expand(1, 1, 2, 14, 14)
    found = warp(maps, flow)[:, :, 0]  # 2 is 14 cells
    for y in range(14):
        for x in range(14):
            inside = 0 <= y + dy < 14 and 0 <= x + dx < 14
            expected = maps[0, :, y + dy, x + dx] if inside else torch.zeros(2)
            torch.testing.assert_close(found[0, :, y, x], expected, rtol=0, atol=1e-5)


def test_warp_reads_between_cells():
    maps = torch.zeros(1, 1, 14, 14)
    maps[0, 0, 5, 5], maps[0, 0, 5, 6] = 1.0, 3.0
    flow = torch.zeros(1, 1, 2, 14, 14)
    flow[0, 0, 0, 5, 5] = 0.25 / 7
    assert warp(maps, flow)[0, 0, 0, 5, 5].item() == pytest.approx(0.75 * 1 + 0.25 * 3, abs=1e-5)


def test_flow_network_has_half_a_million_parameters_and_starts_at_rest():
    flow = MaskFlow(PgexpSettings().flow_width)
    assert sum(p.numel() for p in flow.parameters()) == pytest.approx(0.5e6, rel=0.1)
    masks = (torch.rand(2, 3, 28, 28) > 0.5).float()
    found = flow(*masks)
    assert found.shape == (3, 2, 14, 14)
    assert found.abs().max() < 0.05


def test_resampling_into_the_same_box_changes_nothing():
    masks, boxes = torch.rand(3, 28, 28), torch.rand(3, 4) * 10 + torch.tensor([0, 0, 20, 20])
    torch.testing.assert_close(resample(masks, boxes, boxes, cells=28), masks, atol=1e-4, rtol=0)


def test_resampled_mask_keeps_its_place_in_the_image():
    masks = torch.zeros(1, 28, 28)
    masks[0, 7:14, 14:21] = 1  # x 14..21, y 7..14 of a box of 28 pixels at (10, 20)
    found = resample(
        masks, torch.tensor([[10.0, 20, 38, 48]]), torch.tensor([[17.0, 20, 45, 48]]), cells=28
    )
    expected = torch.zeros(28, 28)
    expected[7:14, 7:14] = 1
    torch.testing.assert_close(found[0], expected)
