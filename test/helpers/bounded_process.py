"""A process that calls functions for a test, with a bound on memory and on the time of each."""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import resource
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from amodal_perception.errors import AmodalError

MEMORY_BYTES = 2**30
"""What a call may take beyond what the process has once everything is imported."""
SECONDS = 60.0
"""Only what hangs takes so long."""


class BoundedProcess:
    """Calls functions in another process; use it as a context manager."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._ours, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()

    def call(self, function: Callable[..., Any], *arguments: Any) -> str:
        """Return the lines of an error that the function tells in words, or "".

        Raises:
            AssertionError: it raises anything else, kills its process, or hangs.
        """
        self._ours.send((function, arguments))
        if not self._ours.poll(SECONDS):
            raise AssertionError(f"not done after {SECONDS:.0f} s")
        try:
            told, unexpected = self._ours.recv()
        except EOFError:
            self._process.join()
            raise AssertionError(f"its process ended with {self._process.exitcode}") from None
        if unexpected:
            raise AssertionError(unexpected)
        return told

    def __enter__(self) -> BoundedProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.join()


def _serve(connection: Connection) -> None:
    limit = 0
    while True:
        function, arguments = connection.recv()  # imports what the function needs
        if not limit:
            pages = int(Path("/proc/self/statm").read_text().split()[0])
            limit = pages * resource.getpagesize() + MEMORY_BYTES
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        told = unexpected = ""
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            try:
                told = function(*arguments) or ""
            except AmodalError as error:
                told = str(error)
            except BaseException:
                unexpected = traceback.format_exc()
        connection.send((told, unexpected))
