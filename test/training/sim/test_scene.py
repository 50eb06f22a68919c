import numpy as np
import pytest


@pytest.fixture(scope="module", params=range(6))
def scene(request, opengl):
    from training.sim.scene import settle_scene
    from training.sim.shapes import family_set

    return settle_scene(np.random.default_rng(request.param), family_set("mixed"))


def positions(scene):
    bodies = np.flatnonzero(scene.model.body_dofnum == 6)
    return scene.data.xpos[bodies]


def test_objects_come_to_rest_on_the_table(scene):
    """Nothing hangs in the air or is still falling."""
    import mujoco

    at_end = positions(scene).copy()
    on_table = at_end[:, 2] > -1
    assert on_table.any()
    for _ in range(25):  # 0.1 s
        mujoco.mj_step(scene.model, scene.data)
    moved_m = np.linalg.norm(positions(scene) - at_end, axis=1)[on_table]
    assert np.median(moved_m) < 0.005, "free fall would be 0.05 m"


def test_one_to_twenty_objects_with_a_name_and_geoms(scene):
    from training.sim.scene import MAX_OBJECTS
    from training.sim.shapes import family_set

    assert 1 <= len(scene.families) <= MAX_OBJECTS
    assert set(scene.families) <= set(family_set("mixed"))
    assert set(scene.geom_object) == {-1, *range(len(scene.families))}


def test_dressing_changes_the_light_and_nothing_that_moves(scene):
    from training.sim.scene import randomise_appearance

    looks = []
    before = scene.data.qpos.copy()
    for seed in (1, 2, 1):
        randomise_appearance(scene, np.random.default_rng(seed))
        looks.append((scene.model.light_dir.copy(), scene.model.light_diffuse.copy()))
        assert scene.model.light_active.any()
    assert np.array_equal(scene.data.qpos, before)
    assert not np.array_equal(looks[0][0], looks[1][0])
