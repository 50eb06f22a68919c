import math

import pytest
import torch
import torch.nn.functional as F

from training.models.roi.mask_heads import (
    LightMaskHead,
    StandardMaskHead,
    mask_loss,
    upsampled_logits,
)

LABELS = torch.tensor([4, 0, 2])


def layers_of(num_classes: int) -> tuple[torch.nn.ConvTranspose2d, torch.nn.Conv2d]:
    torch.manual_seed(0)
    return torch.nn.ConvTranspose2d(6, 5, 2, stride=2), torch.nn.Conv2d(5, num_classes, 1)


@pytest.mark.parametrize("num_classes", [1, 5])
def test_logits_and_their_gradients_equal_those_of_the_layers_one_after_the_other(num_classes):
    upsample, logits = layers_of(num_classes)
    x = torch.randn(3, 6, 4, 4)
    labels = LABELS.clamp(max=num_classes - 1)
    gradients = []
    for z in (
        upsampled_logits(x, upsample, logits, labels),
        logits(F.relu(upsample(x)))[torch.arange(3), labels],
    ):
        parameters = [*upsample.parameters(), *logits.parameters()]
        gradients.append([z, *torch.autograd.grad((z * x.sum()).square().mean(), parameters)])
    for found, expected in zip(*gradients):
        torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-4)
    assert len(gradients[0]) == 5


@pytest.mark.parametrize(
    "make",
    [
        lambda k: StandardMaskHead(4, 4, convs=1, out_channels=k),
        lambda k: LightMaskHead(4, 4, 4, out_channels=k).eval(),
    ],
)
def test_heads_give_the_mask_of_the_wanted_class(make):
    features = torch.randn(1, 4, 14, 14).expand(3, -1, -1, -1)
    head = make(5)
    torch.nn.init.normal_(head.logits.weight)
    found = head(features, LABELS)
    assert found.shape == (3, 28, 28)
    assert not torch.equal(found[0], found[1])
    for logits, label in zip(found, LABELS):
        torch.testing.assert_close(logits[None], head(features[:1], label[None]))
    of_all = make(1)
    assert torch.equal(of_all(features, LABELS), of_all(features, LABELS.flip(0)))


def count(network: torch.nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def test_standard_mask_head_has_layers_of_the_paper():
    head = StandardMaskHead(256, 256, convs=4, out_channels=80)
    assert count(head) == 4 * (256 * 256 * 9 + 256) + (256 * 256 * 4 + 256) + 80 * 257
    assert head(torch.zeros(2, 256, 14, 14), torch.tensor([0, 79])).shape == (2, 28, 28)


def test_mask_loss_by_hand():
    logits = torch.tensor([[[2.0, -1.0]], [[0.0, 3.0]]])
    target = torch.tensor([[[1.0, 1.0]], [[0.0, 0.0]]])
    cells = [math.log(1 + math.exp(z)) for z in (-2.0, 1.0, 0.0, 3.0)]
    assert mask_loss(logits, target).item() == pytest.approx(sum(cells) / 4)
    assert mask_loss(logits[:0], target[:0]) == 0
