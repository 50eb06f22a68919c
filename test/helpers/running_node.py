"""A node as a process of its own, and a camera that feeds it over real DDS."""

from __future__ import annotations

import array
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import cv2
import numpy as np

from helpers.paths import ROOT

PATIENCE_S = 30.0
SETTLE_S = 0.3
ARRIVAL_S = 0.4
KNOCK = 0  # seconds; stamp of images that only ask whether the node is there
STAGES = [
    "wait",
    "decode",
    "preprocess",
    "engine",
    "postprocess",
    "ordering",
    "tracking",
    "message",
]
"""What the node times, in the order of `AmodalScene.stage_names`."""


@contextmanager
def node_process(*parameters: str, remap: str = "image:=/camera/image", stderr=subprocess.PIPE):
    """Run the node; ends it with SIGINT if it still runs."""
    command = [sys.executable, "-m", "amodal_perception.ros", "--ros-args", "-r", remap]
    for parameter in parameters:
        command += ["-p", parameter]
    process = subprocess.Popen(command, cwd=ROOT, stderr=stderr, text=True)
    try:
        yield process
    finally:
        end(process)


def end(process: subprocess.Popen) -> str:
    """Interrupt the node, if it still runs; return what it said."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
    try:
        return process.communicate(timeout=PATIENCE_S)[1] or ""
    finally:
        process.kill()


def duration(seconds: float):
    """Make a Duration message."""
    from builtin_interfaces.msg import Duration

    return Duration(sec=int(seconds), nanosec=round(seconds % 1 * 1e9))


class Camera:
    """Publishes images and collects scenes and overlays."""

    def __init__(self, rclpy) -> None:
        from rclpy.qos import QoSProfile, ReliabilityPolicy
        from sensor_msgs.msg import CompressedImage, Image

        from amodal_perception.msg import AmodalScene

        self._rclpy = rclpy
        self.node = rclpy.create_node("camera")
        self.image_type, self.compressed_type = Image, CompressedImage
        self.reliable = QoSProfile(depth=50, reliability=ReliabilityPolicy.RELIABLE)
        self.best_effort = QoSProfile(depth=50, reliability=ReliabilityPolicy.BEST_EFFORT)
        self.scenes: list = []
        self._subscription = self.node.create_subscription(
            AmodalScene, "/amodal_perception/scene", self._receive, self.reliable
        )
        self._answered = False
        self.clients: dict = {}

    def spin_until(self, condition, what: str) -> None:
        """Let messages in until the condition holds."""
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline, f"waited {PATIENCE_S} s for {what}"
            self._rclpy.spin_once(self.node, timeout_sec=0.02)

    def wait(self, seconds: float) -> None:
        """Let messages in for some time."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self._rclpy.spin_once(self.node, timeout_sec=left)

    def publisher(self, topic="/camera/image", *, compressed=False):
        """Make a publisher that the node hears and whose scenes arrive."""
        image_type = self.compressed_type if compressed else self.image_type
        publisher = self.node.create_publisher(image_type, topic, self.reliable)
        # Each side finds the other in its own time, so knock until there is an answer.
        knock = self.compressed(KNOCK) if compressed else self.image(KNOCK)

        def answered():
            publisher.publish(knock)
            return self._answered

        self._answered = False
        self.spin_until(answered, "the node to answer")
        return publisher

    def image(self, second: int, rgb: np.ndarray | None = None, **fields):
        """Make an image message stamped with a number of seconds."""
        from amodal_perception.conversions.images import rgb_to_message

        rgb = np.full((48, 64, 3), 90, np.uint8) if rgb is None else rgb
        message = rgb_to_message(rgb, self.header(second), self.image_type)
        for name, value in fields.items():
            setattr(message, name, value)
        return message

    def compressed(self, second: int, data: bytes | None = None):
        """Make a compressed image message."""
        if data is None:
            data = cv2.imencode(".jpg", np.full((48, 64, 3), 90, np.uint8))[1].tobytes()
        return self.compressed_type(
            header=self.header(second), format="jpeg", data=array.array("B", data)
        )

    def header(self, second: int):
        """Make a header no other code would make by chance."""
        from builtin_interfaces.msg import Time
        from std_msgs.msg import Header

        return Header(stamp=Time(sec=second, nanosec=123456789), frame_id="wrist_camera")

    def see(self, publisher, message):
        """Publish an image until its scene arrives; more than once, as cameras do."""
        second, again_s = message.header.stamp.sec, 0.0

        def seen():
            nonlocal again_s
            if time.monotonic() >= again_s:
                publisher.publish(message)
                again_s = time.monotonic() + 1.0
            return any(scene.header.stamp.sec == second for scene in self.scenes)

        self.spin_until(seen, f"scene {second}")
        return self.scene_of(second)

    def ask(self, service_type, name: str, **fields):
        """Call one of the node's services and return the future of its response."""
        client = self.clients.get(name)
        if client is None:
            client = self.node.create_client(service_type, f"/amodal_perception/{name}")
            assert client.wait_for_service(PATIENCE_S), f"no service {name}"
            # The service finds its client in its own time, and before that its answer is lost.
            self.wait(SETTLE_S)
            self.clients[name] = client
        return client.call_async(service_type.Request(**fields))

    def call(self, service_type, name: str, **fields):
        """Call one of the node's services and return its response."""
        future = self.ask(service_type, name, **fields)
        self.spin_until(future.done, f"the answer of {name}")
        return future.result()

    def let_calls_arrive(self) -> None:
        """Give calls the time to arrive, which nothing else tells."""
        self.wait(ARRIVAL_S)

    def set_parameter(self, name: str, value):
        """Set one of the node's parameters and return the result."""
        from rcl_interfaces.srv import SetParameters
        from rclpy.parameter import Parameter

        parameters = [Parameter(name, value=value).to_parameter_msg()]
        return self.call(SetParameters, "set_parameters", parameters=parameters).results[0]

    def transition(self, label: str) -> bool:
        """Ask the node for a lifecycle transition; return whether it succeeded."""
        from lifecycle_msgs.msg import Transition
        from lifecycle_msgs.srv import ChangeState

        transition = Transition(label=label)
        return self.call(ChangeState, "change_state", transition=transition).success

    def scene_of(self, second: int):
        """Wait for the scene of one image."""
        self.spin_until(
            lambda: any(s.header.stamp.sec == second for s in self.scenes), f"scene {second}"
        )
        return next(s for s in self.scenes if s.header.stamp.sec == second)

    def _receive(self, scene) -> None:
        if scene.header.stamp.sec == KNOCK:
            self._answered = True
        else:
            self.scenes.append(scene)


class Monitor:
    """Reads a node's diagnostics."""

    def __init__(self, camera: Camera, node_name: str = "amodal_perception") -> None:
        from diagnostic_msgs.msg import DiagnosticArray

        self._camera, self._node_name = camera, node_name
        self.statuses: dict = {}
        self._subscription = camera.node.create_subscription(
            DiagnosticArray, "/diagnostics", self._receive, 10
        )

    def close(self) -> None:
        """Stop reading."""
        self._camera.node.destroy_subscription(self._subscription)

    def wait_for(self, name: str, message: str, level: int | None = None):
        """Wait until one status says something; return it."""

        def said():
            status = self.statuses.get(name)
            return status and message in status.message and level in (None, status.level[0])

        try:
            self._camera.spin_until(said, f"{name}: {message}")
        except AssertionError as error:
            raise AssertionError(f"{error}; it said {self.statuses.get(name)}") from None
        return self.statuses[name]

    def wait_for_value(self, name: str, key: str, condition):
        """Wait until a value of one status meets a condition; return it."""

        def value():
            return self.values(name).get(key)

        try:
            self._camera.spin_until(lambda: value() is not None and condition(value()), key)
        except AssertionError as error:
            raise AssertionError(f"{error}; it is {value()}") from None
        return value()

    def _receive(self, message) -> None:
        for status in message.status:
            node_name, _, name = status.name.rpartition(": ")
            if node_name == self._node_name:
                self.statuses[name] = status

    def values(self, name: str) -> dict[str, str]:
        """Return the values of one status; nothing before it came."""
        status = self.statuses.get(name)
        return {item.key: item.value for item in status.values} if status else {}
