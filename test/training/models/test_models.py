import pytest
import torch
from helpers.small_networks import random_batch

from training.models import MODELS

LIGHT = [name for name in MODELS if name.endswith("_light")]


@pytest.mark.parametrize("name", LIGHT)
def test_light_networks_keep_the_contract_and_learn_everywhere(name):
    torch.manual_seed(0)
    network = MODELS[name]().build(2)
    losses = network.losses(random_batch(3, 2), torch.Generator().manual_seed(0))
    sum(losses.values()).backward()
    learning = [(n, p) for n, p in network.named_parameters() if p.requires_grad]
    assert [n for n, p in learning if p.grad is None] == []
    network.eval()
    with torch.no_grad():
        for _, parameter in learning:  # heads that start with the same weights come apart
            parameter.add_(0.01 * torch.randn_like(parameter))
    with torch.inference_mode():
        found = network(random_batch(1).images[:1])
    assert found.boxes.shape == (1, 32, 4)
    assert found.amodal.shape == found.visible.shape == (1, 32, 28, 28)
    assert MODELS[name]().one_mask == torch.equal(found.amodal, found.visible)
    assert (found.occluded is not None) == (name == "orcnn_light")
