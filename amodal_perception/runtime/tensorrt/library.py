"""Import TensorRT or TensorRT for RTX, whichever is installed, late."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import logging
from collections import deque
from dataclasses import dataclass
from typing import Any

from amodal_perception.errors import ConfigError

logger = logging.getLogger(__name__)

BACKENDS = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}
"""Modules by the names that users give; both have the same classes and functions."""
DTYPES = {
    "FLOAT": "float32",
    "HALF": "float16",
    "BF16": "bfloat16",
    "INT8": "int8",
    "UINT8": "uint8",
    "INT32": "int32",
    "INT64": "int64",
    "BOOL": "bool",
}
"""NumPy's names of TensorRT's element types."""
ERRORS_KEPT = 16


@dataclass(frozen=True)
class Backend:
    """A TensorRT that is installed here.

    Attributes:
        name: key of `BACKENDS`.
        api: the module.
    """

    name: str
    api: Any

    @property
    def version(self) -> str:
        """Of the library, to the build: an engine runs with the version that built it."""
        return str(self.api.__version__)

    @property
    def builds_without_gpu(self) -> bool:
        """Whether an engine can be compiled for a GPU that is not here."""
        return self.name == "tensorrt-rtx"

    @property
    def has_runtime_cache(self) -> bool:
        """Whether kernels are compiled when an engine is loaded, and can be kept."""
        return self.name == "tensorrt-rtx"


def installed_version(backend: str) -> str:
    """Return the version that pip knows of a backend, without importing it; empty: none."""
    for name in (backend, f"{backend}-cu12", f"{backend}-cu13"):
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return ""


def load_backend(name: str = "") -> Backend:
    """Import a TensorRT.

    Args:
        name: key of `BACKENDS`; empty: the first that is installed.

    Raises:
        ConfigError: unknown, not installed, or its libraries do not load.
    """
    if name and name not in BACKENDS:
        raise ConfigError(f"unknown backend {name!r}; known are: {', '.join(BACKENDS)}")
    for candidate in [name] if name else BACKENDS:
        if importlib.util.find_spec(BACKENDS[candidate]) is None:
            continue
        try:
            return Backend(candidate, importlib.import_module(BACKENDS[candidate]))
        except (ImportError, OSError) as error:
            raise ConfigError(f"{candidate} is installed but does not load: {error}") from None
    missing = f"{name} is not" if name else f"neither {' nor '.join(BACKENDS)} is"
    raise ConfigError(
        f"{missing} installed; pip install '.[tensorrt-cu12]' (or -cu13, as the driver's CUDA), "
        "on GeForce and RTX '.[tensorrt-rtx]'; JetPack has its own"
    )


def make_logger(backend: Backend) -> Any:
    """Make a logger that keeps the last errors, in `errors`, for a message of ours."""
    trt = backend.api

    class Collector(trt.ILogger):  # type: ignore[name-defined,misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: deque[str] = deque(maxlen=ERRORS_KEPT)

        def log(self, severity: Any, message: str) -> None:
            if severity <= trt.ILogger.ERROR:
                self.errors.append(message.strip())
            else:
                logger.debug("%s: %s", backend.name, message.strip())

    return Collector()


def error_lines(message: str) -> str:
    """Return the lines of a TensorRT message that say what is wrong; its own sources follow."""
    return " ".join(message.strip().splitlines()[:2]) or "no reason given"
