"""The cache of built engines: list, check and prune it."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from amodal_perception.errors import AmodalError, GpuUnavailableError
from amodal_perception.runtime.tensorrt import manifest as manifests
from amodal_perception.runtime.tensorrt.build import locked_folder
from amodal_perception.runtime.tensorrt.gpu import find_gpu
from amodal_perception.runtime.tensorrt.library import load_backend
from amodal_perception.runtime.tensorrt.manifest import EngineManifest, manifest_path
from amodal_perception.runtime.tensorrt.runtime_cache import runtime_cache_path


@dataclass(frozen=True)
class CachedEngine:
    """An engine in the cache, and whether it can be used here.

    Attributes:
        path: of the engine.
        manifest: None: it cannot be read.
        problem: why the engine cannot be used here, with the remedy; empty: it can.
        warning: why it will be slow here, with the remedy; empty: it will not.
    """

    path: Path
    manifest: EngineManifest | None
    problem: str
    warning: str = ""


def check_engine(path: Path, device: str = "") -> CachedEngine:
    """Check an engine as the runtime does, without executing it.

    Where no GPU can be used, none is compared.

    Args:
        path: the engine.
        device: the GPU, see `find_gpu`.
    """
    manifest = None
    try:
        manifest, _, _ = manifests.read_trusted(path)
        manifests.check_version(path, manifest, load_backend(manifest.backend).version)
        warning = ""
        with suppress(GpuUnavailableError):
            warning = manifests.check_gpu(path, manifest, find_gpu(device))
    except AmodalError as error:
        return CachedEngine(path, manifest, str(error))
    return CachedEngine(path, manifest, "", warning)


def list_engines(folder: Path) -> list[CachedEngine]:
    """Check all engines of a folder, by name."""
    return [check_engine(path) for path in sorted(folder.glob("*.engine"))]


def prune(folder: Path) -> list[Path]:
    """Remove from the cache folder what cannot be used here; return it.

    That is engines that `check_engine` finds fault with, manifests without an engine, and what
    interrupted builds left.
    """
    with locked_folder(folder):
        gone = [entry.path for entry in list_engines(folder) if entry.problem]
        for engine in list(gone):
            parts = (manifest_path(engine), runtime_cache_path(engine))
            gone += [part for part in parts if part.exists()]
        for beside in (*folder.glob("*.engine.json"), *folder.glob("*.engine.kernels")):
            if not beside.with_suffix("").exists():
                gone.append(beside)
        gone += folder.glob(".*.tmp")
        for path in gone:
            path.unlink()
    return sorted(gone)
