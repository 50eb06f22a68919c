import pytest
import torch
import torch.nn.functional as F

from training.models.mask_heads import LightMaskHead, StandardMaskHead, of_class, upsampled_logits

LABELS = torch.tensor([4, 0, 2])


def layers_of(num_classes: int) -> tuple[torch.nn.ConvTranspose2d, torch.nn.Conv2d]:
    torch.manual_seed(0)
    return torch.nn.ConvTranspose2d(6, 5, 2, stride=2), torch.nn.Conv2d(5, num_classes, 1)


@pytest.mark.parametrize("num_classes", [1, 3, 5])  # together with other pixels, and apart
def test_logits_by_pixels_equal_those_of_the_layers_one_after_the_other(num_classes):
    upsample, logits = layers_of(num_classes)
    x = torch.randn(3, 6, 4, 4)
    expected = logits(F.relu(upsample(x)))
    found = upsampled_logits(x, upsample, logits, None)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_logits_of_one_class_and_their_gradients_equal_those_of_all():
    upsample, logits = layers_of(5)
    x = torch.randn(3, 6, 4, 4)
    gradients = []
    for z in (
        upsampled_logits(x, upsample, logits, LABELS)[:, 0],
        of_class(logits(F.relu(upsample(x))), LABELS),
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
def test_heads_give_the_wanted_class_alone(make):
    features = torch.randn(3, 4, 14, 14)
    torch.manual_seed(0)
    head = make(5)
    found = head(features, LABELS)
    assert found.shape == (3, 1, 28, 28)
    torch.testing.assert_close(found[:, 0], of_class(head(features), LABELS))
    of_all = make(1)
    assert torch.equal(of_all(features, LABELS), of_all(features))
