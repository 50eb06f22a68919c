"""Start the node, once for each camera.

ros2 launch amodal_perception amodal.launch.py image:=/camera/color/image_raw
ros2 launch amodal_perception amodal.launch.py cameras:=/path/to/cameras.yaml
"""

import time
from dataclasses import dataclass, fields
from pathlib import Path

import yaml
from launch import LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    LogInfo,
    OpaqueFunction,
    RegisterEventHandler,
    TimerAction,
)
from launch.event_handlers import OnProcessExit
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare

from amodal_perception.ros import launch_arguments as check
from amodal_perception.ros.exit_codes import PERMANENT

COMPRESSED = "/compressed"
FIRST_DELAY_S, LONGEST_DELAY_S = 1.0, 30.0
# Who ran for so long before it ended was well: the next delay is the first again.
WELL_S = 60.0

ARGUMENTS = {
    "image": ("image", "topic of the colour images; .../compressed is read as compressed images"),
    "depth": ("", "topic of depth images aligned with colour; empty: none"),
    "camera_info": ("", "topic of the camera's calibration; empty: beside the images"),
    "cameras": ("", "several cameras: a YAML file, or YAML itself; see config/cameras.yaml"),
    "model": ("", "ONNX model file; empty: as in params_file, else the one of the package"),
    "namespace": ("", "namespace of the nodes and their topics"),
    "params_file": (
        PathJoinSubstitution([FindPackageShare("amodal_perception"), "config", "node.yaml"]),
        "YAML file with the node's parameters",
    ),
    "use_sim_time": ("false", "take the time from /clock"),
    "respawn": ("true", "start a node that failed again, after 1, 2, 4 ... 30 s"),
    "log_level": ("info", "debug, info, warn, error or fatal"),
}


@dataclass(frozen=True)
class Camera:
    """What one node reads; an empty text means that the launch argument holds."""

    name: str = ""
    image: str = ""
    depth: str = ""
    camera_info: str = ""
    model: str = ""
    params_file: str = ""

    @classmethod
    def from_yaml(cls, entry: object, number: int) -> "Camera":
        """Check one entry of the list."""
        known = [item.name for item in fields(cls)]
        where = f"cameras, entry {number}"
        if not isinstance(entry, dict) or not all(isinstance(v, str) for v in entry.values()):
            raise RuntimeError(f"{where}: {entry!r} is no mapping of names to texts")
        unknown = sorted(set(entry) - set(known))
        if unknown:
            raise RuntimeError(f"{where}: unknown {', '.join(unknown)}; valid: {', '.join(known)}")
        for needed in ("name", "image"):
            if not entry.get(needed):
                raise RuntimeError(f"{where}: has no '{needed}'")
        for name in ("name", "image", "depth", "camera_info"):
            check.topic(f"{where}: {name}", entry.get(name, ""))
        files = {
            "model": check.model_file(f"{where}: model", entry.get("model", "")),
            "params_file": entry.get("params_file", "")
            and check.params_file(f"{where}: params_file", entry["params_file"]),
        }
        return cls(**entry | files)


def generate_launch_description() -> LaunchDescription:
    """Declare the arguments and the nodes."""
    declared = [
        DeclareLaunchArgument(name, default_value=default, description=description)
        for name, (default, description) in ARGUMENTS.items()
    ]
    return LaunchDescription([*declared, OpaqueFunction(function=start_nodes)])


def start_nodes(context) -> list:
    """Start one node per camera."""
    given = read_arguments(
        {name: LaunchConfiguration(name).perform(context) for name in ARGUMENTS}
    )
    start = start_and_watch if given["respawn"] else start_once
    return [action for camera in read_cameras(given["cameras"]) for action in start(camera, given)]


def read_arguments(texts: dict[str, str]) -> dict:
    """Check all arguments but the list of cameras; raises RuntimeError with the reason."""
    checks = {
        **dict.fromkeys(("image", "depth", "camera_info"), check.topic),
        **dict.fromkeys(("use_sim_time", "respawn"), check.flag),
        "model": check.model_file,
        "namespace": check.namespace,
        "params_file": check.params_file,
        "log_level": check.log_level,
    }
    return texts | {name: checks[name](name, texts[name]) for name in checks}


def read_cameras(text: str) -> list[Camera]:
    """Read the list of cameras; without one, the single camera of the other arguments."""
    if not text:
        return [Camera()]
    try:
        content = None if text.startswith("~") else yaml.safe_load(text)  # "~" is YAML's null
        if content is None or isinstance(content, str):
            path = Path(content or text).expanduser()
            if not path.is_file():
                raise RuntimeError(f"cameras: {path}: no such file")
            content = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, OSError, UnicodeDecodeError) as error:
        raise RuntimeError(f"cameras: cannot be read: {' '.join(str(error).split())}") from None
    if not isinstance(content, list) or not content:
        raise RuntimeError("cameras: is no list; see config/cameras.yaml")
    cameras = [Camera.from_yaml(entry, number) for number, entry in enumerate(content, 1)]
    names = [camera.name for camera in cameras]
    if len(set(names)) < len(names):
        raise RuntimeError(f"cameras: a name occurs twice among {', '.join(names)}")
    return cameras


def start_once(camera: Camera, given: dict) -> list:
    """Start a node; if it ends, it stays away."""
    return [node_of(camera, given)]


def start_and_watch(camera: Camera, given: dict, delay_s: float = FIRST_DELAY_S) -> list:
    """Start a node, and start it again when it fails: each time after twice the delay."""
    node, started_s = node_of(camera, given), time.monotonic()

    def start_again(event, context):
        if context.is_shutdown or event.returncode == 0:
            return None
        who = f"amodal_node {camera.name}".strip()
        if event.returncode == PERMANENT:
            return LogInfo(
                msg=f"{who} ended with exit code {PERMANENT}: its last line says what to mend; it "
                "is not started again"
            )
        was_well = time.monotonic() - started_s > WELL_S
        wait_s = FIRST_DELAY_S if was_well else delay_s
        return [
            LogInfo(msg=f"{who} ended with exit code {event.returncode}; again in {wait_s:g} s"),
            TimerAction(
                period=wait_s,
                actions=start_and_watch(camera, given, min(2 * wait_s, LONGEST_DELAY_S)),
            ),
        ]

    watch = OnProcessExit(target_action=node, on_exit=start_again, handle_once=True)
    return [RegisterEventHandler(watch), node]


def node_of(camera: Camera, given: dict) -> Node:
    """Describe a node; what is left empty leaves the word to params_file."""
    image = camera.image or given["image"]
    depth = camera.depth or given["depth"]
    base = image.removesuffix(COMPRESSED)
    beside = base.rpartition("/")[0] + "/camera_info" if "/" in base else "camera_info"
    remapped = {
        "image": base,
        "depth": depth,
        "camera_info": camera.camera_info or given["camera_info"] or beside,
    }
    parameters = {
        "use_sim_time": given["use_sim_time"],
        "model_file_path": camera.model or given["model"],
        "image_transport": "compressed" if image.endswith(COMPRESSED) else "",
    }
    return Node(
        package="amodal_perception",
        executable="amodal_node",
        namespace="/".join(part for part in (given["namespace"], camera.name) if part),
        parameters=[
            camera.params_file or given["params_file"],
            {name: value for name, value in parameters.items() if value != ""},
        ],
        remappings=[(name, topic) for name, topic in remapped.items() if topic],
        arguments=["--ros-args", "--log-level", given["log_level"]],
        output="screen",
    )
