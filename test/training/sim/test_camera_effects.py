from dataclasses import replace

import cv2
import numpy as np
import pytest

from training.sim.camera_effects import (
    CameraEffects,
    apply_effects,
    encode_jpeg,
    sample_effects,
)

NONE = CameraEffects()


@pytest.fixture
def picture():
    ramp = np.linspace(0, 200, 64, dtype=np.uint8)
    return np.stack([np.tile(ramp, (48, 1)), np.full((48, 64), 90, np.uint8)] * 2, -1)[..., :3]


def rng():
    return np.random.default_rng(0)


def test_a_perfect_camera_changes_nothing(picture):
    assert np.abs(apply_effects(picture, NONE, rng()).astype(int) - picture).max() <= 1


@pytest.mark.parametrize(
    "change",
    [
        {"gain_rgb": (1.5, 1.0, 1.0)},
        {"gamma": 1.4},
        {"contrast": 0.7},
        {"saturation": 0.2},
        {"vignette": 0.4},
        {"defocus_px": 2.0},
        {"motion_px": 7.0},
        {"shot_noise": 0.05},
        {"read_noise": 0.05},
        {"chroma_blotch": 0.2},
    ],
    ids=lambda change: next(iter(change)),
)
def test_each_effect_shows_and_is_reproducible(picture, change):
    effects = replace(NONE, **change)
    one, again = (apply_effects(picture, effects, rng()) for _ in range(2))
    assert np.array_equal(one, again)
    assert np.abs(one.astype(int) - picture).max() > 4


def test_motion_blur_spreads_along_its_direction():
    dot = np.zeros((31, 31, 3), np.uint8)
    dot[15, 15] = 255
    blurred = apply_effects(dot, replace(NONE, motion_px=9, motion_deg=0), rng())
    assert np.count_nonzero(blurred[15, :, 0] > 10) >= 7
    assert np.count_nonzero(blurred[:, 15, 0] > 10) <= 3


def test_noise_grows_with_light():
    half = np.zeros((64, 64, 3), np.uint8)
    half[:, 32:] = 180
    noisy = apply_effects(half, replace(NONE, shot_noise=0.05), rng()).astype(float)
    assert noisy[:, 32:].std() > 5 * noisy[:, :32].std()


def test_dark_pictures_get_more_light_than_bright_ones():
    def exposure(level):
        draws = [sample_effects(np.random.default_rng(s), level) for s in range(50)]
        assert all(40 <= draw.jpeg_quality <= 95 for draw in draws)
        return np.mean([draw.gain_rgb for draw in draws])

    assert exposure(0.1) > 1.5 * exposure(0.6)


def test_jpeg_keeps_the_colour_order(picture):
    decoded = cv2.imdecode(np.frombuffer(encode_jpeg(picture, 95), np.uint8), cv2.IMREAD_COLOR)
    assert np.abs(decoded[..., ::-1].astype(int) - picture).mean() < 4
