"""Point the ROS wheels' CMake files at this environment's Python and NumPy headers.

The wheels were built in a container and name its folders (/opt/python/cp311-cp311/...), so a
package with messages would not find the headers. Run it with the environment's own Python.
"""

from __future__ import annotations

import re
import sys
import sysconfig
from pathlib import Path

import numpy as np

BUILD_TIME_HEADERS = {
    re.compile(r"/opt/python/[^;\"]*?/site-packages/numpy/(_core|core)/include"): np.get_include(),
    re.compile(r"/opt/python/[^;\"/]*/include/python3\.\d+"): sysconfig.get_path("include"),
}


def relocate(text: str) -> str:
    """Return a CMake file's text with the headers' folders replaced."""
    for pattern, folder in BUILD_TIME_HEADERS.items():
        text = pattern.sub(lambda _, folder=folder: folder, text)
    return text


def main() -> None:
    """Rewrite the files that need it."""
    for path in sorted(Path(sys.prefix, "share").rglob("*.cmake")):
        text = path.read_text()
        if (moved := relocate(text)) != text:
            path.write_text(moved)


if __name__ == "__main__":
    main()
