"""Nodes that are started for one test of the planner's services."""

from __future__ import annotations

import signal

import pytest
from helpers.running_node import PATIENCE_S, duration, end, node_process

pytest.importorskip("amodal_perception.srv", reason="needs the built messages (make setup)")
from amodal_perception.srv import GetAmodalScene, GetRemovalPlan


def test_second_run_knows_nothing_of_the_first(models, camera):
    prefixes = set()
    for _ in range(2):
        with node_process(f"model_file_path:={models.quick}"):
            answer = camera.ask(GetRemovalPlan, "get_removal_plan", instance_id=1)
            camera.spin_until(answer.done, "the plan")
            plan = answer.result()
            assert not plan.success
            assert "no image was processed yet" in plan.message
            scene = camera.see(camera.publisher(), camera.image(5))
            prefixes.add(scene.instances[0].track_id.split("-")[0])
            camera.scenes.clear()
            camera.clients.clear()  # the next node has services of its own
    assert len(prefixes) == 2, "a respawned node must not give old names to new objects"


def test_waiting_wakes_a_node_that_nobody_listens_to_and_does_not_keep_it(models, camera):
    with node_process(f"model_file_path:={models.quick}") as process:
        camera.node.destroy_subscription(camera._subscription)
        publisher = camera.node.create_publisher(
            camera.image_type, "/camera/image", camera.reliable
        )
        answer = camera.ask(GetAmodalScene, "get_scene", timeout=duration(20))

        def answered():
            publisher.publish(camera.image(3))
            return answer.done()

        camera.spin_until(answered, "the scene")
        assert answer.result().success, answer.result().message
        camera.spin_until(
            lambda: not publisher.get_subscription_count(), "the node to sleep again"
        )
        camera.ask(GetAmodalScene, "get_scene", timeout=duration(60))
        camera.spin_until(publisher.get_subscription_count, "the second call to arrive")
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0
    assert "Traceback" not in errors


def test_caller_is_answered_when_the_node_is_shut_down(models, camera):
    with node_process(f"model_file_path:={models.quick}") as process:
        answer = camera.ask(GetAmodalScene, "get_scene", timeout=duration(20))
        camera.let_calls_arrive()
        assert camera.transition("shutdown")
        camera.spin_until(answer.done, "the refusal")
        assert "deactivated" in answer.result().message
        assert "Traceback" not in end(process)
