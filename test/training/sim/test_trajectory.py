import numpy as np
import pytest

SIZE_HW = (120, 160)


@pytest.fixture(scope="module")
def film(opengl):
    from training.sim.trajectory import render_trajectory

    return list(render_trajectory(10_000_011, 3, size_hw=SIZE_HW, sweep_deg=6))


def test_depth_pose_and_camera_matrix_agree(film):
    """Points measured in one frame land at the measured depth in the next: the scene is rigid."""
    a, b = film[0], film[1]
    rows, columns = np.mgrid[0 : SIZE_HW[0], 0 : SIZE_HW[1]]
    pixels = np.stack([columns + 0.5, rows + 0.5, np.ones(SIZE_HW)], -1).reshape(-1, 3)
    points_a = pixels @ np.linalg.inv(a.camera_matrix).T * a.depth_m.reshape(-1, 1)
    world = points_a @ a.T_world_camera[:3, :3].T + a.T_world_camera[:3, 3]
    points_b = (world - b.T_world_camera[:3, 3]) @ b.T_world_camera[:3, :3]
    projected = points_b @ b.camera_matrix.T
    x, y = np.floor(projected[:, :2] / projected[:, 2:]).astype(int).T
    inside = (x >= 0) & (x < SIZE_HW[1]) & (y >= 0) & (y < SIZE_HW[0])
    measured = b.depth_m[y[inside], x[inside]]
    agree = np.abs(measured - points_b[inside, 2]) < 0.02
    assert inside.mean() > 0.6
    assert agree.mean() > 0.9, "all but what came into or went out of view"


def test_the_camera_moves_and_the_objects_stay_in_view(film):
    assert len(film) == 3
    steps = [np.linalg.norm(f.T_world_camera[:3, 3] - film[0].T_world_camera[:3, 3]) for f in film]
    assert 0 < steps[1] < steps[2]
    for frame in film:
        assert frame.image.shape == (*SIZE_HW, 3)
        assert len(frame.families) == len(frame.truth) > 3
        assert np.allclose(np.linalg.det(frame.T_world_camera[:3, :3]), 1)


def test_same_seed_same_film(film):
    from training.sim.trajectory import render_trajectory

    again = list(render_trajectory(10_000_011, 3, size_hw=SIZE_HW, sweep_deg=6))
    for one, other in zip(film, again):
        assert np.array_equal(one.image, other.image)
        assert np.array_equal(one.truth.visible, other.truth.visible)
