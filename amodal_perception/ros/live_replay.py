"""Live replay: a bag's camera played to a node over DDS, at the recorded rate.

The node is a process of its own, as on a robot; frames come as fast as they were recorded, and
what the node has no time for is lost.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass
from typing import IO, Any

import numpy as np
import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image
from tqdm import tqdm

from amodal_perception.conversions.cdr import message_stamp_ns
from amodal_perception.errors import AmodalError, BagError
from amodal_perception.evaluation.frame_table import percentiles
from amodal_perception.msg import AmodalScene
from amodal_perception.replay.jobs import Job
from amodal_perception.replay.replay import read_stamped_truth
from amodal_perception.replay.run_folder import ReplayedFrame, write_run
from amodal_perception.runtime import ModelMetadata, load_runtime
from amodal_perception.storage.amodal_coco import Json
from amodal_perception.storage.bag_files import camera_topics
from amodal_perception.storage.bag_frames import RecordedImage, read_frames, read_recorded_images
from amodal_perception.storage.scene_bags import scene_decoder
from amodal_perception.structures import Scene

START_S = 30.0  # until the node must listen: loading the model is most of it
SETTLE_S = 0.5  # for the node to find what found it
QUIET_S = 3.0  # without a scene after the last frame: what is missing now was dropped
STOP_S = 10.0  # for the node to end after SIGINT
OWN_NODE = "/amodal_perception"
# A camera's delay between exposure and recording; more, or less than none, is another clock.
MAX_DELAY_S = 10.0
AGE_SAMPLES = 20_000


@dataclass(frozen=True)
class SentFrame:
    """Time at which a frame was published.

    Attributes:
        at_s: on the clock of ``time.perf_counter``.
        delay_s: from its exposure to its recording; 0 where that is unknown.
    """

    at_s: float
    delay_s: float


class Player:
    """Publishes images at their recorded times, receives scenes, and records the time of both.

    Scenes stay serialised, in a file: receiving them costs no time that the node would need, and a
    replay may be longer than memory.
    """

    def __init__(
        self, topic: str, is_compressed: bool, scene_topic: str, spool: IO[bytes]
    ) -> None:
        self.sent: dict[int, SentFrame] = {}
        self.received_s: dict[int, float] = {}
        self._newest_s = 0.0
        self._places: dict[int, tuple[int, int]] = {}
        self._spool = spool
        self._node = rclpy.create_node("amodal_replay")
        reliable = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE)
        image_type = CompressedImage if is_compressed else Image
        self._images = self._node.create_publisher(image_type, topic, reliable)
        self._scenes = self._node.create_subscription(
            AmodalScene, scene_topic, self._receive, reliable, raw=True
        )
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self._node)
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()

    def _spin(self) -> None:
        with suppress(ExternalShutdownException):  # Ctrl-C: the main thread says so
            self._executor.spin()

    @property
    def is_connected(self) -> bool:
        """Whether publisher and subscription are both matched with the node."""
        publishers = self._node.count_publishers(self._scenes.topic_name)
        return bool(self._images.get_subscription_count() and publishers)

    def play(
        self, images: Iterator[RecordedImage], rate: float, on_frame: Callable[[], None]
    ) -> None:
        """Publish all images at `rate` times the recorded speed; wait for the last scenes.

        Raises:
            BagError: two images have one stamp, so their scenes could not be distinguished.
        """
        offset_s = None
        for image in images:
            due_s = image.record_ns * 1e-9 / rate
            if offset_s is None:
                offset_s = time.monotonic() - due_s
            time.sleep(max(0.0, offset_s + due_s - time.monotonic()))
            if image.stamp_ns in self.sent:
                raise BagError(
                    f"two images on {self._images.topic_name} have the stamp {image.stamp_ns} ns, "
                    "so live scenes cannot be distinguished; replay without --live"
                )
            delay_s = (image.record_ns - image.stamp_ns) * 1e-9
            is_known = 0 <= delay_s <= MAX_DELAY_S
            self.sent[image.stamp_ns] = SentFrame(
                time.perf_counter(), delay_s if is_known else 0.0
            )
            self._images.publish(image.cdr)
            on_frame()
        self._wait_for_last()

    def scenes(self) -> Callable[[int], Scene | None]:
        """Return a function from stamp to scene, None where none arrived; call after `close`."""
        decode = scene_decoder()

        def scene_of(stamp_ns: int) -> Scene | None:
            if stamp_ns not in self._places:
                return None
            start, length = self._places[stamp_ns]
            self._spool.seek(start)
            return decode(self._spool.read(length))

        return scene_of

    def close(self) -> None:
        """End the receiving thread; what was received stays."""
        self._executor.shutdown()
        self._thread.join()
        self._node.destroy_node()

    def _wait_for_last(self) -> None:
        ended_s, last = time.perf_counter(), next(reversed(self.sent), None)
        while last is not None and last not in self.received_s:
            if time.perf_counter() - max(self._newest_s, ended_s) > QUIET_S:
                return
            time.sleep(0.02)

    def _receive(self, cdr: bytes) -> None:
        now_s = time.perf_counter()
        stamp_ns = message_stamp_ns(cdr)
        if stamp_ns in self.sent and stamp_ns not in self._places:
            self._places[stamp_ns] = self._spool.seek(0, os.SEEK_END), len(cdr)
            self._spool.write(cdr)
            self.received_s[stamp_ns] = self._newest_s = now_s


def replay_live(
    job: Job, on_frame: Callable[[], None] = lambda: None, *, node: str = "", rate: float = 1.0
) -> Json:
    """Play one camera of a bag to a node, and write the run's files.

    rclpy must be initialised.

    Args:
        job: the camera, the results' folder, and the model for a node to be started.
        on_frame: called after each frame is sent.
        node: full name of a node that runs already and reads the job's topic; empty starts one.
        rate: how much faster than recorded.

    Returns:
        The content of ``summary.json``.

    Raises:
        AmodalError: the node did not start, listen, answer or end.
    """
    (topic,) = camera_topics(job.bag, [job.topic])
    truth = read_stamped_truth(job.truth_path, topic.name) if job.truth_path else None
    metadata = load_runtime(job.model.path).metadata if not node else None
    is_compressed = topic.msgtype.endswith("CompressedImage")
    scene_topic = f"{node or OWN_NODE}/scene"
    with tempfile.TemporaryFile(prefix="amodal_scenes_") as spool:
        player = Player(topic.name, is_compressed, scene_topic, spool)
        try:
            own = nullcontext() if node else running_node(job, is_compressed)
            with own as process:
                _wait_until_connected(player, process, node)
                player.play(read_recorded_images(job.bag, topic.name), rate, on_frame)
        finally:
            player.close()
        if not player.received_s:
            raise AmodalError(
                f"the node published no scene for {len(player.sent)} images of {topic.name}"
            )
        scene_of = player.scenes()
        model_id, class_names = _model_of(metadata, scene_of, list(player.received_s))
        losses: Counter[str] = Counter()
        frames = _replayed(player, scene_of, job, losses)
        return write_run(
            job.out_dir,
            tqdm(frames, "report", topic.message_count, unit="frame", delay=2, leave=False),
            model_id=model_id,
            class_names=class_names,
            truth=truth,
            is_measured=job.is_only,
            sent=len(player.sent),
            losses=losses,
            about={
                "bag": str(job.bag),
                "topic": topic.name,
                "inputs_sha256": job.fingerprint(),
                "rate": rate,
                **scene_ages(player.sent, player.received_s),
            },
            options=job.options,
        )


def scene_ages(sent: dict[int, SentFrame], received_s: dict[int, float]) -> Json:
    """Measure the age of scenes on arrival and in use.

    Args:
        sent: frames by stamp, nanoseconds.
        received_s: when the scene of a stamp arrived, same clock; in the order of arrival.

    Returns:
        ``age_ms``: percentiles of a scene's age when it arrives, since the frame's exposure;
        ``age_in_use_ms``: of the age of the newest scene that the robot has, at any time between
        the first scene and the last; ``scenes_per_s``.
    """
    at_s = np.array(list(received_s.values()))
    taken_s = np.array([sent[stamp].at_s - sent[stamp].delay_s for stamp in received_s])
    figures: Json = {"age_ms": percentiles(((at_s - taken_s) * 1e3).tolist())}
    in_use: Sequence[float] = ()
    figures["scenes_per_s"] = None
    if len(at_s) > 1:
        times_s = np.linspace(at_s[0], at_s[-1], AGE_SAMPLES, endpoint=False)
        newest_s = np.maximum.accumulate(taken_s)
        newest = newest_s[np.searchsorted(at_s, times_s, side="right") - 1]
        in_use = ((times_s - newest) * 1e3).tolist()
        figures["scenes_per_s"] = round((len(at_s) - 1) / float(at_s[-1] - at_s[0]), 3)
    figures["age_in_use_ms"] = percentiles(in_use)
    return figures


@contextmanager
def running_node(job: Job, is_compressed: bool) -> Iterator[subprocess.Popen]:
    """Run the node as a process; interrupt it at the end, as Ctrl-C would.

    Raises:
        AmodalError: it did not end in time, or ended with an error.
    """
    config = job.model.config
    parameters = {
        "model_file_path": job.model.path,
        "image_transport": "compressed" if is_compressed else "raw",
        "num_threads": job.model.num_threads,
        "provider": job.model.provider,
        **asdict(config.postprocess),
        **asdict(config.ordering),
    }
    command = [sys.executable, "-m", "amodal_perception.ros", "--ros-args"]
    command += ["-r", f"image:={job.topic}"]
    for name, value in parameters.items():
        command += ["-p", f"{name}:={value}"]
    process = subprocess.Popen(command)
    try:
        try:
            yield process
        finally:
            # After an error too: DDS lists a killed node as alive for some seconds more, and the
            # next replay would wait for it.
            process.send_signal(signal.SIGINT)
            code = process.wait(STOP_S)
        if code != 0:
            raise AmodalError(f"the node ended with exit code {code}; see its messages above")
    except subprocess.TimeoutExpired:
        raise AmodalError(f"the node did not end within {STOP_S:.0f} s of SIGINT") from None
    finally:
        process.kill()
        process.wait()


@contextmanager
def rclpy_context(is_alone: bool) -> Iterator[None]:
    """Initialise rclpy; `is_alone` in a domain of this process's own, on this machine only."""
    if is_alone:
        # Robots mostly have low numbers; after 101 Linux uses the ports otherwise.
        os.environ["ROS_DOMAIN_ID"] = str(51 + os.getpid() % 51)
        os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    rclpy.init(args=[])
    try:
        yield
    finally:
        rclpy.try_shutdown()


def _replayed(
    player: Player,
    scene_of: Callable[[int], Scene | None],
    job: Job,
    losses: Counter[str],
) -> Iterator[ReplayedFrame]:
    """Match scenes to the bag's images by their stamps."""
    for frame in read_frames(job.bag, job.topic, losses):
        scene = scene_of(frame.stamp_ns)
        if scene is None:
            yield ReplayedFrame(frame, None, None)
            continue
        sent = player.sent[frame.stamp_ns]
        latency_s = player.received_s[frame.stamp_ns] - sent.at_s
        yield ReplayedFrame(frame, scene, latency_s * 1e3, (latency_s + sent.delay_s) * 1e3)


def _model_of(
    metadata: ModelMetadata | None,
    scene_of: Callable[[int], Scene | None],
    stamps_ns: Sequence[int],
) -> tuple[str, tuple[str, ...]]:
    """Return the model's id and classes; of a foreign node, those in its scenes."""
    if metadata is not None:
        return metadata.model_id, metadata.class_names
    model_id = ""
    names: dict[int, str] = {}
    for stamp_ns in stamps_ns:
        scene = scene_of(stamp_ns)
        assert scene is not None
        model_id = scene.model_id
        names |= {i: name for i, name in enumerate(scene.class_names) if name}
    return model_id, tuple(names.get(i, f"class {i}") for i in range(max(names, default=0) + 1))


def _wait_until_connected(player: Player, process: Any, node: str) -> None:
    deadline = time.monotonic() + START_S
    while not player.is_connected:
        if process is not None and process.poll() is not None:
            raise AmodalError(
                f"the node ended with exit code {process.returncode} before it began"
            )
        if time.monotonic() > deadline:
            who = f"{node} is not there, or does not read the topic" if node else "did not listen"
            raise AmodalError(f"the node {who}: waited {START_S:.0f} s")
        time.sleep(0.05)
    # Each side finds the other in its own time; this side knows of the node only what it found.
    time.sleep(SETTLE_S)
