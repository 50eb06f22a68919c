"""Start the node.

ros2 launch amodal_perception amodal.launch.py image:=/camera/color/image_raw
"""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

ARGUMENTS = {
    "image": ("image", "topic of the colour images (without /compressed)"),
    "image_transport": ("", "raw or compressed; empty: as in params_file"),
    "model": ("", "ONNX model file; empty: as in params_file, else the one of the package"),
    "namespace": ("", "namespace of the node and its topics"),
    "params_file": (
        PathJoinSubstitution([FindPackageShare("amodal_perception"), "config", "node.yaml"]),
        "YAML file with the node's parameters",
    ),
    "use_sim_time": ("false", "take the time from /clock"),
    "respawn": ("false", "start the node again 2 s after it ended"),
    "log_level": ("info", "debug, info, warn, error or fatal"),
}


def generate_launch_description():
    """Declare the arguments and the node."""
    declared = [
        DeclareLaunchArgument(name, default_value=default, description=description)
        for name, (default, description) in ARGUMENTS.items()
    ]
    return LaunchDescription([*declared, OpaqueFunction(function=start_node)])


def start_node(context):
    """Make the node; arguments left empty leave the word to params_file."""
    given = {
        "model_file_path": LaunchConfiguration("model").perform(context),
        "image_transport": LaunchConfiguration("image_transport").perform(context),
    }
    return [
        Node(
            package="amodal_perception",
            executable="amodal_node",
            name="amodal_perception",
            namespace=LaunchConfiguration("namespace"),
            parameters=[
                LaunchConfiguration("params_file"),
                {name: value for name, value in given.items() if value},
                {
                    "use_sim_time": ParameterValue(
                        LaunchConfiguration("use_sim_time"), value_type=bool
                    )
                },
            ],
            remappings=[("image", LaunchConfiguration("image"))],
            arguments=["--ros-args", "--log-level", LaunchConfiguration("log_level")],
            respawn=LaunchConfiguration("respawn"),
            respawn_delay=2.0,
            output="screen",
        )
    ]
