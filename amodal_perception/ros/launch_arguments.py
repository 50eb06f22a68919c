"""Arguments of the launch files, checked before anything is started.

Each function takes the argument's name and text, and raises RuntimeError, which `ros2 launch`
prints as one line. An empty text means that the argument is not given.
"""

from __future__ import annotations

import math
import re
from pathlib import Path

import yaml

FLAGS = {
    **dict.fromkeys(("true", "yes", "on", "1"), True),
    **dict.fromkeys(("false", "no", "off", "0"), False),
}
LOG_LEVELS = ("debug", "info", "warn", "error", "fatal")
MODEL_SUFFIXES = (".onnx", ".engine")
# Names of topics and namespaces: words of letters, digits and _ between slashes.
NAME = re.compile(r"(~/|/)?[A-Za-z_]\w*(/[A-Za-z_]\w*)*", re.ASCII)


def flag(name: str, text: str) -> bool:
    """Read a yes or no in any of the usual spellings."""
    if text.strip().lower() not in FLAGS:
        raise RuntimeError(f"{name}: {text!r} is neither true nor false")
    return FLAGS[text.strip().lower()]


def log_level(name: str, text: str) -> str:
    """Read a level of ROS's log."""
    if text.lower() not in LOG_LEVELS:
        raise RuntimeError(f"{name}: {text!r} is none of {', '.join(LOG_LEVELS)}")
    return text.lower()


def positive_number(name: str, text: str) -> float:
    """Read a number above 0."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise RuntimeError(f"{name}: {text!r} is no number above 0")
    return number


def topic(name: str, text: str) -> str:
    """Check the name of a topic, or a namespace."""
    if text and not NAME.fullmatch(text):
        raise RuntimeError(
            f"{name}: {text!r} is no ROS name: letters, digits and _ between slashes, no word "
            "begins with a digit"
        )
    return text


def namespace(name: str, text: str) -> str:
    """Check a namespace; a slash at its end, as some write it, is left out."""
    stripped = text if text == "/" else text.removesuffix("/")
    return stripped if stripped == "/" else topic(name, stripped)


def existing_path(name: str, text: str) -> Path:
    """Find a file or folder; ``~`` is the user's home."""
    path = Path(text).expanduser()
    if not path.exists():
        raise RuntimeError(f"{name}: {path}: no such file or folder")
    return path


def model_file(name: str, text: str) -> str:
    """Find a model file that the node can open, by its absolute path."""
    if not text:
        return ""
    path = _readable_file(name, text)
    if path.suffix not in MODEL_SUFFIXES:
        raise RuntimeError(f"{name}: {path}: ends in none of {', '.join(MODEL_SUFFIXES)}")
    return str(path.absolute())


def params_file(name: str, text: str) -> str:
    """Find a file with parameters that ROS will accept as such, by its absolute path."""
    path = _readable_file(name, text)
    try:
        content = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise RuntimeError(f"{name}: {path}: is no YAML ({reason})") from None
    nodes = content.values() if isinstance(content, dict) else ()
    if not any(isinstance(node, dict) and "ros__parameters" in _inside(node) for node in nodes):
        raise RuntimeError(
            f"{name}: {path}: no 'ros__parameters' under a node's name; see config/node.yaml"
        )
    return str(path.absolute())


def _inside(node: dict[str, object]) -> set[str]:
    """Return the keys of a mapping and of those inside: namespaces may be nested."""
    keys = set(map(str, node))
    for value in node.values():
        if isinstance(value, dict) and "ros__parameters" not in keys:
            keys |= _inside(value)
    return keys


def _readable_file(name: str, text: str) -> Path:
    path = Path(text).expanduser()
    if not path.is_file():
        raise RuntimeError(f"{name}: {path}: no such file")
    try:
        path.open("rb").close()
    except OSError as error:
        raise RuntimeError(f"{name}: {path}: {error.strerror}") from None
    return path
