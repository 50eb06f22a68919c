import pytest
import torch
import torch.nn.functional as F

from training.models.blade.blade import (
    BladeLightSettings,
)
from training.models.blade.condinst import (
    Controller,
    MaskBranch,
    dynamic_head,
    head_parameters,
    relative_coordinates,
    upsample,
)
from training.models.detectors.instance_points import Points, grid_points


@pytest.mark.parametrize(
    ("mask_channels", "further_inputs", "parameters"),
    [(8, 0, 169), (16, 0, 233), (8, 1, 177), (16, 1, 241)],
)
def test_dynamic_heads_have_the_parameters_of_condinst_boxinst_and_blade(
    mask_channels, further_inputs, parameters
):
    assert head_parameters(mask_channels + 2 + further_inputs) == parameters


@pytest.mark.parametrize(
    ("changes", "sizes"),
    [
        ({}, [233, 241, 233]),
        ({"mask_channels": 8}, [169, 177, 169]),
        ({"fusion": False}, [233, 241]),
        ({"expansion": False}, [233]),
    ],
)
def test_controller_makes_the_heads_that_there_are(changes, sizes):
    settings = BladeLightSettings(**changes)
    assert settings.head_sizes() == sizes
    assert settings.build(1).controller.weight.shape == (sum(sizes), 64, 3, 3)


def test_controller_is_a_convolution_at_the_points():
    torch.manual_seed(0)
    maps = [torch.randn(2, 5, 4, 6), torch.randn(2, 5, 2, 3), torch.randn(2, 5, 1, 2)]
    controller = Controller(5, 7)
    torch.nn.init.normal_(controller.bias)
    index = torch.stack([torch.randperm(32), torch.randperm(32)])  # every point, borders too
    everywhere = torch.cat(
        [F.conv2d(x, controller.weight, controller.bias, padding=1).flatten(2) for x in maps], 2
    )
    expected = everywhere.transpose(1, 2).gather(1, index[..., None].expand(-1, -1, 7))
    torch.testing.assert_close(controller(maps, index), expected)


@pytest.mark.parametrize("own_inputs", [2, 3])
def test_dynamic_head_is_three_convolutions_for_each_instance(own_inputs):
    torch.manual_seed(0)
    B, N, C, h, w = 2, 3, 4, 5, 6
    features, own = torch.randn(B, C, h, w), torch.randn(B, N, own_inputs, h * w)
    parameters = torch.randn(B, N, head_parameters(C + own_inputs))
    found = dynamic_head(parameters, features, own)
    for b in range(B):
        for n in range(N):
            p, start, x = parameters[b, n], 0, torch.cat([features[b], own[b, n].view(-1, h, w)])
            for i, (inputs, outputs) in enumerate(((C + own_inputs, 8), (8, 8), (8, 1))):
                weight = p[start : start + outputs * inputs].view(outputs, inputs, 1, 1)
                start += outputs * inputs
                x = F.conv2d(x[None], weight, p[start : start + outputs])[0]
                start += outputs
                x = F.relu(x) if i < 2 else x
            assert start == len(p)
            torch.testing.assert_close(found[b, n], x[0], atol=1e-4, rtol=1e-4)


def test_places_are_in_sizes_of_objects_from_the_cell_to_the_point():
    features = torch.zeros(1, 16, 2, 3)
    points = Points(torch.tensor([[4.0, 4.0], [24.0, 8.0]]), torch.tensor([8.0, 16.0]), [])
    found = relative_coordinates(points, torch.tensor([[0, 1, 1]]), features)
    assert found.shape == (1, 3, 2, 6)
    # Cells' centres: x 4, 12, 20; y 4, 12.
    assert found[0, 0, 0].tolist() == [0, -8 / 64, -16 / 64] * 2
    assert found[0, 1, 0].tolist() == [20 / 128, 12 / 128, 4 / 128] * 2
    assert found[0, 2, 1].tolist() == [4 / 128] * 3 + [-4 / 128] * 3


def test_upsampled_logits_lie_where_the_targets_are_sampled():
    coarse = grid_points(torch.zeros(1, 1, 6, 6), 8).view(6, 6, 2)[..., 0]
    fine = grid_points(torch.zeros(1, 1, 12, 12), 4).view(12, 12, 2)[..., 0]
    found = upsample(coarse[None, None], 2)[0, 0]
    torch.testing.assert_close(found[:, 1:-1], fine[:, 1:-1])  # a ramp goes on as a ramp


@pytest.mark.parametrize("first", [2, 3])
def test_mask_branch_reads_the_pyramid_down_to_stride_8(first):
    levels = [torch.randn(1, 8, 64 // 2**k, 96 // 2**k) for k in range(first, 8)]
    branch = MaskBranch(8, width=8, out_channels=16, first=first)
    assert len(branch.refine) == 6 - first
    assert branch(levels).shape == (1, 16, 8, 12)
