"""The manifest beside an engine: its ONNX file, TensorRT version and GPU, with hashes."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from amodal_perception import files
from amodal_perception.errors import ModelFileError
from amodal_perception.runtime.contract import ModelMetadata, TensorSpec, check_contract
from amodal_perception.runtime.tensorrt.cuda import Gpu
from amodal_perception.runtime.tensorrt.private_files import check_private

FORMAT_VERSION = 2
"""Raised when the meaning of a key changes."""


@dataclass(frozen=True)
class EngineManifest:
    """The manifest of an engine: all that is known without executing it.

    Attributes:
        format_version: `FORMAT_VERSION` of the code that wrote it.
        engine_sha256: of the engine's file, hexadecimal.
        onnx_file: what it was built from, an absolute path on the machine that built it.
        onnx_sha256: of that file.
        backend: ``tensorrt`` or ``tensorrt-rtx``.
        backend_version: of the library that built it, and that alone can run it.
        compute_capability: of the GPU it was built for, such as 86.
        device_name: of the GPU it was built on; empty: no such GPU was there.
        multiprocessors: of that GPU; 0: no such GPU was there.
        workspace_mib: limit of the scratch memory while building, MiB; 0: all the GPU has.
        optimization_level: 0 (fast to build) to 5 (fast to run).
        properties: metadata of the ONNX file.
        inputs: what the engine takes.
        outputs: what the engine gives.
        precision: number of arithmetic layers by element type.
        layers: element type of every layer, by its name.
        layers_from: ``engine``: read from what was built; ``network``: what the strongly typed
            network prescribes, where no GPU was there to open the engine.
        build_seconds: how long the build took.
        built_at: UTC, ISO 8601.
    """

    format_version: int
    engine_sha256: str
    onnx_file: str
    onnx_sha256: str
    backend: str
    backend_version: str
    compute_capability: int
    device_name: str
    multiprocessors: int
    workspace_mib: int
    optimization_level: int
    properties: Mapping[str, str]
    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]
    precision: Mapping[str, int]
    layers: Mapping[str, str]
    layers_from: str
    build_seconds: float
    built_at: str

    def rebuild_command(self, path: Path) -> str:
        """Return the command that builds the engine again, on the machine where it is to run."""
        words = ["amodal", "build-engine", self.onnx_file, "--out", str(path)]
        return shlex.join([*words, "--backend", self.backend])

    def metadata(self, path: Path) -> ModelMetadata:
        """Return the model's metadata, if the engine keeps the network's contract.

        Raises:
            ModelFileError: it does not.
        """
        return check_contract(
            path,
            sha256=self.onnx_sha256,
            properties=self.properties,
            inputs=self.inputs,
            outputs=self.outputs,
        )


def manifest_path(engine: Path) -> Path:
    """Return where the manifest of an engine lies: beside it."""
    return engine.with_name(engine.name + ".json")


def write(path: Path, manifest: EngineManifest) -> None:
    """Write the manifest of the engine at `path`, whole or not at all."""
    files.write_json(manifest_path(path), asdict(manifest), indent=1)


def read(path: Path) -> EngineManifest:
    """Read the manifest of the engine at `path`.

    Raises:
        ModelFileError: missing, damaged, or written by another version of this program.
    """
    sidecar = manifest_path(path)
    build = "build the engine with amodal build-engine MODEL.onnx"
    try:
        content = json.loads(sidecar.read_text())
    except FileNotFoundError:
        raise ModelFileError(
            f"{path}: has no manifest {sidecar.name} beside it; {build}"
        ) from None
    except (OSError, ValueError) as error:
        raise ModelFileError(f"{sidecar}: is no manifest ({error}); {build}") from None
    names = {item.name for item in fields(EngineManifest)}
    if not isinstance(content, dict) or content.get("format_version") != FORMAT_VERSION:
        raise ModelFileError(f"{sidecar}: is no manifest of format {FORMAT_VERSION}; {build}")
    if set(content) != names:
        wrong = ", ".join(sorted(set(content) ^ names))
        raise ModelFileError(f"{sidecar}: missing or unknown: {wrong}; {build}")
    try:
        specs = {key: _specs(content[key]) for key in ("inputs", "outputs")}
        manifest = EngineManifest(**{**content, **specs})
        _check_types(manifest)
    except (AttributeError, KeyError, TypeError) as error:
        raise ModelFileError(f"{sidecar}: is damaged ({error}); {build}") from None
    return manifest


def read_trusted(path: Path) -> tuple[EngineManifest, ModelMetadata, bytes]:
    """Read an engine, after everything that can be checked without executing it.

    Args:
        path: the engine.

    Returns:
        Its manifest, the model's metadata, and the engine, unaltered since it was built.

    Raises:
        ModelFileError: missing, no manifest, writable by others, damaged, stale, or against the
            network's contract; says how to build it again.
    """
    if not path.is_file():
        raise ModelFileError(f"{path}: no such engine")
    check_private(path)
    manifest = read(path)
    check_private(manifest_path(path))
    metadata = manifest.metadata(path)
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != manifest.engine_sha256:
        raise ModelFileError(
            f"{path}: is damaged, or not the engine of its manifest; rebuild it: "
            f"{manifest.rebuild_command(path)}"
        )
    onnx = Path(manifest.onnx_file)
    if onnx.is_file() and files.sha256_of(onnx) != manifest.onnx_sha256:
        raise ModelFileError(
            f"{path}: is stale, {onnx} has changed since; rebuild it: "
            f"{manifest.rebuild_command(path)}"
        )
    return manifest, metadata, content


def check_version(path: Path, manifest: EngineManifest, backend_version: str) -> None:
    """Check that an engine was built by the TensorRT of this machine.

    Args:
        path: the engine.
        manifest: its manifest.
        backend_version: of the manifest's backend as it is installed here.

    Raises:
        ModelFileError: by another; says how to build it again.
    """
    if manifest.backend_version != backend_version:
        raise ModelFileError(
            f"{path}: was built with {manifest.backend} {manifest.backend_version}, but "
            f"{backend_version} is installed; rebuild it here: {manifest.rebuild_command(path)}"
        )


def check_gpu(path: Path, manifest: EngineManifest, gpu: Gpu) -> str:
    """Check that an engine can run on a GPU.

    Returns:
        Why it will be slow there, and what helps; empty: it will not.

    Raises:
        ModelFileError: it cannot; says how to build it again.
    """
    rebuild = f"rebuild it here: {manifest.rebuild_command(path)}"
    if gpu.compute_capability != manifest.compute_capability:
        raise ModelFileError(
            f"{path}: was built for compute capability {manifest.compute_capability}, but "
            f"{gpu.name} has {gpu.compute_capability}; {rebuild}"
        )
    built_on = (manifest.device_name, manifest.multiprocessors)
    if manifest.multiprocessors and built_on != (gpu.name, gpu.multiprocessors):
        return (
            f"{path}: was built on {manifest.device_name} ({manifest.multiprocessors} "
            f"multiprocessors), and may be slow on {gpu.name} ({gpu.multiprocessors}); {rebuild}"
        )
    return ""


def _specs(content: Mapping[str, Mapping[str, Any]]) -> dict[str, TensorSpec]:
    return {name: TensorSpec(tuple(s["shape"]), str(s["dtype"])) for name, s in content.items()}


def _check_types(manifest: EngineManifest) -> None:
    """Check what JSON does not: the values that are compared or put into words later."""
    wanted = {
        str: (
            *("engine_sha256", "onnx_file", "onnx_sha256"),
            *("backend", "backend_version", "device_name"),
        ),
        int: (
            "compute_capability",
            "multiprocessors",
            "workspace_mib",
            "optimization_level",
        ),
        dict: ("properties", "precision", "layers"),
    }
    for kind, names in wanted.items():
        for name in names:
            if type(getattr(manifest, name)) is not kind:
                raise TypeError(f"{name} is no {kind.__name__}")
    if not all(isinstance(value, str) for value in manifest.properties.values()):
        raise TypeError("properties are no texts")
