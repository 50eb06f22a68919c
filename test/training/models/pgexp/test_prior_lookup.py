import numpy as np
import torch
from helpers.small_networks import random_batch
from helpers.small_pgexp import fill, network
from hypothesis import given, settings
from hypothesis import strategies as st

from amodal_perception.storage.memory_bank import pack_masks
from training.models.detectors.box_coding import decode_boxes, encode_boxes
from training.models.pgexp.mask_flow import warp
from training.models.pgexp.pgexp import (
    UNWEIGHTED,
)
from training.models.pgexp.prior_lookup import MemoryBankModule

OFFSETS = st.floats(-50, 50)


SIDES = st.floats(1, 60)


BOXES = st.tuples(OFFSETS, OFFSETS, SIDES, SIDES).map(
    lambda b: torch.tensor([b[0], b[1], b[0] + b[2], b[1] + b[3]], dtype=torch.float64)
)


@settings(deadline=None)
@given(BOXES, BOXES, BOXES)
def test_transformation_leads_from_the_visible_to_the_amodal_box(visible, amodal, query):
    deltas = encode_boxes(amodal, visible, UNWEIGHTED)
    torch.testing.assert_close(
        decode_boxes(deltas, visible, UNWEIGHTED), amodal, rtol=1e-6, atol=1e-6
    )
    # On another box it shifts by shares of that box's sides, and scales alike.
    found = decode_boxes(deltas, query, UNWEIGHTED)
    size, seen = query[2:] - query[:2], visible[2:] - visible[:2]
    shift = ((amodal[:2] + amodal[2:]) - (visible[:2] + visible[2:])) / 2 / seen
    expected_size = size * (amodal[2:] - amodal[:2]) / seen
    centre = (query[:2] + query[2:]) / 2 + shift * size
    expected = torch.cat([centre - expected_size / 2, centre + expected_size / 2])
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


def test_class_without_slots_expands_nothing():
    model = network()
    labels, masks = torch.tensor([1, 0]), (torch.rand(2, 28, 28) > 0.5).float()
    seen = torch.tensor([[3.0, 4.0, 20.0, 30.0], [3.0, 4.0, 20.0, 30.0]])
    boxes = model.prior_boxes(seen, masks, labels)
    assert torch.equal(boxes[0], seen[0].expand(3, 4))
    assert not torch.allclose(boxes[1], seen[1].expand(3, 4))
    flows = model.prior.flows(masks, labels)
    assert flows.shape == (2, 3, 2, 14, 14)
    assert flows[0].abs().max() == 0
    assert flows[1].abs().max() > 0
    maps = torch.rand(1, 5, 14, 14)
    torch.testing.assert_close(warp(maps, flows[:1])[:, :, 0], maps)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_search_is_brute_force_over_the_class_without_the_own_annotation(seed):
    generator = torch.Generator().manual_seed(seed)
    bank = MemoryBankModule(3, 20, 128)
    fill(bank, [0, 1, 2])
    codes = torch.rand(6, 128, generator=generator) * 3
    labels = torch.randint(3, (6,), generator=generator)
    own = bank.search(codes, labels, 1)[:, 0]  # so that it matters
    own_ids = torch.where(torch.arange(6) % 2 == 0, bank.ids[own], -1)
    for ids in (None, own_ids):
        found = bank.search(codes, labels, 4, ids)
        for r in range(6):
            distances = []
            for slot in range(20 * int(labels[r]), 20 * int(labels[r]) + 20):
                if ids is not None and ids[r] >= 0 and ids[r] == bank.ids[slot]:
                    continue
                key = bank.codes[slot].double()
                distances.append((float((key - codes[r].double()).norm()), slot))
            assert found[r].tolist() == [slot for _, slot in sorted(distances)[:4]]


def test_masks_of_slots_are_unpacked_as_they_were_packed():
    bank = MemoryBankModule(1, 12, 128)
    masks = np.random.default_rng(0).random((12, 28, 28)) < 0.5
    bank.amodal.copy_(torch.from_numpy(pack_masks(masks)))
    index = torch.tensor([[3, 0], [11, 3]])
    assert np.array_equal(bank.masks(index).numpy(), masks[index.numpy()])


def test_self_retrieval_is_excluded_while_training():
    model = network(1)
    asked = []
    search = model.prior.bank.search

    def noted(codes, labels, count, own_ids=None):
        asked.append(own_ids)
        return search(codes, labels, count, own_ids)

    model.prior.bank.search = noted
    batch = random_batch(2)._replace(ids=torch.tensor([[5, 7], [8, 9]]))
    model.losses(batch, torch.Generator().manual_seed(0))
    assert len(asked) == 2  # once for boxes, once for masks
    assert all(ids is not None and set(ids.tolist()) <= {5, 7, 8, 9} for ids in asked)
    asked.clear()
    model.eval()(batch.images)
    assert asked == [None, None]
