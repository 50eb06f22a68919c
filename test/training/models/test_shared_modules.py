import pytest
import torch

from amodal_perception.errors import ConfigError
from training.models.shared_modules import CHOICES, SharedSettings


def test_settings_name_the_valid_parts():
    with pytest.raises(ConfigError, match=r"model\.backbone must be one of resnet18, .*'vgg'"):
        SharedSettings(backbone="vgg")
    with pytest.raises(ConfigError, match=r"model\.instances must be at least 1"):
        SharedSettings(instances=0)
    with pytest.raises(ConfigError, match=r"model\.class_slots must be 0 or at least 4, for 3 cl"):
        SharedSettings(class_slots=3).build_shared(3)


@pytest.mark.parametrize("backbone", CHOICES["backbone"])
def test_backbones_give_maps_of_the_channels_and_strides_they_state(backbone):
    network = SharedSettings(backbone=backbone)._backbone().eval()
    with torch.inference_mode():
        maps = network(torch.zeros(1, 3, 64, 96))
    assert tuple(m.shape[1] for m in maps) == network.channels
    assert [tuple(m.shape[2:]) for m in maps] == [(16, 24), (8, 12), (4, 6), (2, 3)]


def test_frozen_parts_do_not_learn():
    network = (
        SharedSettings(backbone="resnet18", frozen_norm=True, frozen_stages=2)._backbone().train()
    )
    network(torch.randn(2, 3, 64, 64))[-1].sum().backward()
    learning = {name for name, p in network.named_parameters() if p.grad is not None}
    assert not [name for name in learning if name.startswith(("conv1", "layer1"))]
    assert not [name for name in learning if "bn" in name]
    assert any(name.startswith("layer2") for name in learning)
    assert network.bn1.running_mean.abs().sum() == 0  # no statistics were taken
