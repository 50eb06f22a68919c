"""Atomic writes, so that a reader never meets a half-written file; the package's own files."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

ASSETS = Path(__file__).resolve().parent / "assets"
"""What ships with the package: the default model, a sample bag with its truth, page styles."""


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` on success, else remove it.

    An OSError of it names `path`, which a user knows; a full disk names nothing by itself.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        if error.errno and error.filename in (None, temporary, str(temporary)):
            error.filename, error.filename2 = str(path), None
        raise
    finally:
        temporary.unlink(missing_ok=True)


class FilesTogether:
    """Files that come into their folder together, or not at all; use it as a context manager."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made = [p for p in (folder.parent, *folder.parents) if not p.exists()]
        self._temporary: Path | None = None

    def path(self, name: str) -> Path:
        """Return where to write a file for now."""
        if self._temporary is None:
            self._folder.parent.mkdir(parents=True, exist_ok=True)
            self._temporary = Path(
                tempfile.mkdtemp(prefix=f".{self._folder.name}.", dir=self._folder.parent)
            )
        return self._temporary / name

    def keep(self) -> None:
        """Move all files to where they belong."""
        self._made = []
        if self._temporary is not None:
            self._folder.mkdir(exist_ok=True)
            for file in self._temporary.iterdir():
                os.replace(file, self._folder / file.name)

    def __enter__(self) -> FilesTogether:
        return self

    def __exit__(self, *error: object) -> None:
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)
        for folder in self._made:  # of a run that has failed
            with suppress(OSError):
                folder.rmdir()


def write_json(path: Path, content: Any, *, indent: int | None = None) -> None:
    """Write JSON whole or not at all."""
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(content, indent=indent, allow_nan=False) + "\n")


def sha256_of(path: Path) -> str:
    """Return a file's SHA-256, hexadecimal; the file need not fit into memory."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
