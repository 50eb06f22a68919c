import json

import numpy as np
import pytest
from helpers.scenes import draw_scene

from amodal_perception.errors import ConfigError
from amodal_perception.preprocess import PAD_VALUE
from training.datasets.augment import (
    Augmentation,
    augment,
    choose_whole,
    hue_rotation,
    move,
    paste_over,
    random_affine,
    recolour,
)
from training.datasets.sample import Sample
from training.loop.config import from_mapping, to_mapping


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


PLAIN = Augmentation(scale_jitter=(1, 1), aspect_jitter=(1, 1), recolour=False)


def with_whole(sample: Sample, whole: list[bool]) -> Sample:
    return Sample(
        sample.image, sample.amodal, sample.visible, sample.labels, np.array(whole, np.bool_)
    )


def test_mirroring_alone_changes_nothing_else():
    sample = drawn()
    seen = set()
    for seed in range(12):
        changed = augment(sample, np.random.default_rng(seed), PLAIN)
        mirrored = not np.array_equal(changed.image, sample.image)
        seen.add(mirrored)
        step = -1 if mirrored else 1
        assert np.array_equal(changed.image, sample.image[:, ::step])
        assert np.array_equal(changed.amodal, sample.amodal[:, :, ::step])
        assert np.array_equal(changed.visible, sample.visible[:, :, ::step])
    assert seen == {True, False}


def test_scale_jitter_stays_in_its_range():
    settings = Augmentation(scale_jitter=(0.8, 1.25), aspect_jitter=(1, 1))
    rng = np.random.default_rng(0)
    scales = [abs(random_affine((96, 128), rng, settings)[1, 1]) for _ in range(200)]
    assert 0.8 <= min(scales) < 0.85
    assert 1.2 < max(scales) <= 1.25


def test_pasted_objects_hide_others_and_keep_all_complete_masks():
    sample, other = drawn(1), drawn(2)
    pasted = Sample(other.image, other.visible[:2], other.visible[:2], other.labels[:2] + 3)
    result = paste_over(sample, pasted)
    front = pasted.visible.any(axis=0)
    assert np.array_equal(result.image[front], other.image[front])
    assert np.array_equal(result.image[~front], sample.image[~front])
    assert np.array_equal(result.amodal[:5], sample.amodal)
    assert np.array_equal(result.visible[:5], sample.visible & ~front)
    assert np.array_equal(result.visible[5:], pasted.visible)
    assert result.labels.tolist() == [0, 0, 0, 0, 0, 3, 3]


def test_only_whole_objects_are_pasted():
    other = with_whole(drawn(2), [False, True, False, True, False])
    chosen = {tuple(choose_whole(other, np.random.default_rng(n)).labels.shape) for n in range(20)}
    assert chosen == {(0,), (1,), (2,)}
    assert len(choose_whole(drawn(2), np.random.default_rng(0)).labels) == 0
    for seed in range(10):
        result = augment(drawn(1), np.random.default_rng(seed), PLAIN, other)
        sources = {mask.tobytes() for mask in other.amodal[[1, 3]]}
        sources |= {mask[:, ::-1].tobytes() for mask in other.amodal[[1, 3]]}
        assert all(mask.tobytes() in sources for mask in result.amodal[5:])
        assert not (result.visible & ~result.amodal).any()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"scale_jitter": [1.5, 1.0]}, r"scale_jitter must be \[minimum, maximum\] above 0"),
        ({"aspect_jitter": [0, 1]}, r"aspect_jitter must be \[minimum, maximum\] above 0"),
        ({"scale_jitter": [1]}, "scale_jitter must be"),
        ({"copy_paste": 1.5}, "copy_paste must be 0 to 1, but is 1.5"),
        ({"cache_mb": -1}, "cache_mb must be at least 0"),
    ],
)
def test_settings_out_of_range_are_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        from_mapping(values, source="test")


def test_settings_survive_a_run_folder():
    config = from_mapping({"scale_jitter": [0.8, 1], "copy_paste": 0.5}, source="test")
    assert config.scale_jitter == (0.8, 1)
    assert from_mapping(json.loads(json.dumps(to_mapping(config))), source="test") == config
