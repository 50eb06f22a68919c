"""The ROS 2 lifecycle node: camera images in, amodal scenes out.

The executor's thread only swaps the newest image into a slot; a thread of its own decodes, infers
and publishes. So parameters and services answer at once however slow the model is, and a scene is
never older than one frame and one inference.

Configuring loads the model, activating subscribes to the camera, cleaning up frees the model. By
default the node does the first two by itself.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import asdict, fields, replace
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock, ClockType, JumpThreshold
from rclpy.duration import Duration
from rclpy.executors import ExternalShutdownException
from rclpy.logging import get_logger
from rclpy.parameter import Parameter
from rclpy.qos import ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image

from amodal_perception.conversions.images import EncodingError, message_to_frame
from amodal_perception.conversions.scenes import MessageTypes, scene_to_msg
from amodal_perception.errors import AmodalError, EngineError, GpuLostError, ImageError
from amodal_perception.pipeline import Pipeline
from amodal_perception.planning.extents import measure_extents
from amodal_perception.ros import diagnostics
from amodal_perception.ros.camera_subscription import CameraSubscription, transport_topic
from amodal_perception.ros.component import Component
from amodal_perception.ros.depth import (
    DepthSettings,
    DepthSubscription,
    ImageDepth,
    deserialize,
)
from amodal_perception.ros.frame_statistics import FrameStatistics
from amodal_perception.ros.inference_thread import Arrival, InferenceThread
from amodal_perception.ros.lifecycle import GuardedLifecycleNode
from amodal_perception.ros.model_loading import load_pipeline, model_path
from amodal_perception.ros.outputs import Observation, Outputs
from amodal_perception.ros.parameters import NodeParameters, descriptor
from amodal_perception.ros.planner_services import PlannerServices
from amodal_perception.runtime import ModelMetadata
from amodal_perception.structures import Frame, Scene

COMPONENTS: tuple[Callable[[AmodalNode], Component], ...] = (PlannerServices,)
"""Components of the node: each is made once, with the node as its argument."""

LOG_PERIOD_S = 5.0
SUBSCRIBERS_PERIOD_S = 0.1
INPUT_PERIOD_S = 0.5
DIAGNOSTICS_PERIOD_S = 1.0
# Simulated time comes in steps; so large a step is no step but a jump.
JUMP_S = 5.0
# launch sends SIGTERM 5 s after SIGINT, so the inference thread must have ended well before.
INFERENCE_END_S = 1.5
# A GPU that is lost never comes back within a process: after so many failures in a row, leave.
ENGINE_FAILURES = 3
MAX_LOGGED_ENCODINGS = 32
LAST_DIAGNOSTICS_S = 0.5


class AmodalNode(GuardedLifecycleNode):
    """Subscribes to ``image``, publishes ``~/scene`` and the other topics with subscribers."""

    def __init__(self) -> None:
        """Read the parameters; the model is loaded when the node is configured.

        Raises:
            ConfigError: a parameter is unknown, of the wrong type, or out of range.
        """
        super().__init__("amodal_perception")
        self.parameters = self._declare_parameters()
        self.exit_reason: str | None = None
        self.is_active = False
        self.enabled = True
        self._types = MessageTypes.from_ros()
        self._statistics = FrameStatistics()
        self._inference: InferenceThread | None = None
        self._model: ModelMetadata | None = None
        self._publishing = threading.Lock()
        self._outputs: Outputs | None = None
        transport = self.parameters.image_transport
        self._camera = CameraSubscription(
            self,
            transport_topic(self, "image", "" if transport == "raw" else transport),
            CompressedImage if transport == "compressed" else Image,
            self._receive,
            self.parameters.image_reliability,
        )
        self._depth = DepthSubscription(self, self.parameters.depth_transport, self._camera.topic)
        self._components = [make(self) for make in COMPONENTS]
        self._engine_failure = ""
        self._logged_encodings: set[str] = set()
        self._next_warning_s: dict[str, float] = {}
        self.add_on_set_parameters_callback(self._set_parameters)
        self._jump_handle = self.get_clock().create_jump_callback(
            JumpThreshold(
                min_forward=Duration(seconds=JUMP_S),
                min_backward=Duration(nanoseconds=-1),
                on_clock_change=True,
            ),
            post_callback=self._reset,
        )
        # Absolute by convention: one monitor reads those of all nodes.
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 1)
        # By the steady clock: a simulated one may stop, and the system's may jump.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        for period_s, task in (
            (SUBSCRIBERS_PERIOD_S, self._follow_subscribers),
            (INPUT_PERIOD_S, self._follow_publishers),
            (DIAGNOSTICS_PERIOD_S, self._diagnose),
        ):
            self.create_timer(period_s, task, clock=steady)

    def stop(self) -> bool:
        """Stop, and log the statistics; return whether the engine ended in time."""
        self._set_active(False)
        ended = self._release()
        if not self._is_starting:
            # Not the node's own logger: its publisher of log messages may be gone already.
            get_logger("amodal_node").info(self._statistics.summary())
        return ended

    # What components use

    def scene_message(self, scene: Scene) -> Any:
        """Make an AmodalScene; from any thread."""
        assert self._model is not None
        is_full = len(scene.instances) >= min(
            self.parameters.max_instances, self._model.max_instances
        )
        return scene_to_msg(scene, self._types, instance_limit_reached=is_full)

    def infer_once(self, message: Any) -> Future[Scene]:
        """Run one image message through the pipeline, before the camera's next.

        Components do not process the scene, and it is not published.

        Raises:
            AmodalError: the node is not active, or has enough of such work already.
        """
        if self._inference is None or not self.is_active:
            raise AmodalError("the node is not active")
        answer = self._inference.put_urgent(message)
        if answer is None:
            raise AmodalError("other images are waiting already; try again later")
        return answer

    # Transitions: all of this runs in the executor's thread

    def configure(self) -> None:
        """Load the model, run it once, and create what will be published."""
        self._inference = InferenceThread(lambda: load_pipeline(self.parameters), self._handle)
        try:
            self._model = self._inference.start(self.context.ok)
            if self._model is None:
                raise ExternalShutdownException
            self._outputs = Outputs(
                self,
                self._model.class_names,
                self.scene_message,
                self._overlay_period_s,
                lambda: self.parameters.grasp_margin,
            )
            for component in self._components:
                component.create()
        except Exception:
            self.free()
            raise
        self.get_logger().info(
            f"model {self._model.model_id} is loaded; images are read from {self._camera.topic} "
            f"({self.parameters.image_transport}) while someone listens"
        )

    def _set_active(self, active: bool) -> None:
        # Under the lock, so that nothing is published from here on.
        with self._publishing:
            self.is_active = active
        if not active:
            self._camera.close()
            self._depth.follow(wants_depth=False, wants_camera_info=False)
        self._reset()

    def _reset(self, jump: Any = None) -> None:
        """Drop all state: the clock jumped, or the camera was switched."""
        self._depth.reset()
        if self._inference is not None:
            self._inference.clear()
        for component in self._components:
            component.reset()

    def activate(self) -> None:
        """Subscribe to the camera."""
        self._set_active(True)

    def deactivate(self) -> None:
        """Unsubscribe; the model stays loaded."""
        self._set_active(False)

    def free(self) -> None:
        """Free the model and destroy what was created."""
        self._set_active(False)
        if not self._release():
            self.request_exit("the engine did not end")

    def _release(self) -> bool:
        for component in self._components:
            component.destroy()
        ended = self._inference is None or self._inference.stop(INFERENCE_END_S)
        self._inference = self._model = None
        with self._publishing:
            if self._outputs is not None:
                self._outputs.destroy()
            self._outputs = None
        return ended

    def request_exit(self, reason: str) -> None:
        """Have the process exit with code 1: a fresh one may work where this one cannot."""
        self.exit_reason = self.exit_reason or reason
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

    def _follow_subscribers(self) -> None:
        """Subscribe to what the node's subscribers need; check the engine's timeout meanwhile."""
        outputs = self._outputs
        is_wanted = measures = False
        if self.is_active and self.enabled and outputs is not None:
            measures = outputs.need_depth
            is_wanted = (
                not self.parameters.lazy
                or outputs.are_wanted
                or any(component.wants_frames for component in self._components)
            )
        if is_wanted:
            self._camera.open()
        else:
            self._camera.close()
        self._depth.follow(
            wants_depth=measures or (is_wanted and self.parameters.depth_ordering),
            wants_camera_info=measures,
        )
        timeout_s = self.parameters.engine_timeout
        if timeout_s and self._engine_busy_s() > timeout_s and self.exit_reason is None:
            self.request_exit(f"the engine has been busy with one image for {timeout_s} s")

    def _follow_publishers(self) -> None:
        self._camera.check()
        self._depth.check()

    def _receive(self, cdr: bytes) -> None:
        if self._inference is None:
            return
        self._statistics.count("received")
        if self._inference.put(
            Arrival(cdr, depth=self._depth.bind(cdr, self.parameters.sync_slop))
        ):
            self._statistics.count("overtaken")

    # Inference: all of this runs in the inference thread

    def _handle(self, pipeline: Pipeline, arrival: Arrival) -> None:
        try:
            scene = self._process(pipeline, arrival)
            self._engine_failure = ""
            if arrival.answer is not None:
                arrival.answer.set_result(scene)
        except Exception as error:  # one bad frame must not end the node
            if arrival.answer is not None:
                arrival.answer.set_exception(error)
            elif self.context.ok():  # else shut down while working: nobody is left to publish to
                self._drop(error)
            if isinstance(error, EngineError):
                self._note_engine_failure(pipeline.runtime, error)

    def _process(self, pipeline: Pipeline, arrival: Arrival) -> Scene:
        """Decode, infer, publish; the source's header is kept."""
        parameters = self.parameters
        started_s = time.monotonic()
        pipeline.config = parameters.pipeline_config
        message = arrival.message
        if isinstance(message, bytes):
            message = deserialize(message, self._camera.message_type)
        frame = message_to_frame(message, parameters.max_image_pixels)
        if arrival.answer is None:
            waited_s = time.monotonic() - arrival.received_s
            self._statistics.note_arrival_age(self._age_s(frame) - waited_s)
        if arrival.answer is None and 0 < parameters.max_frame_age < self._age_s(frame):
            raise StaleError(f"{self._age_s(frame):.3f} s old by its stamp")
        decoded_s = time.monotonic()
        depth = self._depth_of(arrival, frame)
        scene = pipeline(frame, depth.depth_m if parameters.depth_ordering else None)
        before_ms = {
            "wait": (started_s - arrival.received_s) * 1e3,
            "decode": (decoded_s - started_s) * 1e3,
        }
        scene = replace(scene, stages_ms=before_ms | scene.stages_ms)
        if arrival.answer is None:
            for component in self._components:
                scene = component.process(frame, scene, arrival.received_s)
            self._publish(Observation(message.header, frame, scene), depth)
            self._statistics.count_scene(scene.stages_ms, arrival.received_s, self._age_s(frame))
        return scene

    def _depth_of(self, arrival: Arrival, frame: Frame) -> ImageDepth:
        parameters = self.parameters
        settings = DepthSettings(
            max_pixels=parameters.max_image_pixels,
            metres_per_unit=parameters.depth_scale,
            geometry=parameters.image_geometry,
        )
        return ImageDepth(self._depth, arrival.depth, frame, settings, self._note_depth)

    def _note_depth(self, event: str, reason: str) -> None:
        self._statistics.count(event, reason)
        if reason:
            self._warn(event, reason)

    def _publish(self, observation: Observation, depth: ImageDepth) -> None:
        outputs = self._outputs
        if outputs is None:
            return
        if outputs.need_depth:
            observation = self._measured(observation, depth)
        messages = outputs.make(observation)
        with self._publishing:
            if self.is_active and outputs is self._outputs:
                outputs.publish(messages)

    def _measured(self, observation: Observation, depth: ImageDepth) -> Observation:
        if depth.depth is None or depth.camera is None:
            self._statistics.count("without_depth")
            return observation
        instances = observation.scene.instances
        return replace(
            observation,
            extents=measure_extents(instances, depth.depth.depth_m, depth.camera),
            depth_offset_ns=depth.depth.offset_ns,
        )

    def _drop(self, error: Exception) -> None:
        if isinstance(error, StaleError):
            cause = "too_old"
        else:
            cause = "undecodable" if isinstance(error, ImageError) else "failed"
        self._statistics.count(cause, str(error))
        text = f"image dropped: {error}"
        if isinstance(error, EncodingError):
            # Every image of this camera will fail alike: say it once per encoding.
            if str(error) in self._logged_encodings:
                return
            if len(self._logged_encodings) < MAX_LOGGED_ENCODINGS:
                self._logged_encodings.add(str(error))
        self._warn(cause, f"{text} ({self._statistics.summary()})")

    def _note_engine_failure(self, runtime: Any, error: EngineError) -> None:
        self._engine_failure = str(error)
        if isinstance(error, GpuLostError):  # only a new process helps
            self.request_exit(str(error))
        elif runtime.failures_in_a_row >= ENGINE_FAILURES:
            self.request_exit(f"{error}, {runtime.failures_in_a_row} times in a row")

    # Any thread

    def _age_s(self, frame: Frame) -> float:
        return (self.get_clock().now().nanoseconds - frame.stamp_ns) * 1e-9

    def _engine_busy_s(self) -> float:
        return 0.0 if self._inference is None else self._inference.busy_s

    def _overlay_period_s(self) -> float:
        rate_hz = self.parameters.overlay_rate
        return 1 / rate_hz if rate_hz else 0.0

    def _warn(self, cause: str, text: str) -> None:
        """Log a warning, throttled for each cause, by the steady clock."""
        now_s = time.monotonic()
        if now_s >= self._next_warning_s.get(cause, 0.0):
            self._next_warning_s[cause] = now_s + LOG_PERIOD_S
            self.get_logger().warning(text)

    # Diagnostics

    def note_callback_error(self, text: str) -> None:
        """Count and log what a callback raised."""
        self._statistics.count("callback_errors", text)
        self._warn("callback_errors", f"a callback failed: {text}")

    def publish_last_diagnostics(self) -> None:
        """Publish why the node ends, and wait until that is delivered."""
        self._diagnose()
        self._diagnostics.wait_for_all_acked(Duration(seconds=LAST_DIAGNOSTICS_S))

    def _diagnose(self) -> None:
        report = self._statistics.report()
        inputs = [
            diagnostics.input_status(self._input_state(self._camera, diagnostics.IMAGE), report),
            diagnostics.depth_status(
                self._input_state(self._depth.depth, diagnostics.DEPTH), report
            ),
            diagnostics.camera_info_status(
                self._input_state(self._depth.camera_info, diagnostics.CAMERA_INFO),
                report,
                is_known=self._depth.has_camera_info,
            ),
        ]
        for status in inputs:
            if status.level != diagnostics.OK:
                self._warn(f"{status.name} {status.level}", f"{status.name}: {status.message}")
        failure = self._engine_failure or str(self.transition_error or "")
        engine = diagnostics.EngineState(
            model=self._model,
            model_path=str(model_path(self.parameters)),
            busy_s=self._engine_busy_s(),
            timeout_s=self.parameters.engine_timeout,
            failure=self.exit_reason or failure,
            hardware="" if self._inference is None else self._inference.hardware,
        )
        statuses = [
            *inputs,
            diagnostics.processing_status(report),
            diagnostics.engine_status(engine),
        ]
        stamp = self.get_clock().now().to_msg()
        name = self.get_fully_qualified_name().lstrip("/")
        self._diagnostics.publish(diagnostics.diagnostics_to_msg(statuses, name, stamp))

    def _input_state(
        self, topic: CameraSubscription, kind: diagnostics.InputKind
    ) -> diagnostics.InputState:
        outputs = self._outputs
        return diagnostics.InputState(
            lifecycle=self.state,
            is_enabled=self.enabled,
            is_open=topic.is_open,
            topic=topic.topic,
            type_name=topic.type_name,
            is_reliable=topic.is_reliable,
            publishers=tuple(
                diagnostics.Publisher(
                    node_name=f"{p.node_namespace.rstrip('/')}/{p.node_name}",
                    type_name=p.topic_type,
                    is_reliable=p.qos_profile.reliability == ReliabilityPolicy.RELIABLE,
                )
                for p in topic.publishers()
            ),
            unmatched_policy=topic.unmatched_policy,
            silent_s=topic.silent_s,
            timeout_s=self.parameters.input_timeout,
            kind=kind,
            received=topic.received,
            has_received=topic.last_received_s is not None,
            is_optional=outputs is None or not outputs.need_depth,
        )


class StaleError(AmodalError):
    """An image older than ``max_frame_age``."""
