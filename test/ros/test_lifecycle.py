"""The traps of rclpy's lifecycle node and executor, each sprung for real."""

from __future__ import annotations

import subprocess
import sys

import pytest
from helpers.running_node import PATIENCE_S, ROOT

TERMINATED_IN_A_CALLBACK = """
import os, signal, time
import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from std_msgs.msg import String
from amodal_perception.ros.lifecycle import GuardedLifecycleNode, spin

class Patient(GuardedLifecycleNode):
    def note_callback_error(self, text):
        print(text)

def be_terminated():
    os.kill(os.getpid(), signal.SIGTERM)
    while node.context.ok():
        time.sleep(0.01)
    node.create_publisher(String, "~/words", 1)

rclpy.init(args=[])
node = Patient("patient")
executor = SingleThreadedExecutor()
executor.add_node(node)
node.create_timer(0.01, be_terminated)
try:
    spin(node, executor, lambda: True)
except ExternalShutdownException:
    pass
"""

TERMINATED_WHILE_IT_STARTS = """
import os, signal, time
import rclpy
from rclpy.executors import SingleThreadedExecutor
from std_msgs.msg import String
from amodal_perception.ros.lifecycle import GuardedLifecycleNode

class Patient(GuardedLifecycleNode):
    def configure(self):
        os.kill(os.getpid(), signal.SIGTERM)
        while self.context.ok():
            time.sleep(0.01)
        self.create_publisher(String, "~/words", 1)

rclpy.init(args=[])
node = Patient("patient")
try:
    node.autostart()
except RuntimeError as error:
    print(type(error).__name__)
"""


@pytest.fixture
def managed(ros):
    """Give a node that notes what happens, and an executor with it."""
    from rclpy.executors import SingleThreadedExecutor

    from amodal_perception.ros.lifecycle import GuardedLifecycleNode

    class Noting(GuardedLifecycleNode):
        def __init__(self) -> None:
            super().__init__("noting")
            self.errors: list[str] = []
            self.calls: list[str] = []
            self.fails_in = ""

        def _note(self, name: str) -> None:
            self.calls.append(name)
            if name == self.fails_in:
                raise RuntimeError(f"no way to {name}")

        def configure(self) -> None:
            self._note("configure")

        def activate(self) -> None:
            self._note("activate")

        def deactivate(self) -> None:
            self._note("deactivate")

        def free(self) -> None:
            self._note("free")

        def note_callback_error(self, text: str) -> None:
            self.errors.append(text)

    node = Noting()
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    yield node, executor
    executor.shutdown()
    node.destroy_node()


@pytest.mark.parametrize(
    ("fails_in", "path", "state"),
    [
        ("configure", ["configure"], "unconfigured"),
        ("activate", ["configure", "activate"], "inactive"),
        ("deactivate", ["configure", "activate", "deactivate"], "unconfigured"),
    ],
)
def test_what_a_transition_raises_is_kept(managed, fails_in, path, state):
    node, _ = managed
    node.fails_in = fails_in
    for label in path:
        outcome = getattr(node, f"trigger_{label}")()
    assert outcome.name != "SUCCESS"
    assert str(node.transition_error) == f"no way to {fails_in}"
    assert node.state == state
    assert (node.calls[-1] == "free") == (fails_in == "deactivate")


def test_autostart_raises_what_went_wrong(managed):
    node, _ = managed
    node.fails_in = "activate"
    with pytest.raises(RuntimeError, match="no way to activate"):
        node.autostart()


def test_a_callback_that_raises_ends_nothing(managed):
    from amodal_perception.ros.lifecycle import spin

    node, executor = managed
    node.create_timer(0.01, lambda: 1 / 0)
    spin(node, executor, lambda: len(node.errors) < 3)
    assert all("ZeroDivisionError" in text for text in node.errors)


def test_a_message_that_cannot_be_taken_does_not_end_its_subscription(managed):
    from std_msgs.msg import String

    from amodal_perception.ros.lifecycle import spin

    node, executor = managed
    heard: list = []
    subscription = node.create_subscription(String, "/words", heard.append, 10)
    publisher = node.create_publisher(String, "/words", 10)
    node.create_timer(0.02, lambda: publisher.publish(String(data="word")))
    whole_type, subscription.msg_type = subscription.msg_type, None  # taking fails from here on
    spin(node, executor, lambda: not node.errors)
    subscription.msg_type = whole_type
    spin(node, executor, lambda: len(heard) < 3)
    assert heard[0].data == "word"


@pytest.mark.parametrize(
    ("program", "said"),
    [(TERMINATED_IN_A_CALLBACK, ""), (TERMINATED_WHILE_IT_STARTS, "RCLError\n")],
    ids=["callback", "transition"],
)
def test_shut_down_meanwhile_ends_it_and_is_no_failure(ros, program, said):
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        timeout=PATIENCE_S,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, said, "")
