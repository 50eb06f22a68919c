import numpy as np
import torch

from training.models.pgexp.mask_flow import MaskFlow
from training.models.pgexp.prior_building.mask_crops import crop_objects
from training.models.pgexp.prior_building.prior_training import flow_loss, held_out, neighbours
from training.packed_objects import read_objects


def test_neighbours_are_the_nearest_others_of_the_class():
    rng = np.random.default_rng(0)
    codes, label = rng.normal(size=(30, 5)).astype(np.float32), np.arange(30) % 2
    label[0] = 2  # alone
    near = neighbours(codes, label, seed=0)
    assert near[0].tolist() == [0] * 8
    for i in range(1, 30):
        others = [j for j in range(30) if j != i and label[j] == label[i]]
        others.sort(key=lambda j: np.linalg.norm(codes[j] - codes[i]))
        assert near[i].tolist() == others[:8]


def test_flow_learns_to_move_a_mask():
    torch.manual_seed(0)
    visible = torch.zeros(1, 28, 28)
    visible[0, 8:20, 4:14] = 1
    amodal = torch.zeros(1, 28, 28)
    amodal[0, 8:20, 4:24] = 1
    network = MaskFlow(4)
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    losses = []
    for _ in range(80):
        loss = flow_loss(network, visible, amodal)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_a_tenth_is_held_out_the_same_every_time(data):
    crops = crop_objects(read_objects(data / "annotations.json"))
    assert np.array_equal(held_out(crops, 0), held_out(crops, 0))
    assert 0 < held_out(crops, 0).sum() < 20
