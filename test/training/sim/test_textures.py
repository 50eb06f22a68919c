import numpy as np
import pytest

from training.sim.textures import make_finish, make_surface, noise

KINDS = [
    "print",
    "label",
    "pattern",
    "plain",
    "paper",
    "wood",
    "metal",
    "dark",
    "noise",
    "rings",
    "glass",
    "fruit",
]


@pytest.mark.parametrize("kind", KINDS)
def test_finish_is_reproducible_and_varied(kind):
    images = [make_finish(kind, np.random.default_rng(s), 64).image for s in (0, 0, 1)]
    assert images[0].shape == (64, 64, 3)
    assert images[0].dtype == np.uint8
    assert np.array_equal(images[0], images[1])
    assert not np.array_equal(images[0], images[2])


def test_surfaces_are_reproducible():
    for seed in range(20):
        one, again = (make_surface(np.random.default_rng(seed), 64) for _ in range(2))
        assert np.array_equal(one.image, again.image)
        assert 0 <= one.specular <= 1


def test_only_glass_is_transparent():
    transparent = {
        kind for kind in KINDS if make_finish(kind, np.random.default_rng(0), 32).alpha < 1
    }
    assert transparent == {"glass"}


def test_unknown_finish_is_named():
    with pytest.raises(ValueError, match="no finish is called 'velvet'"):
        make_finish("velvet", np.random.default_rng(0))


@pytest.mark.parametrize("size", [2, 16, 100])
def test_noise_fills_the_unit_interval(size):
    field = noise(np.random.default_rng(0), size, coarse=1)
    assert field.shape == (size, size)
    assert field.min() == pytest.approx(0)
    assert field.max() == pytest.approx(1)
