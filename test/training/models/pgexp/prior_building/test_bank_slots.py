import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.models.pgexp.prior_building.bank_slots import augmented_copy, medoids


def test_medoids_are_the_real_objects_of_clear_clusters():
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(5, 8)) * 100
    codes = np.concatenate([c + rng.normal(size=(20, 8)) for c in centres]).astype(np.float32)
    chosen = medoids(codes, 5, seed=0)
    assert [i // 20 for i in chosen] == [0, 1, 2, 3, 4]
    for i in chosen:
        members = codes[i // 20 * 20 : i // 20 * 20 + 20]
        distance = np.linalg.norm(members - members.mean(0), axis=1)
        assert distance[i % 20] == pytest.approx(distance.min(), rel=1e-3)


def test_medoids_of_equal_codes_are_different_objects():
    assert len(set(medoids(np.ones((30, 4), np.float32), 10, seed=0).tolist())) == 10


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_moved_copies_keep_visible_inside_amodal_and_boxes_around_both(seed):
    rng = np.random.default_rng(seed)
    masks = np.zeros((2, *rng.integers(3, 60, 2)), np.uint8)
    height, width = masks.shape[1:]
    cv2.ellipse(masks[0], (width // 2, height // 2), (width // 2, height // 2), 0, 0, 360, 1, -1)
    masks[1] = masks[0]
    masks[1, :, : int(rng.integers(0, width // 2 + 1))] = 0
    (amodal_crop, visible_crop), boxes = augmented_copy(masks.astype(bool), rng)
    assert not (visible_crop & ~amodal_crop).any()
    assert amodal_crop.mean() > 0.15  # a thin one that was turned fills little of its frame
    assert (boxes[1, :2] >= boxes[0, :2]).all()
    assert (boxes[1, 2:] <= boxes[0, 2:]).all()
    assert (boxes[:, 2:] > boxes[:, :2]).all()
