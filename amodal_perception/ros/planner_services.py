"""Services for planners: removal plans, a scene on demand, an on/off switch; and tracking.

Services wait without a thread of their own: `get_scene` is a coroutine that the executor resumes,
in a callback group of its own, so that images still arrive meanwhile.
"""

from __future__ import annotations

import math
import secrets
import threading
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future as Promise
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from builtin_interfaces.msg import Time
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.task import Future
from std_msgs.msg import Header
from std_srvs.srv import SetBool

from amodal_perception.conversions.scenes import MessageTypes, edge_to_msg
from amodal_perception.errors import AmodalError
from amodal_perception.planning.removal_plan import removal_plan
from amodal_perception.ros.component import Host
from amodal_perception.srv import GetAmodalScene, GetRemovalPlan
from amodal_perception.structures import Frame, OcclusionGraph, Scene
from amodal_perception.tracking import Tracker, TrackingConfig

REMEMBERED_SCENES = 300  # ten seconds of a quick camera; only their graphs are kept
LATEST_S = 5.0  # what is older is not the present, and not handed out as such
DEFAULT_TIMEOUT_S = 5.0
MAX_TIMEOUT_S = 60.0
MAX_CALLS = 8  # that wait at the same time; the middleware keeps 10 requests
TIMEOUT_CHECK_PERIOD_S = 0.1
# Clocks that differ by more do not belong together: an image's stamp then says nothing about
# whether it was taken before a call.
SAME_CLOCK_NS = 1_000_000_000


@dataclass(frozen=True, eq=False)
class _Past:
    """What is kept of a scene for planning.

    Attributes:
        stamp_ns: of the image, nanoseconds.
        received_s: ``time.monotonic()`` at its arrival.
        frame_id: of the image.
        graph: the occlusion graph.
        track_ids: one per instance.
    """

    stamp_ns: int
    received_s: float
    frame_id: str
    graph: OcclusionGraph
    track_ids: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class _Call:
    """A caller of ``~/get_scene`` that waits.

    Attributes:
        outcome: AmodalScene, or the error to answer with.
        called_s: ``time.monotonic()`` at the call.
        called_ns: the same by the node's clock, nanoseconds.
        deadline_s: ``time.monotonic()`` at which the caller wants to wait no longer.
        of_camera: whether the camera's next image is wanted, not one that came with the call.
    """

    outcome: Future
    called_s: float
    called_ns: int
    deadline_s: float
    of_camera: bool

    def is_answered_by(self, stamp_ns: int, received_s: float) -> bool:
        """Whether an image is newer than the call, by its arrival and by its stamp."""
        taken_before = self.called_ns - SAME_CLOCK_NS < stamp_ns < self.called_ns
        return self.of_camera and received_s > self.called_s and not taken_before


class PlannerServices:
    """Serves ``~/get_removal_plan``, ``~/get_scene`` and ``~/enable``, and tracks objects."""

    def __init__(self, node: Host) -> None:
        """Keep the node; there are no services before `create`."""
        self._node = node
        self._types = MessageTypes.from_ros()
        self._services: list[Any] = []
        self._timer: Any = None
        self._lock = threading.Lock()
        # A node that was started again must not give old names to new objects.
        self._tracker = Tracker(prefix=f"{secrets.token_hex(2)}-")
        self._past: deque[_Past] = deque(maxlen=REMEMBERED_SCENES)
        self._calls: list[_Call] = []
        self._unanswered = 0  # calls of get_scene whose answer was not sent yet

    # Called by the node, in the executor's thread

    def create(self) -> None:
        """Create the services."""
        self._destroy_services()
        node = self._node
        waiting = ReentrantCallbackGroup()
        self._services = [
            node.create_service(GetRemovalPlan, "~/get_removal_plan", self._get_removal_plan),
            node.create_service(
                GetAmodalScene, "~/get_scene", self._get_scene, callback_group=waiting
            ),
            node.create_service(SetBool, "~/enable", self._enable),
        ]
        self._timer = node.create_timer(
            TIMEOUT_CHECK_PERIOD_S,
            self._end_late_calls,
            clock=Clock(clock_type=ClockType.STEADY_TIME),
        )

    def destroy(self) -> None:
        """Destroy the services, and answer waiting callers with an error."""
        self._refuse("the node was cleaned up")
        if self._timer is not None:
            self._node.destroy_timer(self._timer)
        self._timer = None
        # Who waited is answered in the executor's next turn, which needs the services.
        if not self._unanswered:
            self._destroy_services()

    def reset(self) -> None:
        """Drop all tracks and scenes; ids are not reused."""
        with self._lock:
            self._tracker.reset()
            self._past.clear()
        if not self._node.is_active:
            self._refuse("the node was deactivated")

    def _destroy_services(self) -> None:
        for service in self._services:
            self._node.destroy_service(service)
        self._services = []

    @property
    def wants_frames(self) -> bool:
        """Whether a caller waits for the camera's next image."""
        return any(call.of_camera for call in self._calls)

    # Called by the node, in the inference thread

    def process(self, frame: Frame, scene: Scene, received_s: float) -> Scene:
        """Track the objects, keep the scene for planning, and answer waiting callers."""
        parameters, started_s = self._node.parameters, time.monotonic()
        with self._lock:
            self._tracker.config = replace(
                TrackingConfig(),
                forget_missing_s=parameters.forget_missing,
                forget_hidden_s=parameters.forget_hidden,
            )
            track_ids = self._tracker.update(frame, scene.instances)
            tracking_ms = (time.monotonic() - started_s) * 1e3
            scene = replace(
                scene,
                track_ids=track_ids,
                stages_ms=scene.stages_ms | {"tracking": tracking_ms},
            )
            self._past.append(
                _Past(scene.stamp_ns, received_s, scene.frame_id, scene.graph, scene.track_ids)
            )
            answered = [
                call for call in self._calls if call.is_answered_by(scene.stamp_ns, received_s)
            ]
        if answered:
            message = self._node.scene_message(scene)
            for call in answered:
                self._answer(call, message)
        return scene

    # ~/get_removal_plan

    def _get_removal_plan(self, request: Any, response: Any) -> Any:
        with self._reporting_errors("get_removal_plan", response):
            self._plan(request, response)
        return response

    @contextmanager
    def _reporting_errors(self, service: str, response: Any) -> Iterator[None]:
        """Fill in ``success`` and ``message``: whatever fails, the caller must get an answer."""
        try:
            yield
            response.success = True
        except AmodalError as error:
            response.message = str(error)
        except Exception as error:
            self._node.get_logger().error(f"{service} failed: {error!r}")
            response.message = f"failed: {error!r}"

    def _plan(self, request: Any, response: Any) -> None:
        if not 0 <= request.min_confidence <= 1:
            raise AmodalError(
                f"min_confidence is {request.min_confidence}, but must lie between 0 and 1"
            )
        past = self._scene_at(request.stamp)
        target = self._target(request, past)
        plan = removal_plan(past.graph, target, request.min_confidence)
        cycle_members = sorted(member for cycle in plan.cycles for member in cycle)

        response.header = Header(stamp=_stamp(past.stamp_ns), frame_id=past.frame_id)
        response.instance_id = target + 1
        response.track_id = past.track_ids[target]
        response.remove_first = [i + 1 for i in plan.remove_first]
        response.remove_first_track_ids = [past.track_ids[i] for i in plan.remove_first]
        response.cyclic = bool(plan.cycles)
        response.cycle_members = [i + 1 for i in cycle_members]
        response.edges = [edge_to_msg(past.graph, k, self._types) for k in plan.edges]
        response.weak_edges = [edge_to_msg(past.graph, k, self._types) for k in plan.weak_edges]

    def _scene_at(self, stamp: Any) -> _Past:
        stamp_ns = stamp.sec * 1_000_000_000 + stamp.nanosec
        if not self._node.is_active:
            raise AmodalError("the node is not active")
        with self._lock:
            scenes = list(self._past)
        if stamp_ns:
            for past in reversed(scenes):
                if past.stamp_ns == stamp_ns:
                    return past
            raise AmodalError(
                f"no scene of {stamp.sec}.{stamp.nanosec:09d} is remembered: {len(scenes)} are, "
                f"{REMEMBERED_SCENES} at most"
            )
        age_s = time.monotonic() - scenes[-1].received_s if scenes else math.inf
        if age_s > LATEST_S:
            since = f"for {age_s:.0f} s" if scenes else "yet"
            raise AmodalError(
                f"no image was processed {since}: subscribe to ~/scene or call ~/get_scene first, "
                "or give the stamp of an earlier scene; /diagnostics says whether images arrive"
            )
        return scenes[-1]

    def _target(self, request: Any, past: _Past) -> int:
        count = len(past.track_ids)
        if request.instance_id:
            if request.instance_id > count:
                raise AmodalError(
                    f"the scene holds {count} instances, but none with the id "
                    f"{request.instance_id}"
                )
            return request.instance_id - 1
        if not request.track_id:
            raise AmodalError("give the target's instance_id or track_id")
        if request.track_id in past.track_ids:
            return past.track_ids.index(request.track_id)
        with self._lock:
            seen = [old for old in self._past if request.track_id in old.track_ids]
        hint = "it is not remembered"
        if seen:
            last = _stamp(seen[-1].stamp_ns)
            hint = f"it was last seen at {last.sec}.{last.nanosec:09d}: give that stamp"
        raise AmodalError(f"object {request.track_id} is not in this scene; {hint}")

    # ~/get_scene

    async def _get_scene(self, request: Any, response: Any) -> Any:
        self._unanswered += 1
        try:
            with self._reporting_errors("get_scene", response):
                outcome = await self._call(request).outcome
                if isinstance(outcome, AmodalError):
                    raise outcome
                response.scene = outcome
        finally:
            self._unanswered -= 1
        return response

    def _call(self, request: Any) -> _Call:
        """Register a caller; its outcome is a scene or an error."""
        timeout_s = request.timeout.sec + request.timeout.nanosec * 1e-9 or DEFAULT_TIMEOUT_S
        if not 0 < timeout_s <= MAX_TIMEOUT_S:
            raise AmodalError(
                f"timeout is {timeout_s:.3f} s, but must lie between 0 and {MAX_TIMEOUT_S:.0f} s"
            )
        image = request.image
        of_camera = not (image.width or image.height or len(image.data))
        if not self._node.is_active:
            raise AmodalError("the node is not active")
        if of_camera and not self._node.enabled:
            raise AmodalError("the camera is switched off; call ~/enable")
        if len(self._calls) >= MAX_CALLS:
            raise AmodalError(f"{MAX_CALLS} others are waiting already; try again later")
        called_s = time.monotonic()
        call = _Call(
            outcome=Future(),
            called_s=called_s,
            called_ns=self._node.get_clock().now().nanoseconds,
            deadline_s=called_s + timeout_s,
            of_camera=of_camera,
        )
        if not of_camera:
            self._node.infer_once(image).add_done_callback(
                lambda scene: self._answer_with(call, scene)
            )
        with self._lock:
            self._calls.append(call)
        return call

    def _answer_with(self, call: _Call, scene: Promise[Scene]) -> None:
        """Answer with the scene of the caller's own image; in the inference thread."""
        error = scene.exception()
        if error is None:
            self._answer(call, self._node.scene_message(scene.result()))
        elif isinstance(error, AmodalError):
            self._answer(call, error)
        else:
            self._answer(call, AmodalError(f"failed: {error!r}"))

    def _answer(self, call: _Call, outcome: Any) -> None:
        """Let the executor's thread resume a call; from any thread."""
        executor = self._node.executor
        if executor is not None:
            executor.create_task(self._settle, call, outcome)

    def _settle(self, call: _Call, outcome: Any) -> None:
        """End a call; in the executor's thread. The first outcome counts."""
        with self._lock:
            self._calls = [other for other in self._calls if other is not call]
        if not call.outcome.done():
            call.outcome.set_result(outcome)

    def _end_late_calls(self) -> None:
        now_s = time.monotonic()
        for call in [call for call in self._calls if now_s > call.deadline_s]:
            waited = f"{call.deadline_s - call.called_s:.1f} s"
            what = "no new image arrived" if call.of_camera else "the image was not processed"
            self._settle(call, AmodalError(f"{what} within {waited}; see /diagnostics"))

    def _refuse(self, why: str, *, of_camera: bool = False) -> None:
        for call in list(self._calls):
            if call.of_camera or not of_camera:
                self._settle(call, AmodalError(why))

    # ~/enable

    def _enable(self, request: Any, response: Any) -> Any:
        self._node.enabled = bool(request.data)
        if not request.data:
            self._refuse("the camera was switched off by ~/enable", of_camera=True)
        response.success = True
        response.message = "the camera is read" if request.data else "the camera is not read"
        return response


def _stamp(stamp_ns: int) -> Time:
    seconds, nanoseconds = divmod(stamp_ns, 1_000_000_000)
    return Time(sec=seconds, nanosec=nanoseconds)
