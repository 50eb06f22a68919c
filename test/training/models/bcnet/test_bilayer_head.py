from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from training.models.bcnet.bcnet import BcnetSettings
from training.models.bcnet.bilayer_head import BilayerHead, Tails
from training.models.roi.mask_heads import StandardMaskHead

RELEASED_PARAMETERS = 6_296_580


CONV, GRAPH, TAIL = 590_080, 262_656, 262_657  # of 256 channels; a tail is up-sampling and logit


UPSAMPLING = 262_400


def count(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def head_of(settings: BcnetSettings, channels: int = 256, **options) -> BilayerHead:
    torch.manual_seed(0)
    return BilayerHead(channels, channels, settings, **options)


def test_head_has_the_parameters_of_the_released_one():
    assert count(head_of(BcnetSettings())) == RELEASED_PARAMETERS
    assert 8 * CONV + 2 * GRAPH + 4 * TAIL == RELEASED_PARAMETERS


@pytest.mark.parametrize(
    ("changes", "parameters"),
    [
        ({"gcn": False}, RELEASED_PARAMETERS - 2 * GRAPH),
        ({"guidance": False}, RELEASED_PARAMETERS),
        ({"order": "published"}, RELEASED_PARAMETERS - 2 * CONV),
        ({"gcn_norm": "layer"}, RELEASED_PARAMETERS),
        ({"gcn_scaled": False}, RELEASED_PARAMETERS),
        ({"shared_upsampling": True}, RELEASED_PARAMETERS - 2 * UPSAMPLING),
        ({"occluder_mask_weight": 0.0}, RELEASED_PARAMETERS - TAIL),
        ({"occluder_contour_weight": 0.0}, RELEASED_PARAMETERS - TAIL),
        (
            {"occluder_mask_weight": 0.0, "occluder_contour_weight": 0.0},
            RELEASED_PARAMETERS - 2 * TAIL,
        ),
        ({"occludee_contour_weight": 0.0}, RELEASED_PARAMETERS - TAIL),
        ({"bilayer": False}, 4 * CONV + GRAPH + 2 * TAIL),
    ],
)
def test_every_switch_changes_the_layers_it_names(changes, parameters):
    assert count(head_of(replace(BcnetSettings(), **changes))) == parameters


def test_single_layer_of_convolutions_is_the_mask_head_of_mask_rcnn():
    settings = BcnetSettings(bilayer=False, gcn=False, occludee_contour_weight=0.0)
    ours, theirs = head_of(settings, 8), StandardMaskHead(8, 8, convs=4, out_channels=1)
    theirs.load_state_dict(dict(zip(theirs.state_dict(), ours.state_dict().values())))
    x = torch.randn(2, 8, 14, 14)
    torch.testing.assert_close(ours(x).occludee_mask, theirs(x, torch.zeros(2, dtype=torch.int64)))


def test_head_costs_two_and_a_half_times_that_of_mask_rcnn():
    def flops(head: torch.nn.Module, *labels: torch.Tensor) -> int:
        with FlopCounterMode(display=False) as counter, torch.inference_mode():
            head.eval()(torch.zeros(1, 256, 14, 14), *labels)
        return counter.get_total_flops()

    baseline = StandardMaskHead(256, 256, convs=4, out_channels=1)
    label = torch.tensor([0])
    assert flops(head_of(BcnetSettings())) / flops(baseline, label) == pytest.approx(
        2.48, abs=0.01
    )


def reached(head: BilayerHead, tail: str) -> set[str]:
    """Tell which parts of the head a prediction of it teaches."""
    head.zero_grad()
    logits = getattr(head(torch.randn(2, 8, 14, 14)), tail)
    (logits * torch.randn_like(logits)).sum().backward()
    learning = {
        name
        for name, p in head.named_parameters()
        if p.grad is not None and p.grad.abs().max() > 0
    }
    return {".".join(n.split(".")[: 3 if "tails" in n else 1]) for n in learning}


def tails_of(layer: str, name: str) -> set[str]:
    return {layer, f"{layer}_tails.upsample.{name}", f"{layer}_tails.logits.{name}"}


@pytest.mark.parametrize("guidance", [True, False])
def test_guidance_lets_the_occludee_teach_the_occluders_layer(guidance):
    head = head_of(BcnetSettings(guidance=guidance), 8)
    for name in ("mask", "contour"):
        below = tails_of("occludee", name) | ({"occluder"} if guidance else set())
        assert reached(head, f"occludee_{name}") == below
        assert reached(head, f"occluder_{name}") == tails_of("occluder", name)


def test_shared_upsampling_learns_from_mask_and_contour():
    head = head_of(BcnetSettings(shared_upsampling=True), 8)
    assert "occluder_tails.upsample.shared" in reached(head, "occluder_mask")
    assert "occluder_tails.upsample.shared" in reached(head, "occluder_contour")


@pytest.mark.parametrize("changes", [{"gcn_scaled": False}, {"gcn_norm": "layer"}])
def test_choices_inside_the_graph_change_the_result_alone(changes):
    a = head_of(BcnetSettings(), 8).eval()
    b = head_of(replace(BcnetSettings(), **changes), 8).eval()
    b.load_state_dict(a.state_dict(), strict=False)
    x = torch.randn(2, 8, 14, 14)
    assert not torch.allclose(a(x).occludee_mask, b(x).occludee_mask)


def test_few_positive_cells_can_be_learnt():
    """With weights as small as Detectron's, AdamW leaves no logit above 0 here."""
    torch.manual_seed(0)
    tails = Tails(16, 40, ["mask"], shared=False)
    optimizer = torch.optim.AdamW(tails.parameters(), lr=1.5e-3)
    generator = torch.Generator().manual_seed(1)
    for _ in range(600):
        x = torch.rand(8, 16, 14, 14, generator=generator)
        positive = (x[:, :1] * x[:, 1:2] > 0.6).float()  # a tenth of the cells
        target = positive.repeat_interleave(2, 2).repeat_interleave(2, 3)[:, 0]
        logits = tails(x)["mask"]
        optimizer.zero_grad()
        F.binary_cross_entropy_with_logits(logits, target).backward()
        optimizer.step()
    found, wanted = logits > 0, target > 0
    assert (found & wanted).sum() > 0.5 * wanted.sum()
    assert (found & wanted).sum() > 0.8 * found.sum()
