"""Play a bag's camera to the node over DDS, record its scenes, and report on them.

    python -m amodal_perception.ros.demo --out out/demo

The node runs as a process of its own, as on a robot; frames come as fast as they were recorded.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rosbags.highlevel import AnyReader
from rosbags.typesys import Stores, get_typestore
from sensor_msgs.msg import CompressedImage, Image
from tqdm import tqdm

from amodal_perception import bags
from amodal_perception.errors import AmodalError
from amodal_perception.evaluation.replay import read_stamped_truth
from amodal_perception.evaluation.run import ReplayedFrame, print_table, write_run
from amodal_perception.msg import AmodalScene
from amodal_perception.ros.images import message_to_frame
from amodal_perception.ros.messages import msg_to_scene
from amodal_perception.runtime import DEFAULT_MODEL, load_runtime

ASSETS = Path(__file__).resolve().parents[1] / "assets"
START_S = 30.0  # until the node must listen: loading the model is most of it
SETTLE_S = 0.5  # for the node to find what found it
QUIET_S = 3.0  # without a scene after the last frame: what is missing now was dropped
STOP_S = 5.0  # for the node to end after SIGINT


@dataclass(frozen=True, eq=False)
class RecordedImage:
    """One image message of a bag.

    Attributes:
        record_ns: when it was recorded, nanoseconds.
        cdr: the message as it was on the wire.
        message: the same, deserialised.
    """

    record_ns: int
    cdr: bytes
    message: Any

    @property
    def stamp_ns(self) -> int:
        """The header's stamp, nanoseconds."""
        return _stamp_ns(self.message)


class Player:
    """Publishes images as they were recorded, receives scenes, and notes the time of both."""

    def __init__(self, topic: str, is_compressed: bool, scene_topic: str) -> None:
        self.sent_s: dict[int, float] = {}
        self.received: dict[int, tuple[Any, float]] = {}
        self._node = rclpy.create_node("demo_camera")
        reliable = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE)
        image_type = CompressedImage if is_compressed else Image
        self._images = self._node.create_publisher(image_type, topic, reliable)
        self._scenes = self._node.create_subscription(
            AmodalScene, scene_topic, self._receive, reliable
        )
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self._node)
        self._thread = threading.Thread(target=self._executor.spin, daemon=True)
        self._thread.start()

    @property
    def is_connected(self) -> bool:
        """Whether the node hears the images and its scenes are heard."""
        publishers = self._node.count_publishers(self._scenes.topic_name)
        return bool(self._images.get_subscription_count() and publishers)

    def play(self, images: Sequence[RecordedImage]) -> None:
        """Publish all images in their own time, then wait for the last scenes."""
        offset_s = time.monotonic() - images[0].record_ns * 1e-9
        for image in tqdm(images, "playing", unit="frame"):
            time.sleep(max(0.0, offset_s + image.record_ns * 1e-9 - time.monotonic()))
            self.sent_s[image.stamp_ns] = time.perf_counter()
            self._images.publish(image.cdr)
        last, ended = images[-1].stamp_ns, time.perf_counter()
        while last not in self.received:
            newest_s = max((when for _, when in self.received.values()), default=ended)
            if time.perf_counter() - max(newest_s, ended) > QUIET_S:
                return
            time.sleep(0.02)

    def close(self) -> None:
        """End the receiving thread."""
        self._executor.shutdown()
        self._thread.join()
        self._node.destroy_node()

    def replayed(self, images: Sequence[RecordedImage]) -> Iterator[ReplayedFrame]:
        """Match scenes to images by their stamps."""
        for image in images:
            frame = message_to_frame(image.message)
            if image.stamp_ns not in self.received:
                yield ReplayedFrame(frame, None, None)
                continue
            message, received_s = self.received[image.stamp_ns]
            latency_ms = (received_s - self.sent_s[image.stamp_ns]) * 1e3
            yield ReplayedFrame(frame, msg_to_scene(message), latency_ms)

    def _receive(self, message: Any) -> None:
        self.received[_stamp_ns(message)] = message, time.perf_counter()


def read_images(bag: Path, topic: str) -> list[RecordedImage]:
    """Read a topic's messages as they are, in the order of recording."""
    with AnyReader([bag], default_typestore=get_typestore(Stores.ROS2_JAZZY)) as reader:
        connections = [c for c in reader.connections if c.topic == topic]
        return [
            RecordedImage(record_ns, bytes(cdr), reader.deserialize(cdr, connection.msgtype))
            for connection, record_ns, cdr in reader.messages(connections)
        ]


@contextmanager
def running_node(model: Path, image_topic: str, transport: str) -> Iterator[subprocess.Popen]:
    """Run the node as a process; interrupt it at the end, as Ctrl-C would.

    Raises:
        AmodalError: it did not end in time, or ended with an error.
    """
    parameters = {"model_file_path": model, "image_transport": transport}
    command = [sys.executable, "-m", "amodal_perception.ros.node", "--ros-args"]
    command += ["-r", f"image:={image_topic}"]
    for name, value in parameters.items():
        command += ["-p", f"{name}:={value}"]
    process = subprocess.Popen(command)
    try:
        yield process
        process.send_signal(signal.SIGINT)
        code = process.wait(STOP_S)
        if code != 0:
            raise AmodalError(f"the node ended with exit code {code}; see its messages above")
    except subprocess.TimeoutExpired:
        raise AmodalError(f"the node did not end within {STOP_S:.0f} s of SIGINT") from None
    finally:
        process.kill()
        process.wait()


def run(bag: Path, truth_path: Path | None, model: Path, out_dir: Path) -> None:
    """Play, record, measure, and write the report to `out_dir`."""
    truth = read_stamped_truth(truth_path) if truth_path else None
    metadata = load_runtime(model).metadata
    topic = bags.choose_topic(bag)
    images = read_images(bag, topic.name)
    is_compressed = topic.msgtype.endswith("CompressedImage")
    player = Player(topic.name, is_compressed, "/amodal_perception/scene")
    try:
        with running_node(model, topic.name, "compressed" if is_compressed else "raw") as node:
            _wait_until_connected(player, node)
            player.play(images)
    finally:
        player.close()
    if not player.received:
        raise AmodalError(f"the node published no scene for {len(images)} images of {topic.name}")
    summary = write_run(
        out_dir,
        tqdm(player.replayed(images), "report", total=len(images), unit="frame"),
        model_id=metadata.model_id,
        class_names=metadata.class_names,
        truth=truth,
    )
    print_table(summary)
    print(f"\n{out_dir / 'report.html'}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demonstration; return 0, or 1 where something failed."""
    arguments = _parse_arguments(argv)
    logging.basicConfig(level=logging.INFO, format="demo: %(message)s")
    # Nobody else's nodes: a domain of its own, on this machine alone (101 is the last one whose
    # ports Linux does not use otherwise).
    os.environ["ROS_DOMAIN_ID"] = str(1 + os.getpid() % 101)
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    rclpy.init(args=[])
    try:
        run(arguments.bag, arguments.truth, arguments.model, arguments.out)
    except (AmodalError, OSError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        rclpy.try_shutdown()
    return 0


def _wait_until_connected(player: Player, node: subprocess.Popen) -> None:
    deadline = time.monotonic() + START_S
    while not player.is_connected:
        if node.poll() is not None:
            raise AmodalError(f"the node ended with exit code {node.returncode} before it began")
        if time.monotonic() > deadline:
            raise AmodalError(f"the node did not listen within {START_S:.0f} s")
        time.sleep(0.05)
    # Each side finds the other in its own time; this side knows of the node only what it found.
    time.sleep(SETTLE_S)


def _stamp_ns(message: Any) -> int:
    return int(message.header.stamp.sec) * 1_000_000_000 + int(message.header.stamp.nanosec)


def _parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="demo", description=__doc__.splitlines()[0])
    parser.add_argument("--bag", type=Path, default=ASSETS / "sample_bag", help="bag to play")
    parser.add_argument(
        "--truth", type=Path, help="amodal COCO file with stamp_ns (default: the sample bag's)"
    )
    parser.add_argument("--model", type=Path, default=DEFAULT_MODEL)
    parser.add_argument("--out", type=Path, required=True, help="folder for the report")
    arguments = parser.parse_args(argv)
    if arguments.truth is None and arguments.bag == ASSETS / "sample_bag":
        arguments.truth = ASSETS / "sample_truth.json"
    return arguments


if __name__ == "__main__":
    sys.exit(main())
