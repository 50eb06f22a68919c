"""TensorRT for RTX compiles kernels when an engine is loaded; this keeps them beside the engine.

What is kept is code for the GPU: it is read only if nobody else can have written it, and if it
belongs to this very engine. TensorRT itself compares the GPU, the driver and its version.
"""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from typing import Any

from amodal_perception import files
from amodal_perception.errors import ModelFileError
from amodal_perception.runtime.tensorrt.private_files import check_private

logger = logging.getLogger(__name__)
DIGEST_BYTES = 32


def runtime_cache_path(engine: Path) -> Path:
    """Return where the compiled kernels of an engine lie: beside it."""
    return engine.with_name(engine.name + ".kernels")


class RuntimeCache:
    """The kernels of one engine: read before it is prepared, saved after the first frames."""

    def __init__(self, engine_path: Path, engine_sha256: str) -> None:
        """Name the engine.

        Args:
            engine_path: the kernels lie beside it.
            engine_sha256: of the engine, hexadecimal.
        """
        self._path = runtime_cache_path(engine_path)
        self._engine_sha256 = engine_sha256
        self._cache: Any = None
        self._known = b""

    def configure(self, engine: Any) -> Any:
        """Return the configuration for an execution context that uses and fills the cache."""
        config = engine.create_runtime_config()
        self._cache = config.create_runtime_cache()
        kept = self._read()
        if kept and self._cache.deserialize(kept):
            self._known = kept
        elif kept:
            logger.info("%s: of another GPU, driver or TensorRT; made anew", self._path)
        if not config.set_runtime_cache(self._cache):
            logger.info("%s: not used, TensorRT refuses it", self._path)
        return config

    def save(self) -> None:
        """Keep what was compiled; where that cannot be written, the next start takes longer."""
        serialized = self._cache.serialize()
        content = b"" if serialized is None else bytes(memoryview(serialized))
        if content in (b"", self._known):
            return
        try:
            with files.atomic_write(self._path) as temporary:
                temporary.write_bytes(self._digest(content) + content)
        except OSError as error:
            logger.info(
                "%s: cannot be written (%s); the next start compiles its kernels again",
                self._path,
                error.strerror,
            )

    def _read(self) -> bytes:
        try:
            check_private(self._path)
            content = self._path.read_bytes()
        except FileNotFoundError:
            return b""
        except (OSError, ModelFileError) as error:
            logger.warning("kernels are compiled anew: %s", error)
            return b""
        digest, kept = content[:DIGEST_BYTES], content[DIGEST_BYTES:]
        if digest != self._digest(kept):
            logger.info("%s: damaged, or of another engine; made anew", self._path)
            return b""
        return kept

    def _digest(self, content: bytes) -> bytes:
        return hashlib.sha256(self._engine_sha256.encode() + content).digest()
