import numpy as np
import pytest
from drawn_scenes import draw_scene

from amodal_perception.preprocess import PAD_VALUE
from training.datasets.augment import augment, hue_rotation, move, recolour
from training.datasets.sample import Sample


def drawn(seed: int = 0) -> Sample:
    image, truth = draw_scene(np.random.default_rng(seed), (96, 128), 5)
    return Sample(image, truth.amodal, truth.visible, truth.labels.astype(np.int64))


def test_same_generator_same_result_and_the_input_stays():
    sample = drawn()
    before = sample.image.copy()
    a = augment(sample, np.random.default_rng(7))
    b = augment(sample, np.random.default_rng(7))
    c = augment(sample, np.random.default_rng(8))
    assert np.array_equal(a.image, b.image)
    assert np.array_equal(a.amodal, b.amodal)
    assert not np.array_equal(a.image, c.image)
    assert np.array_equal(sample.image, before)


@pytest.mark.parametrize("seed", range(20))
def test_sizes_and_the_subset_of_masks_hold(seed):
    sample = drawn(seed)
    changed = augment(sample, np.random.default_rng(seed))
    assert changed.image.shape == sample.image.shape
    assert changed.image.dtype == np.uint8
    assert changed.amodal.shape == changed.visible.shape == sample.amodal.shape
    assert changed.amodal.dtype == np.bool_
    assert not (changed.visible & ~changed.amodal).any()


def test_mirror_moves_image_and_masks_alike():
    sample = drawn()
    mirror = np.array([[-1.0, 0, 127], [0, 1, 0]])
    moved = move(sample, mirror)
    assert np.array_equal(moved.image, sample.image[:, ::-1])
    assert np.array_equal(moved.amodal, sample.amodal[:, :, ::-1])
    assert np.array_equal(moved.visible, sample.visible[:, :, ::-1])


def test_what_comes_from_outside_is_grey_and_belongs_to_nothing():
    sample = drawn()
    moved = move(sample, np.array([[1.0, 0, 40], [0, 1, 0]]))
    assert (moved.image[:, :40] == PAD_VALUE).all()
    assert not moved.amodal[:, :, :40].any()
    assert np.array_equal(moved.amodal[:, :, 40:], sample.amodal[:, :, :-40])


def test_masks_stay_on_their_object_when_enlarged():
    image = np.full((96, 128, 3), 10, np.uint8)
    mask = np.zeros((1, 96, 128), np.bool_)
    mask[0, 20:60, 30:70] = True
    image[mask[0]] = 200
    moved = move(
        Sample(image, mask, mask, np.zeros(len(mask), np.int64)),
        np.array([[1.5, 0, -20.25], [0, 1.5, -10.25]]),
    )
    # Only the ramp of the interpolation, at the outline, may disagree.
    differs = (moved.image[..., 0] > 105) != moved.amodal[0]
    assert moved.amodal[0].sum() == pytest.approx(60 * 60, rel=0.03)
    assert differs.sum() < 150


def test_turning_the_hue_keeps_grey():
    assert np.allclose(hue_rotation(1.0) @ np.ones(3), np.ones(3))
    assert np.allclose(hue_rotation(1.0) @ hue_rotation(-1.0), np.eye(3))


def test_colours_change_but_not_the_order_of_greys():
    ramp = np.repeat(np.arange(0, 256, 5, dtype=np.uint8)[None, :, None], 3, axis=2)
    for seed in range(10):
        changed = recolour(ramp, np.random.default_rng(seed)).astype(int)
        assert (np.diff(changed, axis=1) >= 0).all()
