import torch

from training.models.pgexp.expansion_heads import PixelExpansion
from training.models.pgexp.mask_flow import warp


def test_pixel_expansion_is_equation_6_in_a_loop():
    torch.manual_seed(0)
    head = PixelExpansion(4, 2)
    torch.nn.init.normal_(head.merge.weight)
    features, visible = torch.randn(3, 4, 14, 14), torch.rand(3, 14, 14)
    flows = 0.3 * torch.randn(3, 2, 2, 14, 14)
    found = head(features, visible, flows)
    for r in range(3):
        seen = (features[r] * visible[r])[None]
        moved = [warp(seen, flows[r, k][None, None])[:, :, 0] for k in range(2)]
        # The squeezing layer counts channels first, flows second.
        squeezed = head.squeeze(torch.stack(moved, 2).flatten(1, 2)).relu()
        expected = head.merge(torch.cat([squeezed, features[r][None]], 1))
        torch.testing.assert_close(found[r], expected[0])


def test_untrained_pixel_expansion_is_a_mask_head_without_it():
    features, flows = torch.randn(3, 4, 14, 14), torch.randn(3, 2, 2, 14, 14)
    found = PixelExpansion(4, 2)(features, torch.rand(3, 14, 14), flows)
    torch.testing.assert_close(found, features)
