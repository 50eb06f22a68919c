from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amodal_perception.planning.camera_model import Intrinsics, pixel_rays, project_points

PINHOLE = Intrinsics(fx_px=500.0, fy_px=400.0, cx_px=320.0, cy_px=240.0)
RATIONAL = Intrinsics(500.0, 500.0, 320.0, 240.0, distortion=(-0.2, 0.0, 0.0, 0.0))
FISHEYE = Intrinsics(300.0, 300.0, 320.0, 240.0, (0.0, 0.0, 0.0, 0.0), is_fisheye=True)


def test_a_pinhole_by_hand():
    x, y = pixel_rays(PINHOLE, np.array([320, 370]), np.array([240, 200]))
    assert x.tolist() == [0.0, 0.1]
    assert y.tolist() == [0.0, -0.1]
    assert project_points(PINHOLE, np.array([[0.2, -0.2, 2.0]])).tolist() == [[370.0, 200.0]]


def test_a_lens_by_hand():
    """At radius 0.5, 1 - 0.2 * 0.25 = 0.95 of it is left: 0.475 * 500 = 237.5 pixels."""
    pixels = project_points(RATIONAL, np.array([[1.0, 0.0, 2.0]]))
    assert pixels == pytest.approx(np.array([[557.5, 240.0]]))
    x, y = pixel_rays(RATIONAL, np.array([557.5]), np.array([240.0]))
    assert (x[0], y[0]) == (pytest.approx(0.5), pytest.approx(0.0))


def test_a_fisheye_by_hand():
    """Without coefficients the radius in pixels is the angle times f: 45 degrees are 235.6."""
    pixels = project_points(FISHEYE, np.array([[1.0, 0.0, 1.0]]))
    assert pixels == pytest.approx(np.array([[320 + 300 * np.pi / 4, 240.0]]))
    x, _ = pixel_rays(FISHEYE, pixels[:, 0], pixels[:, 1])
    assert x[0] == pytest.approx(1.0)


def test_where_the_lens_model_ends_there_is_no_ray():
    """r (1 - 0.2 r^2) is never more than 0.86, so no ray leads to a pixel at 1.2."""
    x, _ = pixel_rays(RATIONAL, np.array([320 + 1.2 * 500]), np.array([240.0]))
    assert np.isnan(x[0])


small = st.floats(-0.05, 0.05)
rational = st.tuples(st.floats(-0.3, 0.2), small, *[st.floats(-0.003, 0.003)] * 2, small)
fisheye = st.tuples(*[st.floats(-0.03, 0.03)] * 4)
cameras = st.one_of(
    st.just(PINHOLE),
    st.builds(Intrinsics, *[st.floats(300, 900)] * 2, *[st.floats(200, 400)] * 2, rational),
    st.builds(
        Intrinsics, *[st.floats(300, 900)] * 2, *[st.floats(200, 400)] * 2, fisheye, st.just(True)
    ),
)
points = st.lists(
    st.tuples(st.floats(-0.6, 0.6), st.floats(-0.5, 0.5), st.floats(0.2, 5.0)),
    min_size=1,
    max_size=5,
)


@settings(deadline=None)
@given(cameras, points)
def test_what_is_projected_is_unprojected_to_where_it_was(camera, rays_and_depth):
    x, y, z = np.array(rays_and_depth).T
    pixels = project_points(camera, np.column_stack([x * z, y * z, z]))
    ray_x, ray_y = pixel_rays(camera, pixels[:, 0], pixels[:, 1])
    assert ray_x == pytest.approx(x, abs=1e-4)
    assert ray_y == pytest.approx(y, abs=1e-4)


def test_no_pixels_no_rays():
    none = np.zeros(0)
    for camera in (PINHOLE, RATIONAL, FISHEYE):
        assert len(pixel_rays(camera, none, none)[0]) == 0
        assert project_points(camera, np.zeros((0, 3))).shape == (0, 2)
