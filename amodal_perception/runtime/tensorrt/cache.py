"""The cache of built engines: list, check and prune it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from amodal_perception.errors import AmodalError
from amodal_perception.runtime.tensorrt import gpu
from amodal_perception.runtime.tensorrt import manifest as manifests
from amodal_perception.runtime.tensorrt.build import locked_folder
from amodal_perception.runtime.tensorrt.library import load_backend
from amodal_perception.runtime.tensorrt.manifest import EngineManifest, manifest_path


@dataclass(frozen=True)
class CachedEngine:
    """An engine in the cache, and whether it can be used here.

    Attributes:
        path: of the engine.
        manifest: None: it cannot be read.
        problem: why the engine cannot be used here, with the remedy; empty: it can.
    """

    path: Path
    manifest: EngineManifest | None
    problem: str


def check_engine(path: Path) -> CachedEngine:
    """Check an engine as the runtime does, without executing it.

    Where no GPU is, its compute capability is not compared.
    """
    manifest = None
    try:
        manifest, _, _ = manifests.read_trusted(path)
        manifests.check_machine(
            path,
            manifest,
            backend_version=load_backend(manifest.backend).version,
            compute_capability=gpu.compute_capability(),
        )
    except AmodalError as error:
        return CachedEngine(path, manifest, str(error))
    return CachedEngine(path, manifest, "")


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
        gone += [manifest_path(path) for path in gone if manifest_path(path).exists()]
        for sidecar in folder.glob("*.engine.json"):
            if not sidecar.with_suffix("").exists():
                gone.append(sidecar)
        gone += folder.glob(".*.tmp")
        for path in gone:
            path.unlink()
    return sorted(gone)
