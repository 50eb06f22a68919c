import torch
from helpers.small_networks import random_batch

from training.models.asn import CodedMaskHead, Extraction, OcclusionBranch, is_occluded
from training.models.roi.mask_heads import StandardMaskHead


def test_asn_counts_an_object_as_occluded_from_5_percent_on():
    batch = random_batch(1)
    amodal = torch.zeros(1, 3, 10, 10, dtype=torch.uint8)
    amodal[:] = 1
    visible = amodal.clone()
    visible[0, 1, 0, :5] = 0  # exactly 5 of 100 pixels
    visible[0, 2, 0, :6] = 0
    assert is_occluded(batch._replace(amodal=amodal, visible=visible)).tolist() == [[0, 0, 1]]


def test_asn_codes_depend_on_both_branches_and_guide_the_mask():
    torch.manual_seed(0)
    branch, extraction = OcclusionBranch(8), Extraction(8)
    head = CodedMaskHead(8, StandardMaskHead(8, 8, convs=3, out_channels=1))
    small, large = torch.randn(2, 8, 7, 7, requires_grad=True), torch.randn(2, 8, 14, 14)
    logit, features = branch(small)
    assert logit.shape == (2,)
    assert features.shape == (2, 8, 7, 7)
    codes = extraction(small.detach(), features)
    assert codes.shape == (2, 8, 14, 14)
    head(large, codes, torch.zeros(2, dtype=torch.int64)).sum().backward()
    assert small.grad.any()
    assert branch.convs[0].weight.grad.any()
