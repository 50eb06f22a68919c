"""The node's state as diagnostic_msgs on /diagnostics: what is wrong, and what to do."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import Any

from amodal_perception.ros.frame_statistics import DROPS, StatisticsReport
from amodal_perception.runtime import ModelMetadata

# The levels of diagnostic_msgs/DiagnosticStatus.
OK, WARN, ERROR, STALE = range(4)

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
class Publisher:
    """A publisher of the image topic, with its type and QoS."""

    node_name: str
    type_name: str
    is_reliable: bool


@dataclass(frozen=True)
class InputState:
    """State of the camera's subscription.

    Attributes:
        lifecycle: the node's state, such as ``active``.
        is_enabled: whether it is switched on.
        is_open: whether it subscribes.
        topic: resolved name.
        type_name: what it reads, such as ``sensor_msgs/msg/Image``.
        is_reliable: whether it asks for reliable delivery.
        publishers: all of the topic.
        unmatched_policy: QoS policy that kept a publisher away, as the middleware says; or "".
        silent_s: since the last image, or since the subscription; seconds.
        timeout_s: how much of that is too much.
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


@dataclass(frozen=True)
class EngineState:
    """State of the engine.

    Attributes:
        model: the model's metadata; None while none is loaded.
        model_path: its file.
        busy_s: how long the image in it has been there, seconds; 0 when idle.
        timeout_s: how much of that is too much; 0 = nothing is.
        failure: why the node cannot work, or the engine failed last; "" when all is well.
    """

    model: ModelMetadata | None
    model_path: str
    busy_s: float
    timeout_s: float
    failure: str


def input_status(state: InputState, report: StatisticsReport) -> Status:
    """Report whether images arrive, and if not, why: topic, type, QoS, silence."""
    level, message = _input_level(state, report)
    values = {
        "topic": state.topic,
        "type": state.type_name,
        "reliability_asked": "reliable" if state.is_reliable else "best_effort",
        "publishers": ", ".join(
            f"{p.node_name} ({p.type_name}, {'reliable' if p.is_reliable else 'best_effort'})"
            for p in state.publishers
        )
        or "none",
        "images_per_s": f"{report.rate_hz('received'):.1f}",
        "silent_s": f"{state.silent_s:.1f}",
        "received": report.total["received"],
    }
    return Status("input", level, message, values)


def _input_level(state: InputState, report: StatisticsReport) -> tuple[int, str]:
    if state.lifecycle != "active":
        return OK, f"not listening: the node is {state.lifecycle}"
    if not state.is_enabled:
        return OK, "not listening: switched off by ~/enable"
    if not state.is_open:
        return OK, "waiting for a subscriber: the camera is read only while someone listens"
    if not state.publishers:
        return WARN, f"nobody publishes {state.topic}; remap it: --ros-args -r image:=TOPIC"
    fitting = [p for p in state.publishers if p.type_name == state.type_name]
    if not fitting:
        return ERROR, (
            f"{state.topic} is published as {state.publishers[0].type_name}, but the node reads "
            f"{state.type_name}; see the parameter image_transport"
        )
    best_effort = [p for p in fitting if not p.is_reliable]
    if state.is_reliable and best_effort:
        return ERROR, (
            f"QoS mismatch: {best_effort[0].node_name} publishes {state.topic} best_effort, but "
            "the node asks for reliable; set image_reliability to auto"
        )
    if state.unmatched_policy:
        return ERROR, (
            f"QoS mismatch on {state.topic}: {state.unmatched_policy}; "
            "see the parameters qos_overrides"
        )
    if state.silent_s > state.timeout_s:
        hint = "" if state.is_reliable else "; large best_effort images get lost on the way"
        return STALE, f"no image for {state.silent_s:.1f} s, although published{hint}"
    if report.recent["undecodable"]:
        return WARN, f"images that cannot be read: {report.reasons.get('undecodable', '')}"
    return OK, f"{report.rate_hz('received'):.1f} images/s"


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
