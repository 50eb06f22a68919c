"""Masks are compared with geometry worked out by hand, not with another rendering."""

import numpy as np
import pytest

SIZE_HW = (240, 320)


@pytest.fixture(scope="module")
def gl(opengl):
    from training.sim.render import GlContext

    return GlContext(SIZE_HW)


def make_scene(boxes, background=()):
    """A scene of boxes (size, centre), each an object, and of others that are background."""
    import mujoco

    from training.sim.meshes import box
    from training.sim.scene import SceneBuilder, SettledScene
    from training.sim.textures import make_finish

    build = SceneBuilder()
    material = build.material(make_finish("plain", np.random.default_rng(0), 16))
    for size, centre in [*boxes, *background]:
        body = build.spec.worldbody.add_body(pos=centre)
        build.add_visual_mesh(body, box(size), material)
    build.spec.worldbody.add_camera()
    build.spec.stat.extent = 1.0
    build.spec.visual.map.znear, build.spec.visual.map.zfar = 0.02, 20
    model = build.spec.compile()
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    owner = np.full(len(boxes) + len(background), -1, np.int32)
    owner[: len(boxes)] = np.arange(len(boxes))
    return SettledScene(
        model=model,
        data=data,
        families=("box",) * len(boxes),
        geom_object=owner,
        background_geoms=np.flatnonzero(owner < 0).astype(np.int32),
        centre=np.zeros(3),
        radius_m=0.3,
        min_elevation_deg=20.0,
    )


def overhead(distance_m=1.0, fovy_deg=53.13010235415598):
    """A camera above the origin; by default half the height spans 0.5 m at 1 m."""
    from training.sim.render import look_at

    return look_at(
        np.zeros(3),
        azimuth_deg=-90,
        elevation_deg=90,
        distance_m=distance_m,
        roll_deg=0,
        fovy_deg=fovy_deg,
        size_hw=SIZE_HW,
    )


def render(gl, scene, camera):
    from training.sim.render import SceneRenderer, render_truth

    renderer = SceneRenderer(scene, gl)
    renderer.aim(camera)
    truth, objects = render_truth(renderer, camera)
    depth_m = renderer.depth_m()
    renderer.close()
    return truth, objects, depth_m


def test_a_square_covers_the_pixels_geometry_says(gl):
    # Its top face, 0.25 m wide, lies in the plane z = 0, 1 m away: 240 px/m.
    scene = make_scene([((0.25, 0.25, 0.1), (0.1, 0.05, -0.05))])
    truth, _, depth_m = render(gl, scene, overhead())
    left, top = 160 + (0.1 - 0.125) * 240, 120 - (0.05 + 0.125) * 240
    assert truth.boxes_xyxy[0] == pytest.approx([left, top, left + 60, top + 60], abs=1)
    assert truth.amodal_area_px[0] == pytest.approx(3600, abs=130)
    assert truth.occlusion_rate[0] == 0
    assert depth_m[truth.visible[0]] == pytest.approx(1.0, abs=2e-3)


def test_front_object_hides_the_back_one_and_not_the_reverse(gl):
    from amodal_perception.ordering import TRUTH_CONFIG, occlusion_graph

    front = ((0.2, 0.2, 0.02), (0.1, 0.0, 0.2))
    back = ((0.2, 0.2, 0.02), (0.0, 0.0, 0.0))
    truth, _, _ = render(gl, make_scene([back, front]), overhead())
    alone, _, _ = render(gl, make_scene([back]), overhead())
    assert np.array_equal(truth.amodal[0], alone.amodal[0])
    assert np.array_equal(truth.visible[0], truth.amodal[0] & ~truth.amodal[1])
    assert np.array_equal(truth.visible[1], truth.amodal[1])
    assert 0.3 < truth.occlusion_rate[0] < 0.7
    assert occlusion_graph(truth, TRUTH_CONFIG).edges.tolist() == [[1, 0]]


def test_background_hides_without_an_edge(gl):
    from amodal_perception.ordering import TRUTH_CONFIG, occlusion_graph

    back = ((0.2, 0.2, 0.02), (0.0, 0.0, 0.0))
    wall = ((0.2, 0.2, 0.02), (0.1, 0.0, 0.2))
    truth, _, _ = render(gl, make_scene([back], background=[wall]), overhead())
    assert 0.3 < truth.occlusion_rate[0] < 0.7
    assert len(occlusion_graph(truth, TRUTH_CONFIG).edges) == 0


def test_amodal_masks_end_at_the_image_border(gl):
    truth, _, _ = render(gl, make_scene([((0.5, 0.1, 0.1), (0.6, 0, 0))]), overhead())
    assert truth.truncated.tolist() == [True]
    assert truth.boxes_xyxy[0, 2] == SIZE_HW[1]


def test_what_nobody_could_find_is_left_out(gl):
    lid = ((0.4, 0.4, 0.02), (0, 0, 0.3))
    covered = ((0.1, 0.1, 0.1), (0, 0, 0))
    outside = ((0.1, 0.1, 0.1), (2, 0, 0))
    speck = ((0.01, 0.01, 0.01), (0.4, 0.4, 0))
    truth, objects, _ = render(gl, make_scene([covered, outside, speck, lid]), overhead())
    assert objects == [3]
    assert len(truth) == 1


def test_no_objects_is_a_normal_picture(gl):
    truth, objects, _ = render(
        gl, make_scene([], background=[((1, 1, 0.1), (0, 0, 0))]), overhead()
    )
    assert len(truth) == 0
    assert objects == []


def test_drawing_in_groups_equals_drawing_one_by_one(gl):
    from training.sim.render import (
        SceneRenderer,
        disjoint_groups,
        object_boxes,
        render_truth,
        sample_camera,
    )
    from training.sim.scene import settle_scene
    from training.sim.shapes import family_set

    scene = settle_scene(np.random.default_rng(4), family_set("mixed"))
    renderer = SceneRenderer(scene, gl)
    camera = sample_camera(scene, np.random.default_rng(5), SIZE_HW)
    renderer.aim(camera)
    truth, objects = render_truth(renderer, camera)
    assert len(objects) > 5
    groups = disjoint_groups(object_boxes(scene, camera), SIZE_HW)
    assert len(groups) < len(objects)
    for k, i in enumerate(objects):
        assert np.array_equal(renderer.alone_ids([i]) == i, truth.amodal[k])
    renderer.close()


def test_groups_hold_only_boxes_that_are_apart(opengl):
    from training.sim.render import disjoint_groups

    rng = np.random.default_rng(0)
    corner = rng.uniform(-50, 300, (30, 2))
    boxes = np.hstack([corner, corner + rng.uniform(5, 80, (30, 2))])
    groups = disjoint_groups(boxes, SIZE_HW)
    seen = [i for group in groups for i in group]
    inside = (boxes[:, 2] >= 0) & (boxes[:, 3] >= 0) & (boxes[:, 0] <= 320) & (boxes[:, 1] <= 240)
    assert sorted(seen) == np.flatnonzero(inside).tolist()
    for group in groups:
        for i in group:
            for j in group:
                apart = (boxes[i, :2] > boxes[j, 2:]).any() or (boxes[j, :2] > boxes[i, 2:]).any()
                assert i == j or apart


def test_projection_agrees_with_the_camera_matrix(opengl):
    from training.sim.render import look_at

    camera = look_at(
        np.array([0.1, 0.2, 0.3]),
        azimuth_deg=20,
        elevation_deg=35,
        distance_m=0.8,
        roll_deg=10,
        fovy_deg=50,
        size_hw=SIZE_HW,
    )
    assert np.allclose(camera.rotation @ camera.rotation.T, np.eye(3))
    assert np.linalg.det(camera.rotation) == pytest.approx(1)
    assert camera.project(np.array([[0.1, 0.2, 0.3]]))[0] == pytest.approx([160, 120])
    behind = camera.position + camera.rotation[:, 2]
    assert np.isnan(camera.project(behind[None])).all()
