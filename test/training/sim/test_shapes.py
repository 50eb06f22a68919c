import numpy as np
import pytest

from training.sim.meshes import is_outward
from training.sim.shapes import HELDOUT_FAMILIES, TRAIN_FAMILIES, family_set
from training.sim.textures import make_finish

SEEDS = range(25)


@pytest.fixture(params=sorted(family_set("mixed")))
def shapes(request):
    family = family_set("mixed")[request.param]
    return [family(np.random.default_rng(seed)) for seed in SEEDS]


def test_size_is_that_of_things_on_a_table(shapes):
    for shape in shapes:
        low, high = shape.bounds
        assert 0.02 < (high - low).max() < 0.45, "metres"


def test_surfaces_face_outward(shapes):
    for shape in shapes:
        for mesh, _ in shape.parts:
            assert np.isfinite(mesh.vertices).all()
            assert is_outward(mesh) > 0.9


def test_colliders_fit_the_body(shapes):
    """What collides is about where the object is seen, or it would float or sink visibly."""
    for shape in shapes:
        low, high = shape.bounds
        tolerance_m = 0.25 * (high - low).max()
        for collider in shape.colliders:
            assert (np.array(collider.offset) > low - tolerance_m).all()
            assert (np.array(collider.offset) < high + tolerance_m).all()
            assert min(collider.size) > 0
            assert max(collider.size) < (high - low).max()


def test_finishes_exist(shapes):
    for kind in {kind for shape in shapes for _, kind in shape.parts}:
        assert make_finish(kind, np.random.default_rng(0), 32).image.shape == (32, 32, 3)


def test_same_seed_gives_the_same_shape_and_another_seed_another():
    for name, family in family_set("mixed").items():
        one, again, other = (family(np.random.default_rng(s)).bounds for s in (3, 3, 4))
        assert np.array_equal(one, again), name
        assert not np.array_equal(one, other), name


def test_heldout_families_are_not_among_those_for_training():
    assert not set(HELDOUT_FAMILIES) & set(TRAIN_FAMILIES)
    assert set(family_set("mixed")) == set(HELDOUT_FAMILIES) | set(TRAIN_FAMILIES)
