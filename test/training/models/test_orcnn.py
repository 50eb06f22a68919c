import math
from dataclasses import replace

import pytest
import torch
from helpers.small_networks import random_batch, small_orcnn

from training.models.orcnn import (
    OrcnnLightSettings,
    OrcnnMaskHeads,
    OrcnnMaskLogits,
    OrcnnSettings,
    occlusion_losses,
)
from training.models.roi.mask_heads import StandardMaskHead

LABELS = torch.tensor([0, 2, 1])


def heads_of(out_channels: int, *, independent: bool = False) -> OrcnnMaskHeads:
    torch.manual_seed(1)
    heads = OrcnnMaskHeads(
        StandardMaskHead(4, 4, convs=1, out_channels=out_channels),
        StandardMaskHead(4, 4, convs=1, out_channels=out_channels),
        independent=independent,
    )
    for head in (heads.amodal, heads.visible):  # so that logits differ from 0 and each other
        torch.nn.init.normal_(head.logits.weight)
    return heads


def test_output_keeps_the_contract():
    model = small_orcnn(3).eval()
    image = torch.randint(0, 256, (1, 64, 96, 3), dtype=torch.uint8)
    with torch.inference_mode():
        found = model(image)
    N, m = 32, 28
    assert found.boxes.shape == (1, N, 4)
    assert found.scores.shape == (1, N)
    assert found.labels.shape == (1, N)
    assert found.amodal.shape == found.visible.shape == (1, N, m, m)
    assert (found.scores.diff() <= 0).all()
    assert set(found.labels.unique().tolist()) <= {0, 1, 2}
    assert found.boxes.min() >= 0
    assert (found.boxes[..., 2] <= 96).all()
    assert (found.boxes[..., 3] <= 64).all()
    for masks in (found.amodal, found.visible):
        assert masks.min() >= 0
        assert masks.max() <= 1


@pytest.mark.parametrize("num_classes", [1, 3])
def test_all_terms_of_the_loss_reach_the_parameters(num_classes):
    model = small_orcnn(num_classes, out_channels=num_classes)
    losses = model.losses(random_batch(3, num_classes), torch.Generator().manual_seed(0))
    assert set(losses) == {"score", "box", "amodal", "visible", "occluded"}
    sum(losses.values()).backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    # A level whose points answer for no object has no gradient to its own box statistics.
    assert not [name for name in without if "box_conv.norms" not in name and "scales" not in name]


def test_image_without_objects_gives_a_finite_loss():
    model = small_orcnn()
    losses = model.losses(random_batch(0), torch.Generator().manual_seed(0))
    total = sum(losses.values())
    assert torch.isfinite(total)
    total.backward()
    assert losses["amodal"] == losses["box"] == 0


def test_loss_is_a_function_of_batch_and_generator():
    model = small_orcnn()
    batch = random_batch(3)
    a = model.losses(batch, torch.Generator().manual_seed(5))
    b = model.losses(batch, torch.Generator().manual_seed(5))
    assert {k: v.item() for k, v in a.items()} == {k: v.item() for k, v in b.items()}


def test_both_mask_heads_start_with_the_same_weights_and_are_not_shared():
    heads = OrcnnLightSettings().build(1).mask_heads
    pairs = list(zip(heads.amodal.parameters(), heads.visible.parameters()))
    assert all(torch.equal(a, v) for a, v in pairs)
    assert all(a is not v for a, v in pairs)


@pytest.mark.parametrize(
    ("z_A", "z_V", "probability"),
    [
        (6.0, 9.0, 1 / (1 + math.exp(3.0))),  # seen: the object is not hidden here
        (6.0, -9.0, 1 / (1 + math.exp(-6.0))),  # part of the object, not seen: hidden
        (-6.0, -9.0, 1 / (1 + math.exp(6.0))),  # background; -9 must not make it hidden
        (14.0, 10.0, 1 / (1 + math.exp(-4.0))),  # the paper's example of unequal scales
    ],
)
def test_logit_rule_in_its_regimes(z_A, z_V, probability):
    heads = heads_of(1)
    for head, value in ((heads.amodal, z_A), (heads.visible, z_V)):
        torch.nn.init.zeros_(head.logits.weight)
        torch.nn.init.constant_(head.logits.bias, value)
    z = heads(torch.randn(1, 4, 14, 14), torch.tensor([0]))
    assert (z.amodal == z_A).all()
    assert (z.visible == z_V).all()
    torch.testing.assert_close(z.occluded.sigmoid(), torch.full((1, 28, 28), probability))


def test_class_specific_masks_are_those_of_the_class():
    heads = heads_of(3)
    features = torch.randn(3, 4, 14, 14)
    z = heads(features, LABELS)
    for i, label in enumerate(LABELS):
        z_A, z_V = (
            head(features[i : i + 1], label[None])[0] for head in (heads.amodal, heads.visible)
        )
        torch.testing.assert_close(z.amodal[i], z_A)
        torch.testing.assert_close(z.visible[i], z_V)
        torch.testing.assert_close(z.occluded[i], z_A - z_V.clamp(min=0))


def test_class_agnostic_masks_do_not_depend_on_the_class():
    heads, features = heads_of(1), torch.randn(3, 4, 14, 14)
    for a, b in zip(heads(features, LABELS), heads(features, LABELS.flip(0))):
        assert torch.equal(a, b)


def mask_gradients(settings: OrcnnSettings, terms: tuple[str, ...]) -> tuple[bool, bool, bool]:
    """Tell whether these terms reach the amodal head, the visible head and the features."""
    heads = heads_of(1, independent=settings.independent)
    features = torch.randn(2, 4, 14, 14, requires_grad=True)
    amodal = torch.zeros(2, 28, 28)
    amodal[:, 5:20] = 1
    visible = torch.zeros(2, 28, 28)
    visible[:, 5:12] = 1
    z = heads(features, torch.zeros(2, dtype=torch.int64))
    losses = occlusion_losses(z, amodal, visible, settings)
    chosen = [losses[term] for term in terms]
    sum(chosen).backward()

    def reached(parameters) -> bool:
        return any(p.grad is not None and bool(p.grad.any()) for p in parameters)

    return (
        reached(heads.amodal.parameters()),
        reached(heads.visible.parameters()),
        reached([features]),
    )


def test_full_model_learns_all_from_the_occluded_mask():
    assert mask_gradients(OrcnnSettings(), ("occluded",)) == (True, True, True)
    assert mask_gradients(OrcnnSettings(), ("visible",)) == (False, True, True)
    assert mask_gradients(OrcnnSettings(), ("amodal",)) == (True, False, True)


def test_independent_keeps_two_losses_from_amodal_head_and_features():
    settings = OrcnnSettings(independent=True)
    assert mask_gradients(settings, ("visible", "occluded")) == (False, True, False)
    assert mask_gradients(settings, ("amodal",)) == (True, False, True)


@pytest.mark.parametrize(
    ("changes", "terms"),
    [
        ({}, {"amodal", "visible", "occluded"}),
        ({"occluded_weight": 0.0}, {"amodal", "visible"}),
        ({"visible_weight": 0.0}, {"amodal", "occluded"}),
    ],
)
def test_variants_leave_out_the_term_they_name_and_change_no_other(changes, terms):
    logits = OrcnnMaskLogits(*torch.randn(3, 2, 4, 4, generator=torch.Generator().manual_seed(0)))
    amodal, visible = torch.ones(2, 4, 4), torch.zeros(2, 4, 4)
    full = occlusion_losses(logits, amodal, visible, OrcnnSettings())
    variant = occlusion_losses(logits, amodal, visible, replace(OrcnnSettings(), **changes))
    assert set(variant) == terms
    assert all(variant[term] == full[term] for term in terms)


def test_without_visible_loss_the_visible_head_learns_through_the_occluded_mask():
    settings = OrcnnSettings(visible_weight=0.0)
    assert mask_gradients(settings, ("occluded",)) == (True, True, True)


def test_mask_losses_by_hand():
    # One RoI of 2 x 2 cells: seen, hidden, hidden, background.
    amodal = torch.tensor([[[1.0, 1.0], [1.0, 0.0]]])
    visible = torch.tensor([[[1.0, 0.0], [0.0, 0.0]]])
    z_A = torch.tensor([[[2.0, -1.0], [0.0, -3.0]]])
    z_V = torch.tensor([[[1.0, 0.5], [-2.0, -4.0]]])
    z_IV = z_A - z_V.clamp(min=0)  # 1, -1.5, 0, -3

    def bce(z: float, target: int) -> float:
        p = 1 / (1 + math.exp(-z))
        return -math.log(p if target else 1 - p)

    losses = occlusion_losses(OrcnnMaskLogits(z_A, z_V, z_IV), amodal, visible, OrcnnSettings())
    expected = {
        "amodal": (bce(2, 1) + bce(-1, 1) + bce(0, 1) + bce(-3, 0)) / 4,
        "visible": (bce(1, 1) + bce(0.5, 0) + bce(-2, 0) + bce(-4, 0)) / 4,
        "occluded": (bce(1, 0) + bce(-1.5, 1) + bce(0, 1) + bce(-3, 0)) / 4,
    }
    assert {k: v.item() for k, v in losses.items()} == pytest.approx(expected, rel=1e-5)


def test_hidden_cells_count_as_often_as_asked():
    amodal = torch.ones(1, 2, 2)
    visible = torch.tensor([[[1.0, 1.0], [1.0, 0.0]]])
    logits = OrcnnMaskLogits(*torch.zeros(3, 1, 2, 2))
    once = occlusion_losses(logits, amodal, visible, OrcnnSettings())
    thrice = occlusion_losses(logits, amodal, visible, OrcnnSettings(hidden_weight=3.0))
    for term in ("amodal", "visible"):
        assert thrice[term] == pytest.approx(once[term] * 6 / 4)
    assert thrice["occluded"] == once["occluded"]
