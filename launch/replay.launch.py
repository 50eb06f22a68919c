"""Play a bag to the node, and look at both in RViz.

ros2 launch amodal_perception replay.launch.py
ros2 launch amodal_perception replay.launch.py bag:=/path/to/bag image:=/camera/color/image_raw
"""

from pathlib import Path

from ament_index_python.packages import PackageNotFoundError, get_package_prefix
from launch import LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    ExecuteProcess,
    IncludeLaunchDescription,
    OpaqueFunction,
    RegisterEventHandler,
    TimerAction,
)
from launch.event_handlers import OnProcessExit
from launch.events import Shutdown
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution, ThisLaunchFileDir
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare

from amodal_perception.ros import launch_arguments as check

SHARE = FindPackageShare("amodal_perception")
# The player sends nothing again: give the node the time to load its model, and to be found.
START_S = 5.0
# Topics of the bag that comes with the package.
SAMPLE_IMAGE = "/camera/color/image_raw/compressed"

ARGUMENTS = {
    "bag": ("", "rosbag2 folder; empty: the one of the package"),
    "image": ("", "topic of the colour images; empty: that of the package's bag"),
    "depth": ("", "topic of depth images aligned with colour; empty: none"),
    "model": ("", "ONNX model file; empty: as in params_file, else the one of the package"),
    "params_file": (
        PathJoinSubstitution([SHARE, "config", "node.yaml"]),
        "YAML file with the node's parameters",
    ),
    "rate": ("1.0", "speed of the playback, 1: as recorded"),
    "loop": ("false", "play again and again"),
    "rviz": ("true", "open RViz"),
}


def generate_launch_description() -> LaunchDescription:
    """Declare the arguments, the node, the player and RViz."""
    declared = [
        DeclareLaunchArgument(name, default_value=default, description=description)
        for name, (default, description) in ARGUMENTS.items()
    ]
    return LaunchDescription([*declared, OpaqueFunction(function=start)])


def start(context) -> list:
    """Start all; when the bag is over, so is the launch."""
    given = {name: LaunchConfiguration(name).perform(context) for name in ARGUMENTS}
    bag = check.existing_path("bag", given["bag"]) if given["bag"] else sample_bag()
    for name in ("image", "depth"):
        check.topic(name, given[name])
    rate = check.positive_number("rate", given["rate"])
    with_loop = check.flag("loop", given["loop"])
    with_rviz = check.flag("rviz", given["rviz"])
    if given["bag"] and not given["image"]:
        raise RuntimeError("image: say which topic of the bag to read; `ros2 bag info` lists them")
    if with_rviz:
        try:
            get_package_prefix("rviz2")
        except PackageNotFoundError:
            raise RuntimeError("rviz: RViz is not installed; leave it out: rviz:=false") from None
    node = IncludeLaunchDescription(
        [ThisLaunchFileDir(), "/amodal.launch.py"],
        launch_arguments={
            "image": given["image"] or SAMPLE_IMAGE,
            "depth": given["depth"],
            "model": given["model"],
            "params_file": given["params_file"],
            "use_sim_time": "true",
            "respawn": "false",
        }.items(),
    )
    player = ExecuteProcess(
        cmd=[
            *("ros2", "bag", "play", str(bag), "--clock", "--rate", str(rate)),
            *(["--loop"] if with_loop else []),
        ],
        output="screen",
    )
    over = OnProcessExit(target_action=player, on_exit=end_with_player)
    rviz = Node(
        package="rviz2",
        executable="rviz2",
        arguments=["-d", PathJoinSubstitution([SHARE, "config", "amodal.rviz"])],
        parameters=[{"use_sim_time": True}],
        output="log",
    )
    return [
        RegisterEventHandler(over),
        node,
        TimerAction(period=START_S, actions=[player]),
        *([rviz] if with_rviz else []),
    ]


def end_with_player(event, context):
    """End all when the bag is over; as a failure where its player died before."""
    if context.is_shutdown:
        return None
    if event.returncode != 0:
        raise RuntimeError(
            f"the player ended with exit code {event.returncode}: the bag was not played to its "
            "end"
        )
    return EmitEvent(event=Shutdown(reason="the bag is over"))


def sample_bag() -> Path:
    """Find the bag that lies beside the package's modules."""
    import amodal_perception

    bags = [Path(folder) / "assets" / "sample_bag" for folder in amodal_perception.__path__]
    return next(bag for bag in bags if bag.is_dir())
