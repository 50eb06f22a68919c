"""Say at once whether `make` can set up an environment with this Python, on this machine."""

import platform
import sys

OLDEST, NEWEST = (3, 10), (3, 13)


def problem(version: tuple, machine: str) -> str:
    """Return why not, and what to do instead; empty: it can."""
    if machine != "x86_64":
        return (
            f"this machine is {machine}, and the ROS 2 wheels that make installs are for x86_64. "
            "Here, with ROS 2 installed, build with colcon (docs/installing.md, On a Jetson); "
            "the same demonstration without ROS: python3 -m pip install . && "
            "amodal replay amodal_perception/assets/sample_bag --out out/demo"
        )
    if not OLDEST <= version[:2] <= NEWEST:
        return (
            f"{sys.executable} is Python {version[0]}.{version[1]}; choose CPython 3.10 to 3.13: "
            "make PYTHON=python3.12"
        )
    return ""


if __name__ == "__main__":
    sys.exit(problem(sys.version_info, platform.machine()) or None)
