"""The node: images in, scenes out.

The executor's thread only swaps the newest image into a slot; a thread of its own decodes, infers
and publishes. So parameters and services answer at once however slow the model is, and a scene is
never older than one frame and one inference.

A managed (lifecycle) node: configuring loads the model, activating listens to the camera,
cleaning up frees the model. By default it does the first two by itself.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock, ClockType
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.logging import get_logger
from rclpy.parameter import Parameter
from rclpy.serialization import deserialize_message
from rclpy.utilities import remove_ros_args
from sensor_msgs.msg import Image

from amodal_perception.errors import AmodalError, EngineError, ImageError
from amodal_perception.msg import AmodalScene
from amodal_perception.pipeline import Pipeline
from amodal_perception.ros.camera import Camera, newest_only
from amodal_perception.ros.component import Component
from amodal_perception.ros.images import message_to_frame, rgb_to_message
from amodal_perception.ros.messages import MessageTypes, scene_to_msg
from amodal_perception.ros.parameters import NodeParameters, descriptor
from amodal_perception.ros.worker import Arrival, Engine, Worker
from amodal_perception.runtime import DEFAULT_MODEL, ModelMetadata, load_runtime
from amodal_perception.structures import Frame, Scene
from amodal_perception.visualize import draw_scene

COMPONENTS: tuple[Callable[[AmodalNode], Component], ...] = ()
"""What is mounted on the node: each is made once, with the node as its argument."""

LOG_PERIOD_S = 5.0
TICK_S = 0.1
INPUT_CHECK_PERIOD_S = 0.5
# launch sends SIGTERM 5 s after SIGINT, so the worker must have ended well before.
WORKER_END_S = 2.0
# A GPU that is lost never comes back within a process: after so many failures in a row, leave.
ENGINE_FAILURES = 3

SUCCESS, FAILURE, ERROR = (
    TransitionCallbackReturn.SUCCESS,
    TransitionCallbackReturn.FAILURE,
    TransitionCallbackReturn.ERROR,
)


class AmodalNode(LifecycleNode):
    """Subscribes to ``image``, publishes ``~/scene`` and what else someone listens to."""

    def __init__(self) -> None:
        """Read the parameters; the model is loaded when the node is configured.

        Raises:
            ConfigError: a parameter is unknown, of the wrong type, or out of range.
        """
        super().__init__("amodal_perception")
        self.parameters = self._declare_parameters()
        self.exit_reason: str | None = None
        self.transition_error: Exception | None = None
        self.is_active = False
        self._is_starting = False
        self.enabled = True
        self._types = MessageTypes.from_ros()
        self._counts: Counter[str] = Counter()
        self._worker: Worker | None = None
        self._model: ModelMetadata | None = None
        self._publishing = threading.Lock()
        self._outputs: dict[str, Any] = {}
        self._camera = Camera(
            self, self.parameters.image_transport, self.parameters.image_reliability, self._receive
        )
        self._components = [make(self) for make in COMPONENTS]
        self._checked_input_s = 0.0
        self._guard_change_state()
        self.add_on_set_parameters_callback(self._set_parameters)
        # By the steady clock: a simulated one may stop, and the system's may jump.
        self._steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(TICK_S, self._tick, clock=self._steady)

    def autostart(self) -> None:
        """Configure and activate.

        Raises:
            AmodalError: the model is missing, damaged, foreign, or breaks the contract.
        """
        self._is_starting = True
        for trigger in (self.trigger_configure, self.trigger_activate):
            if trigger() != SUCCESS:
                raise self.transition_error or AmodalError("the node could not start")
        self._is_starting = False

    def stop(self) -> bool:
        """End all work and say what was done; return whether the engine ended in time."""
        self._set_active(False)
        ended = self._release()
        if not self._is_starting:
            # Not the node's own logger: its publisher of log messages may be gone already.
            get_logger("amodal_node").info(self._tally())
        return ended

    # What components use

    def scene_message(self, scene: Scene) -> Any:
        """Make an AmodalScene; from any thread."""
        assert self._model is not None
        is_full = len(scene.instances) >= min(
            self.parameters.max_instances, self._model.max_instances
        )
        return scene_to_msg(scene, self._types, degraded=is_full)

    def look(self, message: Any) -> Future[Scene]:
        """Have one image message seen before the camera's next; components do not see it.

        Raises:
            AmodalError: the node is not active, or has enough of such work already.
        """
        if self._worker is None or not self.is_active:
            raise AmodalError("the node is not active")
        answer = self._worker.ask(message)
        if answer is None:
            raise AmodalError("other images are waiting to be seen already; try again later")
        return answer

    # Transitions: all of this runs in the executor's thread

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the model, run it once, and create what will be published."""
        return self._transition("configure", self._configure, FAILURE)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Listen."""
        return self._transition("activate", lambda: self._set_active(True), FAILURE)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop listening; the model stays loaded."""
        return self._transition("deactivate", lambda: self._set_active(False), ERROR)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free the model and destroy what was created."""
        return self._transition("clean up", self._free, ERROR)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Do the same from any state."""
        return self._transition("shut down", self._free, ERROR)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Fall back to the unconfigured state."""
        return self._transition("recover", self._free, ERROR)

    def _transition(
        self, name: str, action: Callable[[], None], otherwise: TransitionCallbackReturn
    ) -> TransitionCallbackReturn:
        """Log what goes wrong, which rclpy swallows silently, and keep it for the diagnostics."""
        self.transition_error = None
        try:
            action()
        except Exception as error:
            self.transition_error = error
            if not isinstance(error, AmodalError | ExternalShutdownException):
                self.get_logger().error(traceback.format_exc())
            if not self._is_starting:
                self.get_logger().error(f"could not {name}: {error}")
            return otherwise
        return SUCCESS

    def _guard_change_state(self) -> None:
        """Answer impossible requests with failure; rclpy would let them end the node."""
        change_state = self._service_change_state.callback

        def answer(request: Any, response: Any) -> Any:
            try:
                return change_state(request, response)
            except Exception as error:
                self.get_logger().warning(f"transition refused: {error}")
                response.success = False
                return response

        self._service_change_state.callback = answer

    def _configure(self) -> None:
        worker = Worker(self._load, self._work)
        model = worker.start(self.context.ok)
        if model is None:
            raise ExternalShutdownException
        self._worker, self._model = worker, model
        try:
            self._outputs = {
                "scene": self.create_publisher(AmodalScene, "~/scene", newest_only()),
                "overlay": self.create_publisher(Image, "~/overlay", newest_only()),
            }
            for component in self._components:
                component.create()
        except Exception:
            self._free()
            raise
        self.get_logger().info(
            f"model {model.model_id} is loaded; images are read from {self._camera.topic} "
            f"({self.parameters.image_transport}) while someone listens"
        )

    def _set_active(self, active: bool) -> None:
        # Under the lock, so that nothing is published from here on.
        with self._publishing:
            self.is_active = active
        if not active:
            self._camera.close()
            if self._worker is not None:
                self._worker.clear()
        for component in self._components:
            component.reset()

    def _free(self) -> None:
        self._set_active(False)
        if not self._release():
            self.leave("the engine did not end")

    def _release(self) -> bool:
        for component in self._components:
            component.destroy()
        ended = self._worker is None or self._worker.stop(WORKER_END_S)
        self._worker = self._model = None
        with self._publishing:
            for publisher in self._outputs.values():
                self.destroy_publisher(publisher)
            self._outputs = {}
        return ended

    def leave(self, reason: str) -> None:
        """Have the process end with exit code 1: a fresh one may work where this one cannot."""
        self.exit_reason = reason
        if self.executor is not None:
            self.executor.wake()

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
        try:
            ours = asdict(self.parameters)
            changed = {change.name: change.value for change in changes if change.name in ours}
            self.parameters = replace(self.parameters, **changed)
        except Exception as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    # Input: all of this runs in the executor's thread

    def _tick(self) -> None:
        wanted = self.is_active and self.enabled and self._is_someone_listening()
        if not wanted:
            self._camera.close()
        elif not self._camera.is_open:
            self._camera.open()
        if time.monotonic() - self._checked_input_s >= INPUT_CHECK_PERIOD_S:
            self._checked_input_s = time.monotonic()
            self._check_input()

    def _is_someone_listening(self) -> bool:
        return (
            not self.parameters.lazy
            or any(component.wants_frames for component in self._components)
            or any(self._has_listener(topic) for topic in self._outputs)
        )

    def _has_listener(self, topic: str) -> bool:
        publisher = self._outputs.get(topic)
        return publisher is not None and publisher.get_subscription_count() > 0

    def _receive(self, cdr: bytes) -> None:
        if self._worker is None:
            return
        self._counts["received"] += 1
        if self._worker.put(Arrival(cdr)):
            self._counts["overtaken"] += 1

    def _check_input(self) -> None:
        """Match the publishers' reliability, and say so when nothing arrives."""
        self._camera.check()
        if self._camera.is_open and not self._counts["received"]:
            publishers = self._camera.publishers()
            found = f"{len(publishers)} publishers"
            if publishers:
                types = sorted({publisher.topic_type for publisher in publishers})
                found += f" of {', '.join(types)}"
            self.get_logger().warning(
                f"no image yet on {self._camera.topic} ({found}); remap it with "
                "--ros-args -r image:=TOPIC, or see the parameter image_transport",
                throttle_duration_sec=LOG_PERIOD_S,
                skip_first=True,
            )

    # Work: all of this runs in the worker's thread

    def _load(self) -> Pipeline:
        path = Path(self.parameters.model_file_path or DEFAULT_MODEL)
        engine = Engine(load_runtime(path, num_threads=self.parameters.num_threads))
        pipeline = Pipeline(engine, self.parameters.pipeline_config)
        # The first inference takes longest; let no camera frame wait for it.
        pipeline(Frame(np.zeros((*engine.metadata.input_hw, 3), np.uint8)))
        return pipeline

    def _work(self, pipeline: Pipeline, arrival: Arrival) -> None:
        try:
            scene = self._see(pipeline, arrival)
            if arrival.answer is not None:
                arrival.answer.set_result(scene)
        except Exception as error:  # one bad frame must not end the node
            if arrival.answer is not None:
                arrival.answer.set_exception(error)
            elif self.context.ok():  # else shut down while working: nobody is left to publish to
                cause = "undecodable" if isinstance(error, ImageError) else "failed"
                self._drop(cause, str(error))
            engine = pipeline.runtime
            assert isinstance(engine, Engine)
            if isinstance(error, EngineError) and engine.failures_in_a_row >= ENGINE_FAILURES:
                self.leave(f"{error} ({engine.failures_in_a_row} times in a row)")

    def _see(self, pipeline: Pipeline, arrival: Arrival) -> Scene:
        """Decode, infer, publish; the source's header is kept."""
        started_s = time.monotonic()
        pipeline.config = self.parameters.pipeline_config
        message = arrival.message
        if isinstance(message, bytes):
            message = deserialize_message(message, self._camera.message_type)
        frame = message_to_frame(message, self.parameters.max_image_pixels)
        decoded_s = time.monotonic()
        scene = pipeline(frame)
        before_ms = {
            "wait": (started_s - arrival.received_s) * 1e3,
            "decode": (decoded_s - started_s) * 1e3,
        }
        scene = replace(scene, stages_ms=before_ms | scene.stages_ms)
        if arrival.answer is None:
            for component in self._components:
                scene = component.see(frame, scene, arrival.received_s)
            self._publish(message, frame, scene)
            self._counts["published"] += 1
        return scene

    def _publish(self, message: Any, frame: Frame, scene: Scene) -> None:
        made: dict[str, Any] = {}
        if self._has_listener("scene"):
            seen_s = time.monotonic()
            made["scene"] = result = self.scene_message(scene)
            # What it took to make the message is known only now that it is made.
            result.stage_names.append("message")
            result.stage_ms.append((time.monotonic() - seen_s) * 1e3)
        if self._has_listener("overlay"):
            picture = draw_scene(frame.image, scene)
            made["overlay"] = rgb_to_message(picture, message.header, Image)
        with self._publishing:
            if self.is_active:
                for topic, result in made.items():
                    self._outputs[topic].publish(result)

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
    """Run the node until it is told to stop; return 0, or 1 where it cannot go on."""
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
    ended = False
    try:
        executor.add_node(node)
        if node.parameters.autostart:
            node.autostart()
        spin(node, executor)
    finally:
        ended = node.stop()
        executor.shutdown()
        node.destroy_node()
        if not ended:
            # The engine's thread is still in native code, which must not be torn down beneath it.
            print("amodal_node: left the engine while it worked", file=sys.stderr, flush=True)
            os._exit(1 if node.exit_reason else 0)


def spin(node: AmodalNode, executor: SingleThreadedExecutor) -> None:
    """Serve callbacks until shutdown; none of them can end the node by an exception.

    Raises:
        EngineError: the node cannot go on.
    """
    while node.context.ok():
        if node.exit_reason is not None:
            raise EngineError(node.exit_reason)
        try:
            executor.spin_once()
        except (ExternalShutdownException, KeyboardInterrupt):
            raise
        except Exception:
            node.get_logger().error(
                f"a callback failed: {traceback.format_exc()}", throttle_duration_sec=LOG_PERIOD_S
            )
            _release_entities(node)


def _release_entities(node: AmodalNode) -> None:
    """Serve the one again whose message could not be taken: rclpy leaves it marked as busy."""
    for entities in (node.subscriptions, node.services, node.clients, node.timers, node.waitables):
        for entity in entities:
            entity._executor_event = False
            entity.callback_group.ending_execution(entity)


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


if __name__ == "__main__":
    sys.exit(main())
