"""The planner's services and topics, called by this process on a node in another."""

from __future__ import annotations

import time

import numpy as np
import pytest
from helpers.running_node import Camera, duration, node_process

from amodal_perception.planning.planner_inputs import decode_mask

pytest.importorskip("amodal_perception.srv", reason="needs the built messages (make setup)")
from amodal_perception.srv import GetAmodalScene, GetRemovalPlan


@pytest.fixture(scope="module")
def node(ros, models):
    with node_process(f"model_file_path:={models.quick}") as process:
        yield process


@pytest.fixture(scope="module")
def camera(ros, node):
    """Give one camera for all tests, found by the node; seconds must not come twice."""
    made = Camera(ros)
    made.images = made.publisher()
    yield made
    made.node.destroy_node()


# Track ids


def test_ids_stay_while_the_camera_looks_on(node, camera):
    ids = [
        [seen.track_id for seen in camera.see(camera.images, camera.image(second)).instances]
        for second in (5, 6, 7)
    ]
    assert all(ids[0])
    assert len(set(ids[0])) == 2
    assert ids[0] == ids[1] == ids[2]


def test_clock_of_the_camera_that_jumps_back_begins_new_ids(node, camera):
    later = camera.see(camera.images, camera.image(500)).instances[0].track_id
    earlier = camera.see(camera.images, camera.image(400)).instances[0].track_id
    assert later != earlier
    assert later.split("-")[0] == earlier.split("-")[0], "both are this run's"


# ~/get_removal_plan


def test_plan_for_what_is_behind(node, camera):
    scene = camera.see(camera.images, camera.image(1005))
    front, behind = scene.instances
    plan = camera.call(GetRemovalPlan, "get_removal_plan", instance_id=behind.instance_id)
    assert plan.success, plan.message
    assert plan.header.frame_id == "wrist_camera"
    assert (plan.instance_id, plan.track_id) == (behind.instance_id, behind.track_id)
    assert list(plan.remove_first) == [front.instance_id]
    assert list(plan.remove_first_track_ids) == [front.track_id]
    assert not plan.cyclic
    (edge,) = plan.edges
    assert (edge.occluder_id, edge.occludee_id) == (front.instance_id, behind.instance_id)
    assert edge == scene.edges[0]
    assert not plan.weak_edges


def test_plan_by_track_id_and_stamp(node, camera):
    first = camera.see(camera.images, camera.image(1105))
    camera.see(camera.images, camera.image(1106))
    plan = camera.call(
        GetRemovalPlan,
        "get_removal_plan",
        track_id=first.instances[0].track_id,
        stamp=first.header.stamp,
    )
    assert plan.success, plan.message
    assert plan.header == first.header
    assert plan.instance_id == first.instances[0].instance_id
    assert list(plan.remove_first) == []


def test_weak_edges_are_reported_not_followed(node, camera):
    scene = camera.see(camera.images, camera.image(1205))
    plan = camera.call(
        GetRemovalPlan,
        "get_removal_plan",
        instance_id=scene.instances[1].instance_id,
        min_confidence=1.0,
    )
    assert plan.success, plan.message
    assert list(plan.remove_first) == []
    assert not plan.edges
    assert plan.weak_edges[0].confidence == scene.edges[0].confidence < 1


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "give the target's instance_id or track_id"),
        ({"instance_id": 9}, "the scene holds 2 instances, but none with the id 9"),
        ({"track_id": "nobody"}, "object nobody is not in this scene; it is not remembered"),
        ({"instance_id": 1, "min_confidence": 1.5}, "min_confidence is 1.5"),
        ({"instance_id": 1, "min_confidence": float("nan")}, "min_confidence is nan"),
        ({"instance_id": 1, "stamp": -7}, "no scene of -7.000000000 is remembered"),
    ],
)
def test_impossible_plans_are_refused_with_the_reason(node, camera, fields, message):
    from builtin_interfaces.msg import Time

    camera.see(camera.images, camera.image(1305))
    if "stamp" in fields:
        fields = {**fields, "stamp": Time(sec=fields["stamp"])}
    plan = camera.call(GetRemovalPlan, "get_removal_plan", **fields)
    assert not plan.success
    assert message in plan.message
    assert node.poll() is None


# ~/get_scene


def test_next_scene_is_of_an_image_that_came_after_the_call(node, camera):
    camera.see(camera.images, camera.image(2000))
    answer = camera.ask(GetAmodalScene, "get_scene")
    camera.let_calls_arrive()
    assert not answer.done()
    camera.images.publish(camera.image(2001))
    camera.spin_until(answer.done, "the next scene")
    response = answer.result()
    assert response.success, response.message
    assert response.scene.header.stamp.sec == 2001
    assert len(response.scene.instances) == 2
    assert response.scene.instances[0].track_id


def test_image_that_was_taken_before_the_call_is_stale(node, camera):
    """By its stamp, where camera and node have the same clock."""

    def taken(ago_s: float):
        now_ns = camera.node.get_clock().now().nanoseconds - round(ago_s * 1e9)
        image = camera.image(1)
        image.header.stamp.sec, image.header.stamp.nanosec = divmod(now_ns, 10**9)
        return image

    answer = camera.ask(GetAmodalScene, "get_scene")
    camera.let_calls_arrive()
    stale = taken(ago_s=0.8)
    camera.see(camera.images, stale)
    assert not answer.done()
    fresh = taken(ago_s=0.0)
    camera.images.publish(fresh)
    camera.spin_until(answer.done, "the next scene")
    assert answer.result().scene.header.stamp == fresh.header.stamp


def test_several_callers_get_the_same_scene(node, camera):
    answers = [camera.ask(GetAmodalScene, "get_scene") for _ in range(3)]
    camera.let_calls_arrive()
    camera.images.publish(camera.image(2100))
    camera.spin_until(lambda: all(answer.done() for answer in answers), "the scenes")
    assert {answer.result().scene.header.stamp.sec for answer in answers} == {2100}


def test_patience_ends(node, camera):
    before_s = time.monotonic()
    response = camera.call(GetAmodalScene, "get_scene", timeout=duration(0.6))
    assert time.monotonic() - before_s > 0.5
    assert not response.success
    assert "no new image arrived within 0.6 s" in response.message


@pytest.mark.parametrize("timeout_s", [-1, 3600])
def test_senseless_patience_is_refused(node, camera, timeout_s):
    response = camera.call(GetAmodalScene, "get_scene", timeout=duration(timeout_s))
    assert not response.success
    assert "must lie between 0 and 60 s" in response.message


def test_scene_of_an_image_that_comes_with_the_call(node, camera):
    response = camera.call(GetAmodalScene, "get_scene", image=camera.image(77))
    assert response.success, response.message
    assert response.scene.header == camera.header(77)
    assert len(response.scene.instances) == 2
    assert response.scene.instances[0].track_id == "", "an image from elsewhere is not tracked"


def test_image_that_is_none_is_refused_with_the_reason(node, camera):
    broken = camera.image(78, encoding="32FC1")
    response = camera.call(GetAmodalScene, "get_scene", image=broken)
    assert not response.success
    assert "32FC1" in response.message
    assert node.poll() is None


def test_too_many_callers_are_refused(node, camera):
    from amodal_perception.ros.planner_services import MAX_CALLS

    waiting = [
        camera.ask(GetAmodalScene, "get_scene", timeout=duration(20)) for _ in range(MAX_CALLS)
    ]
    camera.let_calls_arrive()
    refused = camera.call(GetAmodalScene, "get_scene", timeout=duration(20))
    assert f"{MAX_CALLS} others are waiting" in refused.message
    camera.images.publish(camera.image(2150))
    camera.spin_until(lambda: all(call.done() for call in waiting), "the scene")
    assert all(call.result().success for call in waiting)


def test_deactivating_answers_who_waits(node, camera):
    answer = camera.ask(GetAmodalScene, "get_scene", timeout=duration(20))
    camera.let_calls_arrive()
    assert camera.transition("deactivate")
    camera.spin_until(answer.done, "the refusal")
    assert "deactivated" in answer.result().message
    assert "not active" in camera.call(GetAmodalScene, "get_scene").message
    plan = camera.call(GetRemovalPlan, "get_removal_plan", instance_id=1)
    assert "not active" in plan.message
    assert camera.transition("activate")
    camera.see(camera.images, camera.image(2200))


def test_services_come_and_go_with_the_configuration(node, camera):
    def is_offered():
        # Of the node alone: a name is also known while someone still asks for it.
        offered = camera.node.get_service_names_and_types_by_node("amodal_perception", "/")
        return "/amodal_perception/get_removal_plan" in dict(offered)

    camera.spin_until(is_offered, "the services")
    assert camera.transition("deactivate")
    assert camera.transition("cleanup")
    camera.spin_until(lambda: not is_offered(), "the services to go")
    assert camera.transition("configure")
    assert camera.transition("activate")
    camera.spin_until(is_offered, "the services to come again")
    scene = camera.see(camera.images, camera.image(2300))
    plan = camera.call(GetRemovalPlan, "get_removal_plan", instance_id=2)
    assert plan.header == scene.header


# ~/enable


def test_switched_off_camera_is_not_read(node, camera):
    from std_srvs.srv import SetBool

    waiting = camera.ask(GetAmodalScene, "get_scene", timeout=duration(20))
    camera.let_calls_arrive()
    assert camera.call(SetBool, "enable", data=False).success
    camera.spin_until(waiting.done, "the refusal")
    assert "switched off" in waiting.result().message
    camera.spin_until(lambda: not camera.images.get_subscription_count(), "the camera to be left")
    assert "switched off" in camera.call(GetAmodalScene, "get_scene").message
    assert camera.call(GetAmodalScene, "get_scene", image=camera.image(79)).success
    assert camera.call(SetBool, "enable", data=True).success
    camera.see(camera.images, camera.image(2400))


# ~/graspable_labels


def test_graspable_region_keeps_off_the_edges_by_the_margin(node, camera):
    labels: list = []
    camera.node.create_subscription(
        camera.image_type, "/amodal_perception/graspable_labels", labels.append, camera.reliable
    )
    seconds_ = iter(range(3000, 4000))

    def graspable(margin_px: float) -> tuple[np.ndarray, np.ndarray]:
        assert camera.set_parameter("grasp_margin", margin_px).successful
        labels.clear()

        def see_another():
            camera.scenes.clear()
            camera.images.publish(camera.image(next(seconds_)))
            camera.spin_until(lambda: camera.scenes, "a scene")
            return labels

        camera.spin_until(see_another, "a label image")
        message = labels[-1]
        assert (message.encoding, message.header.frame_id) == ("mono16", "wrist_camera")
        image = np.frombuffer(message.data, np.uint16).reshape(message.height, message.width)
        scene = camera.scenes[-1]
        visible = np.zeros_like(image)
        for seen in scene.instances:
            visible[decode_mask(seen.visible, image.shape)] = seen.instance_id
        return image, visible

    whole, visible = graspable(0.0)
    np.testing.assert_array_equal(whole, visible)
    inner, _ = graspable(3.0)
    assert 0 < np.count_nonzero(inner) < np.count_nonzero(whole)
    np.testing.assert_array_equal(inner[inner > 0], whole[inner > 0])
