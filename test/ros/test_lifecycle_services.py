"""A node that a lifecycle manager leads: its transitions over real services."""

from __future__ import annotations

import shutil

import pytest
from helpers.running_node import node_process


def state(camera) -> str:
    from lifecycle_msgs.srv import GetState

    return camera.call(GetState, "get_state").current_state.label


@pytest.fixture
def managed(ros, models, tmp_path):
    """Give a node that waits, and the place where its model should be."""
    path = tmp_path / "model.onnx"
    with node_process(f"model_file_path:={path}", "autostart:=false", "lazy:=false") as process:
        yield process, path


def test_every_state_and_back(managed, models, camera):
    _, path = managed
    shutil.copy(models.quick, path)
    assert state(camera) == "unconfigured"
    for _ in range(2):
        assert camera.transition("configure")
        assert state(camera) == "inactive"
        assert camera.node.count_subscribers("/camera/image") == 0
        for second in (1, 2):
            assert camera.transition("activate")
            publisher = camera.publisher()
            camera.see(publisher, camera.image(second))
            camera.scenes.clear()
            assert camera.transition("deactivate")
            camera.spin_until(lambda: not publisher.get_subscription_count(), "the node to leave")  # noqa: B023
            camera.node.destroy_publisher(publisher)
        assert camera.transition("cleanup")
        assert state(camera) == "unconfigured"
        camera.spin_until(
            lambda: not camera.node.count_publishers("/amodal_perception/scene"), "cleaning up"
        )


def test_a_model_that_does_not_load_is_told_and_can_be_mended(managed, models, camera, monitor):
    process, path = managed
    assert not camera.transition("configure")
    assert state(camera) == "unconfigured"
    monitor.wait_for("engine", f"{path}: no such model file", level=2)
    shutil.copy(models.quick, path)
    assert camera.transition("configure")
    assert camera.transition("activate")
    camera.see(camera.publisher(), camera.image(3))
    monitor.wait_for("engine", "two_discs@", level=0)
    assert process.poll() is None


def test_impossible_transitions_are_refused(managed, camera):
    process, _ = managed
    for label in ("activate", "deactivate", "cleanup", "fly"):
        assert not camera.transition(label)
    assert state(camera) == "unconfigured"
    assert process.poll() is None


def test_shut_down_from_activity(managed, models, camera):
    process, path = managed
    shutil.copy(models.quick, path)
    assert camera.transition("configure")
    assert camera.transition("activate")
    assert camera.transition("shutdown")
    assert state(camera) == "finalized"
    assert process.poll() is None


def test_a_manager_without_bonds_leads_it_by_numbers(managed, models, camera):
    """As Nav2's lifecycle manager with `bond_timeout: 0.0` does: each change, then the state."""
    from lifecycle_msgs.msg import State, Transition
    from lifecycle_msgs.srv import ChangeState, GetState

    process, path = managed
    shutil.copy(models.quick, path)
    reached = {
        Transition.TRANSITION_CONFIGURE: State.PRIMARY_STATE_INACTIVE,
        Transition.TRANSITION_ACTIVATE: State.PRIMARY_STATE_ACTIVE,
        Transition.TRANSITION_DEACTIVATE: State.PRIMARY_STATE_INACTIVE,
        Transition.TRANSITION_CLEANUP: State.PRIMARY_STATE_UNCONFIGURED,
        Transition.TRANSITION_UNCONFIGURED_SHUTDOWN: State.PRIMARY_STATE_FINALIZED,
    }
    configure, activate, deactivate, cleanup, shut_down = reached
    startup, pause, resume = (configure, activate), (deactivate,), (activate,)
    reset = (deactivate, cleanup)
    for transition in (*startup, *pause, *resume, *reset, *startup, *reset, shut_down):
        answer = camera.call(ChangeState, "change_state", transition=Transition(id=transition))
        assert answer.success
        assert camera.call(GetState, "get_state").current_state.id == reached[transition]
    assert process.poll() is None
