"""Worker processes that end with their parent process."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection


def end_with_parent(lifeline: Connection | None = None) -> None:
    """Have this process end when the one that started it ends, even by ``kill -9``.

    Called once in the worker, as the initializer of its pool.

    Args:
        lifeline: the reading end of a pipe of which the parent holds the other: closing that ends
            the worker at once, too, whatever it is busy with.
    """
    parent = multiprocessing.parent_process()
    if lifeline is not None:
        _exit_after(lambda: lifeline.poll(None))
    elif parent is not None:
        _exit_after(parent.join)
    elif sys.platform == "linux":  # started by another program, such as torchrun
        PR_SET_PDEATHSIG = 1
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _exit_after(wait: Callable[[], object]) -> None:
    def end() -> None:
        wait()
        os._exit(1)

    threading.Thread(target=end, daemon=True).start()
