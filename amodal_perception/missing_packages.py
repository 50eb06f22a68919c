"""What to install when an import fails, in one line."""

from __future__ import annotations

import sys
from types import TracebackType

OWN_PACKAGES = ("amodal_perception", "training")

DISTRIBUTIONS = {
    "cv2": "opencv-python-headless",
    "faiss": "faiss-cpu",
    "google": "protobuf",
    "onnx_ir": "onnx-ir",
    "yaml": "PyYAML",
}
"""What pip calls it, where that is not the name it is imported by."""

EXTRA_OF = {
    "ray": "ray",
    **dict.fromkeys(
        (
            *("faiss", "google", "mujoco", "onnx", "onnx_ir", "onnxscript", "onnxslim"),
            *("safetensors", "tensorboard", "torch", "torchvision"),
        ),
        "training",
    ),
}
"""The extra of this project (``pip install '.[NAME]'``) that has it; the others need none."""

ROS_PACKAGES = frozenset(
    (
        *("ament_index_python", "builtin_interfaces", "diagnostic_msgs", "geometry_msgs"),
        *("lifecycle_msgs", "rcl_interfaces", "rclpy", "sensor_msgs", "std_msgs", "std_srvs"),
    )
)
"""Come with a ROS installation, not from PyPI."""


def describe_missing_package(error: ImportError) -> str | None:
    """Say which package is missing and how to get it; None where it is no foreign package."""
    if not isinstance(error, ModuleNotFoundError):
        return None
    name = error.name or ""
    module = name.partition(".")[0]
    if name.startswith(("amodal_perception.msg", "amodal_perception.srv")):
        return (
            "needs this package's ROS messages: source the install/setup.bash of your workspace; "
            "in a checkout, . install/setup.bash after make setup"
        )
    if not module or module in OWN_PACKAGES:
        return None
    if module in ROS_PACKAGES:
        return f"needs ROS 2 with its package {module}: source a ROS installation"
    distribution = DISTRIBUTIONS.get(module, module)
    needs = f"needs the Python package {distribution}, which is not installed"
    if module not in EXTRA_OF:
        return f"{needs}: python3 -m pip install {distribution}"
    extra = EXTRA_OF[module]
    return f"{needs}: python3 -m pip install {distribution}, or all of the extra [{extra}]"


def explain_missing_packages(command: str = "") -> None:
    """Let an import that fails before a command's main end in one line, not in a traceback.

    For commands that import what they need at their top. All other errors stay as they are.

    Args:
        command: what the line starts with; empty: the module of ``python -m MODULE``, while it is
            being looked up, else nothing is changed. So a package's ``__init__`` can ask for it.
    """
    if not command:
        if sys.argv[:1] != ["-m"] or "-m" not in sys.orig_argv:
            return
        command = sys.orig_argv[sys.orig_argv.index("-m") + 1]
    usual = sys.excepthook

    def explain(
        kind: type[BaseException], error: BaseException, traceback: TracebackType | None
    ) -> None:
        missing = describe_missing_package(error) if isinstance(error, ImportError) else None
        if missing:
            print(f"{command}: {missing}", file=sys.stderr)
        else:
            usual(kind, error, traceback)

    sys.excepthook = explain
