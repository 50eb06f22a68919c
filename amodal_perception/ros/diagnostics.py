"""The node's state as diagnostic_msgs on /diagnostics: what is wrong, and what to do."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import Any

from amodal_perception.ros.frame_statistics import DROPS, StatisticsReport
from amodal_perception.runtime import ModelMetadata

# The levels of diagnostic_msgs/DiagnosticStatus.
OK, WARN, ERROR, STALE = range(4)

# No camera takes a minute; what is older was stamped by another clock.
MAX_AGE_S = 60.0
MAX_AHEAD_S = 1.0

ENGINE_LIBRARIES = ("onnxruntime", "tensorrt", "tensorrt_rtx")


@dataclass(frozen=True)
class Status:
    """One DiagnosticStatus.

    Attributes:
        name: the part of the node.
        level: `OK`, `WARN`, `ERROR` or `STALE`.
        message: how things are, and what to do about it.
        values: everything else, by name.
    """

    name: str
    level: int
    message: str
    values: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class InputKind:
    """One of the node's inputs, in the words of its status.

    Attributes:
        status: name of its status.
        remapped: name of its topic before remapping.
        singular: what comes on it.
        transport_parameter: the parameter that chooses its type; "" where none does.
        reliability_remedy: what to do where its reliability does not match.
        idle: why it is not read, though the node is active.
    """

    status: str
    remapped: str
    singular: str
    transport_parameter: str
    reliability_remedy: str
    idle: str


IMAGE = InputKind(
    status="input",
    remapped="image",
    singular="image",
    transport_parameter="image_transport",
    reliability_remedy="set image_reliability to auto",
    idle="waiting for a subscriber: the camera is read only while someone listens",
)
DEPTH = InputKind(
    status="depth",
    remapped="depth",
    singular="depth image",
    transport_parameter="depth_transport",
    reliability_remedy="see the parameters qos_overrides",
    idle="not listening: nothing that needs depth has a subscriber",
)
CAMERA_INFO = InputKind(
    status="camera_info",
    remapped="camera_info",
    singular="camera_info",
    transport_parameter="",
    reliability_remedy="see the parameters qos_overrides",
    idle="not listening: neither ~/extents nor ~/detections_3d has a subscriber",
)


@dataclass(frozen=True)
class Publisher:
    """A publisher of an input's topic, with its type and QoS."""

    node_name: str
    type_name: str
    is_reliable: bool


@dataclass(frozen=True)
class InputState:
    """State of one input's subscription.

    Attributes:
        lifecycle: the node's state, such as ``active``.
        is_enabled: whether it is switched on.
        is_open: whether it subscribes.
        topic: resolved name.
        type_name: what it reads, such as ``sensor_msgs/msg/Image``.
        is_reliable: whether it asks for reliable delivery.
        publishers: all of the topic.
        unmatched_policy: QoS policy that kept a publisher away, as the middleware says; or "".
        silent_s: since the last message, or since the subscription; seconds.
        timeout_s: how much of that is too much.
        kind: which input it is.
        received: messages so far.
        has_received: whether one came since the subscription.
        is_optional: whether it may be missing: no output needs it.
    """

    lifecycle: str
    is_enabled: bool
    is_open: bool
    topic: str
    type_name: str
    is_reliable: bool
    publishers: tuple[Publisher, ...]
    unmatched_policy: str
    silent_s: float
    timeout_s: float
    kind: InputKind = IMAGE
    received: int = 0
    has_received: bool = True
    is_optional: bool = False


@dataclass(frozen=True)
class EngineState:
    """State of the engine.

    Attributes:
        model: the model's metadata; None while none is loaded.
        model_path: its file.
        busy_s: how long the image in it has been there, seconds; 0 when idle.
        timeout_s: how much of that is too much; 0 = nothing is.
        failure: why the node cannot work, or the engine failed last; "" when all is well.
        hardware: what the engine runs on, in words: a GPU's name and memory.
    """

    model: ModelMetadata | None
    model_path: str
    busy_s: float
    timeout_s: float
    failure: str
    hardware: str = ""


def input_status(state: InputState, report: StatisticsReport) -> Status:
    """Report whether images arrive, and if not, why: topic, type, QoS, silence, content, age."""
    level, message = _image_level(state, report)
    values = {
        **_input_values(state),
        "images_per_s": f"{report.rate_hz('received'):.1f}",
        "silent_s": f"{state.silent_s:.1f}",
        "age_s": f"{report.arrival_age_s:.3f}",
        "received": report.total["received"],
    }
    return Status(IMAGE.status, level, message, values)


def depth_status(state: InputState, report: StatisticsReport) -> Status:
    """Report whether images get their depth, and if not, why."""
    level, message = _depth_level(state, report)
    values = {
        **_input_values(state),
        "silent_s": f"{state.silent_s:.1f}",
        "received": state.received,
        "used": report.total["depth_used"],
        "unusable": report.total["depth_unusable"],
    }
    return Status(DEPTH.status, level, message, values)


def camera_info_status(state: InputState, report: StatisticsReport, *, is_known: bool) -> Status:
    """Report whether the camera's model is known, and if not, why.

    Args:
        state: of the subscription.
        report: what became of the messages.
        is_known: whether one was ever received: it is kept, for it may be published only once.
    """
    level, message = _camera_info_level(state, report, is_known)
    values = {
        **_input_values(state),
        "received": state.received,
        "used": report.total["camera_info_used"],
        "unusable": report.total["camera_info_unusable"],
    }
    return Status(CAMERA_INFO.status, level, message, values)


def _input_values(state: InputState) -> dict[str, Any]:
    return {
        "topic": state.topic,
        "type": state.type_name,
        "reliability_asked": "reliable" if state.is_reliable else "best_effort",
        "publishers": ", ".join(
            f"{p.node_name} ({p.type_name}, {'reliable' if p.is_reliable else 'best_effort'})"
            for p in state.publishers
        )
        or "none",
    }


def _image_level(state: InputState, report: StatisticsReport) -> tuple[int, str]:
    unsubscribed = _idle_level(state) or _unmatched_level(state) or _silent_level(state)
    if unsubscribed:
        return unsubscribed
    if report.recent["undecodable"]:
        return WARN, f"images that cannot be read: {report.reasons.get('undecodable', '')}"
    if report.recent["too_old"]:
        return WARN, (
            f"images older than max_frame_age are dropped: {report.reasons.get('too_old', '')}"
        )
    implausible = _implausible_age(report)
    if implausible:
        return WARN, implausible
    return OK, f"{report.rate_hz('received'):.1f} images/s"


def _depth_level(state: InputState, report: StatisticsReport) -> tuple[int, str]:
    idle = _idle_level(state)
    if idle:
        return idle
    if state.is_optional and not state.publishers:
        return OK, f"not used: nobody publishes {state.topic}, and no output needs it"
    unmatched = _unmatched_level(state) or _silent_level(state)
    if unmatched:
        return unmatched
    if report.recent["depth_unusable"]:
        return WARN, report.reasons.get("depth_unusable", "")
    if report.recent["published"] and not report.recent["depth_used"]:
        return WARN, "depth images come, but no image was given one"
    return OK, f"{report.rate_hz('depth_used'):.1f} images/s have depth"


def _camera_info_level(
    state: InputState, report: StatisticsReport, is_known: bool
) -> tuple[int, str]:
    idle = _idle_level(state)
    if idle:
        return idle
    if not is_known:
        unmatched = _unmatched_level(state) or _silent_level(state)
        if unmatched:
            return unmatched
    if report.recent["camera_info_unusable"]:
        return WARN, report.reasons.get("camera_info_unusable", "")
    return OK, f"{report.rate_hz('camera_info_used'):.1f} images/s were measured with it"


def _idle_level(state: InputState) -> tuple[int, str] | None:
    """Say why nothing is read; None where it is."""
    if state.lifecycle != "active":
        return OK, f"not listening: the node is {state.lifecycle}"
    if not state.is_enabled:
        return OK, "not listening: switched off by ~/enable"
    return None if state.is_open else (OK, state.kind.idle)


def _unmatched_level(state: InputState) -> tuple[int, str] | None:
    """Say why no publisher can be heard; None where one can."""
    topic, kind = state.topic, state.kind
    if not state.publishers:
        return WARN, f"nobody publishes {topic}; remap it: --ros-args -r {kind.remapped}:=TOPIC"
    fitting = [p for p in state.publishers if p.type_name == state.type_name]
    if not fitting:
        see = f"; see the parameter {kind.transport_parameter}" if kind.transport_parameter else ""
        return ERROR, (
            f"{topic} is published as {state.publishers[0].type_name}, but the node reads "
            f"{state.type_name}{see}"
        )
    best_effort = [p for p in fitting if not p.is_reliable]
    if state.is_reliable and best_effort:
        return ERROR, (
            f"QoS mismatch: {best_effort[0].node_name} publishes {topic} best_effort, but "
            f"the node asks for reliable; {kind.reliability_remedy}"
        )
    if state.unmatched_policy:
        return ERROR, (
            f"QoS mismatch on {topic}: {state.unmatched_policy}; see the parameters qos_overrides"
        )
    return None


def _silent_level(state: InputState) -> tuple[int, str] | None:
    """Say that nothing comes, though published; None where something does."""
    if state.silent_s > state.timeout_s:
        hint = "" if state.is_reliable else "; large best_effort images get lost on the way"
        silent = f"no {state.kind.singular} for {state.silent_s:.1f} s"
        return STALE, f"{silent}, although published{hint}"
    if not state.has_received:
        return WARN, f"no {state.kind.singular} yet, {state.silent_s:.1f} s after subscribing"
    return None


def _implausible_age(report: StatisticsReport) -> str:
    """Say that stamps and clock do not belong together; "" where they may."""
    age_s = report.arrival_age_s
    remedy = "check the camera's stamps, or set use_sim_time for recorded images"
    if age_s > MAX_AGE_S:
        return f"images are {age_s:.0f} s old by their stamps when they arrive; {remedy}"
    if age_s < -MAX_AHEAD_S:
        return f"images are stamped {-age_s:.0f} s ahead of the clock; {remedy}"
    return ""


def processing_status(report: StatisticsReport) -> Status:
    """Report the rate of scenes, processing times and dropped images."""
    level, message = OK, f"{report.rate_hz('published'):.1f} scenes/s"
    if not report.total["published"]:
        message = "no image processed yet"
    if report.recent["failed"]:
        level, message = WARN, f"images failed: {report.reasons.get('failed', '')}"
    elif report.recent["overtaken"] > report.recent["published"]:
        level = WARN
        message = (
            f"overload: {report.rate_hz('received'):.1f} images/s arrive, "
            f"{report.rate_hz('published'):.1f} are processed"
        )
    elif _implausible_age(report):
        level, message = WARN, f"{message}; {_implausible_age(report)}"
    values: dict[str, Any] = {
        "processing_time_ms": report.processing_ms,
        "cyclic_time_ms": report.cycle_ms,
        "pipeline_latency_ms": report.age_ms,
        **{f"stage.{name}_ms": times for name, times in report.stages_ms.items()},
        "published": report.total["published"],
        **{f"dropped.{cause}": report.total[cause] for cause in DROPS},
        "without_depth": report.total["without_depth"],
        "callback_errors": report.total["callback_errors"],
    }
    return Status("processing", level, message, values)


def engine_status(state: EngineState) -> Status:
    """Report which model is loaded, by which libraries, and whether it works."""
    values: dict[str, Any] = {"model_file": state.model_path, "rss_mb": f"{rss_mb():.0f}"}
    for library in ENGINE_LIBRARIES:
        if library in sys.modules:
            values[library] = getattr(sys.modules[library], "__version__", "?")
    if state.failure:
        return Status("engine", ERROR, state.failure, values)
    if state.model is None:
        return Status("engine", OK, "no model is loaded", values)
    values |= {
        "model_id": state.model.model_id,
        "model_sha256": state.model.sha256,
        "hardware": state.hardware,
        "input_size": f"{state.model.input_hw[1]} x {state.model.input_hw[0]}",
        "max_instances": state.model.max_instances,
        "training_data": state.model.training_data,
        "busy_s": f"{state.busy_s:.2f}",
    }
    if state.timeout_s and state.busy_s > state.timeout_s / 2:
        return Status("engine", WARN, f"busy with one image for {state.busy_s:.1f} s", values)
    return Status("engine", OK, state.model.model_id, values)


def diagnostics_to_msg(statuses: list[Status], node_name: str, stamp: Any) -> Any:
    """Make a DiagnosticArray.

    Args:
        statuses: of the parts of the node.
        node_name: with its namespace.
        stamp: builtin_interfaces/Time.
    """
    from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue

    message = DiagnosticArray(
        status=[
            DiagnosticStatus(
                level=bytes([status.level]),
                name=f"{node_name}: {status.name}",
                message=status.message,
                hardware_id="amodal_perception",
                values=[KeyValue(key=k, value=str(v)) for k, v in status.values.items()],
            )
            for status in statuses
        ]
    )
    message.header.stamp = stamp
    return message


def rss_mb() -> float:
    """Resident memory of this process, megabytes; 0 where /proc is missing."""
    try:
        with open("/proc/self/statm") as statm:
            return int(statm.read().split()[1]) * 4096 / 1e6
    except OSError:
        return 0.0
