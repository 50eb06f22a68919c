"""The node: images in, scenes out.

The executor's thread only swaps the newest image into a slot; a thread of its own decodes, infers
and publishes. So parameters and services answer at once however slow the model is, and a scene is
never older than one frame and one inference.
"""

from __future__ import annotations

import argparse
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from rcl_interfaces.msg import SetParametersResult
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.logging import get_logger
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.utilities import remove_ros_args
from sensor_msgs.msg import CompressedImage, Image

from amodal_perception.errors import AmodalError, ImageError
from amodal_perception.msg import AmodalScene
from amodal_perception.pipeline import Pipeline
from amodal_perception.ros.images import message_to_frame, rgb_to_message
from amodal_perception.ros.latest import Latest
from amodal_perception.ros.messages import MessageTypes, scene_to_msg
from amodal_perception.ros.parameters import NodeParameters, descriptor
from amodal_perception.runtime import DEFAULT_MODEL, load_runtime
from amodal_perception.structures import Frame
from amodal_perception.visualize import draw_scene

COMPRESSED_SUFFIX = "/compressed"
LOG_PERIOD_S = 5.0
INPUT_CHECK_PERIOD_S = 0.5
# launch sends SIGTERM 5 s after SIGINT, so the worker must have ended well before.
WORKER_END_S = 2.5


class AmodalNode(Node):
    """Subscribes to ``image``, publishes ``~/scene`` and, while someone listens, ``~/overlay``."""

    def __init__(self) -> None:
        """Read the parameters, load the model, run it once, and start to listen.

        Raises:
            ConfigError: a parameter is unknown, of the wrong type, or out of range.
            ModelFileError: the model is missing, damaged, foreign, or breaks the contract.
        """
        super().__init__("amodal_perception")
        self._parameters_now = self._declare_parameters()
        path = Path(self._parameters_now.model_file_path or DEFAULT_MODEL)
        runtime = load_runtime(path, num_threads=self._parameters_now.num_threads)
        self._pipeline = Pipeline(runtime, self._parameters_now.pipeline_config)
        # The first inference takes longest; let no camera frame wait for it.
        self._pipeline(Frame(np.zeros((*runtime.metadata.input_hw, 3), np.uint8)))

        self._types = MessageTypes.from_ros()
        self._scenes = self.create_publisher(AmodalScene, "~/scene", _qos())
        self._overlays = self.create_publisher(Image, "~/overlay", _qos())
        self._counts: Counter[str] = Counter()
        self._slot: Latest[tuple[Any, float]] = Latest()
        self._worker = threading.Thread(target=self._work, name="amodal worker", daemon=True)
        self._worker.start()

        compressed = self._parameters_now.image_transport == "compressed"
        self._image_type = CompressedImage if compressed else Image
        self._image_topic = self._topic_to_read(compressed)
        reliable = self._parameters_now.image_reliability != "best_effort"
        self._subscription = self._subscribe(reliable)
        self.create_timer(INPUT_CHECK_PERIOD_S, self._check_input)
        self.add_on_set_parameters_callback(self._set_parameters)
        self.get_logger().info(
            f"ready: model {runtime.metadata.model_id}, listening on {self._image_topic} "
            f"({self._parameters_now.image_transport})"
        )

    def stop(self) -> None:
        """End the worker and say what was done; publishing is over after this."""
        self._slot.close()
        self._worker.join(WORKER_END_S)
        # Not the node's own logger: its publisher of log messages may be gone already.
        get_logger("amodal_node").info(self._tally())

    # Parameters

    def _declare_parameters(self) -> NodeParameters:
        # rclpy silently ignores overrides that nobody declares, so a typo would go unseen; it
        # keeps them in this attribute in all distributions.
        given = {name: given.value for name, given in self._parameter_overrides.items()}
        parameters = NodeParameters.from_overrides(given)
        for item in fields(parameters):
            value = getattr(parameters, item.name)
            self.declare_parameter(item.name, value, descriptor(item), ignore_override=True)
        return parameters

    def _set_parameters(self, changes: list[Parameter]) -> SetParametersResult:
        # An exception here would end the node, at the wish of any remote client.
        ours = asdict(self._parameters_now)
        changed = {change.name: change.value for change in changes if change.name in ours}
        try:
            self._parameters_now = replace(self._parameters_now, **changed)
            self._pipeline = Pipeline(self._pipeline.runtime, self._parameters_now.pipeline_config)
        except Exception as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    # Input: all of this runs in the executor's thread

    def _topic_to_read(self, compressed: bool) -> str:
        """Follow image_transport's habit: remap the base topic, the suffix is added."""
        topic = self.resolve_topic_name("image")
        if compressed and not topic.endswith(COMPRESSED_SUFFIX):
            topic += COMPRESSED_SUFFIX
        return topic

    def _subscribe(self, reliable: bool) -> Any:
        return self.create_subscription(
            self._image_type, self._image_topic, self._receive, _qos(reliable=reliable)
        )

    def _receive(self, message: Any) -> None:
        self._counts["received"] += 1
        if self._slot.put((message, time.perf_counter())):
            self._counts["overtaken"] += 1

    def _check_input(self) -> None:
        """Match the publishers' reliability, and say so when nothing arrives."""
        publishers = self.get_publishers_info_by_topic(self._image_topic)
        if self._parameters_now.image_reliability == "auto" and publishers:
            offers = [p.qos_profile.reliability == ReliabilityPolicy.RELIABLE for p in publishers]
            reliable = all(offers)
            now = self._subscription.qos_profile.reliability == ReliabilityPolicy.RELIABLE
            if reliable != now:
                self.destroy_subscription(self._subscription)
                self._subscription = self._subscribe(reliable)
                self.get_logger().warning(
                    f"{self._image_topic} is published "
                    + ("reliably again" if reliable else "best-effort: images may be lost")
                )
        if not self._counts["received"]:
            found = f"{len(publishers)} publishers"
            if publishers:
                types = sorted({publisher.topic_type for publisher in publishers})
                found += f" of {', '.join(types)}"
            self.get_logger().warning(
                f"no image yet on {self._image_topic} ({found}); remap it with "
                "--ros-args -r image:=TOPIC, or see the parameter image_transport",
                throttle_duration_sec=LOG_PERIOD_S,
                skip_first=True,
            )

    # Work: all of this runs in the worker's thread

    def _work(self) -> None:
        while (item := self._slot.take()) is not None:
            message, received_s = item
            try:
                self._see(message, received_s)
                self._counts["published"] += 1
            except ImageError as error:
                self._drop("undecodable", str(error))
            except Exception as error:  # one bad frame must not end the node
                if not self.context.ok():
                    return  # shut down while working: there is nobody to publish to
                self._drop("failed", f"{type(error).__name__}: {error}")

    def _see(self, message: Any, received_s: float) -> None:
        """Decode, infer, publish; the source's header is kept."""
        started_s = time.perf_counter()
        frame = message_to_frame(message, self._parameters_now.max_image_pixels)
        decoded_s = time.perf_counter()
        scene = self._pipeline(frame)
        before_ms = {
            "wait": (started_s - received_s) * 1e3,
            "decode": (decoded_s - started_s) * 1e3,
        }
        scene = replace(scene, stages_ms=before_ms | scene.stages_ms)
        seen_s = time.perf_counter()
        slots = self._pipeline.runtime.metadata.max_instances
        is_full = len(scene.instances) >= min(self._parameters_now.max_instances, slots)
        result = scene_to_msg(scene, self._types, degraded=is_full)
        # What it took to make the message is known only now that it is made.
        result.stage_names.append("message")
        result.stage_ms.append((time.perf_counter() - seen_s) * 1e3)
        self._scenes.publish(result)
        if self._overlays.get_subscription_count():
            picture = draw_scene(frame.image, scene)
            self._overlays.publish(rgb_to_message(picture, message.header, Image))

    def _drop(self, cause: str, reason: str) -> None:
        self._counts[cause] += 1
        self.get_logger().warning(
            f"image dropped: {reason} ({self._tally()})", throttle_duration_sec=LOG_PERIOD_S
        )

    def _tally(self) -> str:
        counts = self._counts
        return (
            f"{counts['received']} images received, {counts['published']} scenes published; "
            f"dropped: {counts['overtaken']} overtaken by a newer one, "
            f"{counts['undecodable']} undecodable, {counts['failed']} failed"
        )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the node until it is told to stop; return 0, or 1 where it could not start."""
    argv = sys.argv if argv is None else argv
    try:
        rclpy.init(args=list(argv))
        _parse_arguments(remove_ros_args(list(argv))[1:])
        _run()
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except ModuleNotFoundError as error:
        hint = f"install it, e.g. by python3 -m pip install {error.name}"
        print(f"amodal_node: {error}; {hint}", file=sys.stderr)
        return 1
    except (AmodalError, RuntimeError) as error:  # rcl reports bad arguments as RuntimeError
        print(f"amodal_node: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    finally:
        rclpy.try_shutdown()
    return 0


def _run() -> None:
    node = AmodalNode()
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    try:
        executor.spin()
    finally:
        node.stop()
        executor.shutdown()
        node.destroy_node()


def _parse_arguments(arguments: Sequence[str]) -> None:
    names = "\n".join(
        f"  {item.name} (default {item.default!r}): {item.metadata['description']}"
        for item in fields(NodeParameters)
    )
    parser = argparse.ArgumentParser(
        prog="amodal_node",
        description=__doc__.splitlines()[0],
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"parameters (--ros-args -p NAME:=VALUE):\n{names}",
    )
    parser.parse_args(arguments)


def _qos(reliable: bool = True) -> QoSProfile:
    """Keep only the newest: who is late wants the present, not the past."""
    reliability = ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT
    return QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=1, reliability=reliability)


if __name__ == "__main__":
    sys.exit(main())
