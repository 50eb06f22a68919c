import pytest
import torch

from training.batch import Batch
from training.models.mask_heads import MaskLogits, OcclusionMaskHeads, mask_losses
from training.models.orcnn import Orcnn, OrcnnLightSettings


def tiny_orcnn() -> Orcnn:
    torch.manual_seed(0)
    return Orcnn(
        stem_width=8,
        widths=(8, 16, 16, 16),
        depths=(1, 1, 1, 1),
        channels=16,
        mask_width=8,
        mask_context_width=8,
    )


def random_batch(num_objects: int) -> Batch:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (2, 64, 96, 3), dtype=torch.uint8, generator=generator)
    amodal = torch.zeros(2, max(1, num_objects), 64, 96, dtype=torch.uint8)
    boxes = torch.zeros(2, max(1, num_objects), 4)
    for i in range(num_objects):
        amodal[:, i, 10 : 40 + 5 * i, 20 * i : 20 * i + 30] = 1
        boxes[:, i] = torch.tensor([20.0 * i, 10, 20 * i + 30, 40 + 5 * i])
    visible = amodal.clone()
    visible[:, :, :, 25:35] = 0
    valid = torch.ones(2, max(1, num_objects), dtype=torch.bool) & (num_objects > 0)
    labels = torch.zeros(valid.shape, dtype=torch.int64)
    return Batch(images, boxes, valid, labels, amodal, visible)


def test_output_keeps_the_contract():
    model = tiny_orcnn().eval()
    image = torch.randint(0, 256, (1, 64, 96, 3), dtype=torch.uint8)
    with torch.inference_mode():
        found = model(image)
    N, m = model.instances, model.mask_cells
    assert found.boxes.shape == (1, N, 4)
    assert found.scores.shape == (1, N)
    assert found.labels.shape == (1, N)
    assert found.amodal.shape == found.visible.shape == (1, N, m, m)
    assert (found.scores.diff() <= 0).all()
    assert found.boxes.min() >= 0
    assert (found.boxes[..., 2] <= 96).all()
    assert (found.boxes[..., 3] <= 64).all()
    for masks in (found.amodal, found.visible):
        assert masks.min() >= 0
        assert masks.max() <= 1


def test_all_terms_of_the_loss_reach_the_parameters():
    model = tiny_orcnn()
    losses = model.losses(random_batch(3), torch.Generator().manual_seed(0))
    assert set(losses) == {"score", "box", "amodal", "visible", "occluded"}
    sum(losses.values()).backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    # A level whose points answer for no object has no gradient to its own box statistics.
    assert not [name for name in without if "box_conv.norms" not in name and "scales" not in name]


def test_image_without_objects_gives_a_finite_loss():
    model = tiny_orcnn()
    losses = model.losses(random_batch(0), torch.Generator().manual_seed(0))
    total = sum(losses.values())
    assert torch.isfinite(total)
    total.backward()
    assert losses["amodal"] == losses["box"] == 0


def test_loss_is_a_function_of_batch_and_generator():
    model = tiny_orcnn()
    batch = random_batch(3)
    a = model.losses(batch, torch.Generator().manual_seed(5))
    b = model.losses(batch, torch.Generator().manual_seed(5))
    assert {k: v.item() for k, v in a.items()} == {k: v.item() for k, v in b.items()}


def test_suppressed_instances_come_last_with_score_0():
    model = tiny_orcnn().eval()
    L = 200
    boxes = torch.tensor([0.0, 0.0, 30.0, 30.0]).repeat(1, L, 1)
    boxes[0, 7] = torch.tensor([50.0, 10.0, 90.0, 60.0])
    logits = torch.linspace(2, -2, L)[None]
    kept, scores = model.select(logits, boxes)
    assert (scores > 0).sum() == 2
    assert kept[0, 1].tolist() == [50.0, 10.0, 90.0, 60.0]


def test_occluded_logits_are_amodal_minus_positive_visible():
    heads = OcclusionMaskHeads(4, 4, 4).eval()
    torch.nn.init.normal_(heads.amodal.logits.weight)
    torch.nn.init.normal_(heads.visible.logits.weight)
    z = heads(torch.randn(3, 4, 14, 14))
    assert z.amodal.shape == (3, 28, 28)
    assert (z.visible < 0).any()
    torch.testing.assert_close(z.occluded, z.amodal - z.visible.clamp(min=0))


def test_mask_losses_of_perfect_and_opposite_logits():
    amodal = torch.zeros(1, 4, 4)
    amodal[0, :, :3] = 1
    visible = torch.zeros(1, 4, 4)
    visible[0, :, :2] = 1

    def logits(sign: float) -> MaskLogits:
        z_A, z_V = (sign * (t * 2 - 1) * 20 for t in (amodal, visible))
        return MaskLogits(z_A, z_V, sign * (amodal * (1 - visible) * 2 - 1) * 20)

    assert all(loss < 1e-6 for loss in mask_losses(logits(1), amodal, visible).values())
    assert all(loss > 19 for loss in mask_losses(logits(-1), amodal, visible).values())


def test_hidden_cells_count_as_often_as_asked():
    amodal = torch.ones(1, 2, 2)
    visible = torch.tensor([[[1.0, 1.0], [1.0, 0.0]]])
    logits = MaskLogits(*torch.zeros(3, 1, 2, 2))
    once = mask_losses(logits, amodal, visible)
    thrice = mask_losses(logits, amodal, visible, hidden_weight=3.0)
    for term in ("amodal", "visible"):
        assert thrice[term] == pytest.approx(once[term] * 6 / 4)
    assert thrice["occluded"] == once["occluded"]


def test_light_model_has_the_number_of_parameters_it_claims():
    count = sum(p.numel() for p in OrcnnLightSettings().build(1).parameters())
    assert count == pytest.approx(3.2e6, rel=0.05)
