"""The common main of command lines: errors as one line, Ctrl-C, closed pipes, exit codes."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Callable

from amodal_perception.errors import AmodalError
from amodal_perception.missing_packages import OWN_PACKAGES, describe_missing_package

INTERRUPTED = 128 + signal.SIGINT
BROKEN_PIPE = 128 + signal.SIGPIPE


def run_main(name: str, work: Callable[[], int | None], *, afterwards: str = "") -> int:
    """Do a command's work and return its exit code.

    Every error that a user can cause and mend becomes one line on stderr, ``name: what is wrong``;
    any other is a fault of ours and keeps its traceback.

    Args:
        name: the command, as messages name it.
        work: does it all, but for parsing the arguments; returns an exit code, None for 0.
        afterwards: told after Ctrl-C, or when the disk is full: what is kept, how to go on.

    Returns:
        0; what `work` returned; 1 after an error; 130 after Ctrl-C; 141 where whoever read our
        output has closed it, as ``head`` does.
    """
    logging.basicConfig(format=f"{name}: %(message)s")
    _quiet_opencv()
    for package in OWN_PACKAGES:
        logging.getLogger(package).setLevel(logging.INFO)
    try:
        code = work() or 0
        if sys.stdout is not None:  # closed by the shell: >&-
            sys.stdout.flush()
        return code
    except AmodalError as error:
        problem = str(error)
    except ModuleNotFoundError as error:
        missing = describe_missing_package(error)
        if missing is None:
            raise
        problem = missing
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except OSError as error:
        problem = "; ".join(filter(None, (describe_os_error(error), afterwards)))
    except KeyboardInterrupt:
        print("; ".join(filter(None, (f"{name}: stopped", afterwards))), file=sys.stderr)
        return INTERRUPTED
    problem = " ".join(problem.split())  # names in it may hold line breaks
    print(f"{name}: {problem}", file=sys.stderr)
    return 1


def _quiet_opencv() -> None:
    """Keep OpenCV, in this process and its workers, from lines of its own beside our errors."""
    if "OPENCV_LOG_LEVEL" in os.environ:  # somebody wants to hear it
        return
    os.environ["OPENCV_LOG_LEVEL"] = "OFF"
    loaded = sys.modules.get("cv2")  # it has read the variable already
    if loaded is not None and hasattr(loaded, "setLogLevel"):  # old ones have it not
        loaded.setLogLevel(0)


def describe_os_error(error: OSError) -> str:
    """Return the file, where the error names one, and the reason, in one line."""
    where = f"{error.filename}: " if error.filename else ""
    if isinstance(error, (FileExistsError, NotADirectoryError)):
        return f"{where}a file stands where a folder is needed"
    return f"{where}{error.strerror or error}"
