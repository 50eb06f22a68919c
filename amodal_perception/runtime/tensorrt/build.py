"""Compile an ONNX file of ours into a TensorRT engine: ``amodal build-engine``.

Precision lives in the ONNX file: networks are strongly typed, so an engine computes in the types
that the file prescribes, and no builder flag can silently do otherwise.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from amodal_perception import files
from amodal_perception.errors import (
    ConfigError,
    EngineError,
    GpuUnavailableError,
    ModelFileError,
)
from amodal_perception.runtime.contract import TensorSpec
from amodal_perception.runtime.tensorrt import manifest as manifests
from amodal_perception.runtime.tensorrt.cuda import Cuda, Gpu, load_binding
from amodal_perception.runtime.tensorrt.gpu import find_gpu
from amodal_perception.runtime.tensorrt.layer_types import engine_types, network_types
from amodal_perception.runtime.tensorrt.library import (
    DTYPES,
    Backend,
    error_lines,
    load_backend,
    make_logger,
)
from amodal_perception.runtime.tensorrt.manifest import EngineManifest
from amodal_perception.runtime.tensorrt.onnx_source import OnnxSource, read_source
from amodal_perception.runtime.tensorrt.private_files import cache_folder, check_private
from amodal_perception.runtime.tensorrt.progress import make_monitor

POLL_S = 0.05
MAX_OPTIMIZATION_LEVEL = 5
TURING = 75
"""Compute capability for which TensorRT for RTX 1.7 has no float32 matrix product."""
REDUCED = {"fp16": "float16", "int8": "int8"}
"""Type that some arithmetic must have, by the precision that a file says it has."""


@dataclass(frozen=True)
class BuildOptions:
    """Options of a build.

    Attributes:
        backend: key of `library.BACKENDS`; empty: the first that is installed.
        compute_capability: of the GPU to build for, such as 86; 0: that of the GPU here.
        device: the GPU here, see `gpu.find_gpu`; empty: the first.
        workspace_mib: limit of the scratch memory, MiB; 0: all the GPU has.
        optimization_level: 0 (fast to build) to 5 (fast to run).
    """

    backend: str = ""
    compute_capability: int = 0
    device: str = ""
    workspace_mib: int = 0
    optimization_level: int = 3

    def __post_init__(self) -> None:
        if self.workspace_mib < 0:
            raise ConfigError(f"workspace is {self.workspace_mib} MiB; it must be 0 or more")
        if not 0 <= self.optimization_level <= MAX_OPTIMIZATION_LEVEL:
            raise ConfigError(
                f"optimization level is {self.optimization_level}; "
                f"it must be 0 to {MAX_OPTIMIZATION_LEVEL}"
            )


@dataclass(frozen=True)
class Target:
    """The TensorRT and the GPU that an engine is built for.

    Attributes:
        backend: the TensorRT that builds and will run it.
        compute_capability: of the GPU, such as 86.
        gpu: of this machine, where it is such a one; else None.
    """

    backend: Backend
    compute_capability: int
    gpu: Gpu | None


@dataclass(frozen=True)
class BuiltEngine:
    """An engine that is ready.

    Attributes:
        path: of the engine; its manifest lies beside it.
        manifest: what is written there.
        is_new: False: it had been built before, from the same file for the same target.
    """

    path: Path
    manifest: EngineManifest
    is_new: bool


def build_engine(
    onnx: Path,
    out: Path | None = None,
    options: BuildOptions = BuildOptions(),
    *,
    force: bool = False,
) -> BuiltEngine:
    """Build an engine and its manifest; nothing half-written is ever left.

    Whoever else builds into the same folder is waited for.

    Args:
        onnx: the model; all of it must be in the file.
        out: the engine to write; None: in the cache folder, under a name of its own.
        options: for which GPU, with what.
        force: build although such an engine is there.

    Raises:
        ConfigError: no such TensorRT or GPU here.
        ModelFileError: no model of ours, or TensorRT cannot build it.
        KeyboardInterrupt: interrupted; nothing was written.
    """
    source = read_source(onnx)
    target = _target(options)
    if out is None:
        out = cache_folder() / _cache_name(source, target)
    out.parent.mkdir(parents=True, exist_ok=True)
    with locked_folder(out.parent):
        for left in out.parent.glob(f".{out.name}.*tmp"):  # by a build that was killed
            left.unlink()
        existing = None if force else _up_to_date(out, source, target, options)
        if existing is not None:
            return BuiltEngine(out, existing, is_new=False)
        started = time.perf_counter()
        engine, types, arithmetic = _compile(source, target, options)
        seconds = time.perf_counter() - started
        inspected = {} if target.gpu is None else engine_types(target.backend, engine)
        written = EngineManifest(
            format_version=manifests.FORMAT_VERSION,
            engine_sha256=hashlib.sha256(engine).hexdigest(),
            onnx_file=str(onnx.resolve()),
            onnx_sha256=source.metadata.sha256,
            backend=target.backend.name,
            backend_version=target.backend.version,
            compute_capability=target.compute_capability,
            device_name="" if target.gpu is None else target.gpu.name,
            multiprocessors=0 if target.gpu is None else target.gpu.multiprocessors,
            workspace_mib=options.workspace_mib,
            optimization_level=options.optimization_level,
            properties=source.properties,
            inputs=source.inputs,
            outputs=source.outputs,
            precision=arithmetic,
            layers=inspected or types,
            layers_from="engine" if inspected else "network",
            build_seconds=round(seconds, 2),
            built_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        )
        try:
            with files.atomic_write(out) as temporary:
                temporary.write_bytes(engine)
            # A reader between the two finds a manifest of another engine, and refuses.
            manifests.write(out, written)
        except OSError as error:
            error.filename = error.filename or str(out)  # of a full disk Python says not where
            raise
    return BuiltEngine(out, written, is_new=True)


def _target(options: BuildOptions) -> Target:
    backend = load_backend(options.backend)
    gpu, problem = None, ""
    try:
        gpu = find_gpu(options.device)
    except GpuUnavailableError as error:
        problem = str(error)
    wanted = options.compute_capability or (gpu.compute_capability if gpu else 0)
    if not backend.builds_without_gpu and (gpu is None or wanted != gpu.compute_capability):
        found = problem if gpu is None else f"{gpu.name} has {gpu.compute_capability}"
        raise ConfigError(
            f"{backend.name} builds on the GPU that is to run the engine, here none "
            f"{f'of compute capability {wanted}' if wanted else 'can be used'}: {found}; build "
            "there, or with --backend tensorrt-rtx"
        )
    if not wanted:
        raise ConfigError(
            f"no GPU to build for: {problem}; or name one with --compute-capability, such as 86"
        )
    is_here = gpu is not None and gpu.compute_capability == wanted
    return Target(backend, wanted, gpu if is_here else None)


def _cache_name(source: OnnxSource, target: Target) -> str:
    return (
        f"{source.path.stem}-{source.metadata.sha256[:12]}-{target.backend.name}-"
        f"{target.backend.version}-sm{target.compute_capability}.engine"
    )


@contextmanager
def locked_folder(folder: Path) -> Iterator[None]:
    """Lock a folder against other processes of ours; wait for the lock.

    The lock is on the folder itself: it leaves no file, and ends with the process.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _up_to_date(
    out: Path, source: OnnxSource, target: Target, options: BuildOptions
) -> EngineManifest | None:
    """Return the manifest of the engine at `out` if a build would give the same again."""
    try:
        found, _, _ = manifests.read_trusted(out)
    except ModelFileError:
        return None
    same = (
        found.onnx_sha256 == source.metadata.sha256
        and found.backend == target.backend.name
        and found.backend_version == target.backend.version
        and found.compute_capability == target.compute_capability
        and (target.gpu is None or _built_on(found, target.gpu))
        and found.workspace_mib == options.workspace_mib
        and found.optimization_level == options.optimization_level
    )
    return found if same else None


def _built_on(manifest: EngineManifest, gpu: Gpu) -> bool:
    return (manifest.device_name, manifest.multiprocessors) == (gpu.name, gpu.multiprocessors)


def _compile(
    source: OnnxSource, target: Target, options: BuildOptions
) -> tuple[bytes, dict[str, str], dict[str, int]]:
    """Return the engine, the types of its network's layers, and how many compute in which."""
    trt = target.backend.api
    logger = make_logger(target.backend)
    try:
        builder = trt.Builder(logger)
    except TypeError:  # how the binding tells that TensorRT gave nothing
        reason = "; ".join(map(error_lines, logger.errors)) or "no reason given"
        raise EngineError(f"{target.backend.name} does not start: {reason}") from None
    # A version without the flag has no other networks.
    typed = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    network = builder.create_network(0 if typed is None else 1 << int(typed))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(source.content):
        reasons = [error_lines(parser.get_error(i).desc()) for i in range(parser.num_errors)]
        raise ModelFileError(f"{source.path}: TensorRT's parser refuses it: {'; '.join(reasons)}")
    _check_network(source, network)
    types, arithmetic = network_types(network)
    _check_precision(source, arithmetic)

    config = builder.create_builder_config()
    config.builder_optimization_level = options.optimization_level
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # else layers hide their types
    config.clear_flag(trt.BuilderFlag.TF32)  # float32 in the file is float32 in the engine
    if options.workspace_mib:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_mib << 20)
    if target.backend.builds_without_gpu:
        config.num_compute_capabilities = 1
        config.set_compute_capability(_capability(trt, target.compute_capability), 0)
    with _timing_cache(target, config):
        engine = _run_builder(target, builder, network, config)
    if engine is None:
        reason = "; ".join(map(error_lines, logger.errors)) or "no reason given"
        if target.backend.builds_without_gpu and target.compute_capability == TURING:
            reason += "; for Turing GPUs use --backend tensorrt, on the GPU itself"
        raise ModelFileError(f"{source.path}: TensorRT cannot build it: {reason}")
    return engine, types, arithmetic


def _run_builder(target: Target, builder: Any, network: Any, config: Any) -> bytes | None:
    """Build in a thread, so that an interrupt is heard meanwhile."""
    cancelled = threading.Event()
    monitor = make_monitor(target.backend, cancelled)
    config.progress_monitor = monitor
    built: list[bytes] = []

    def work() -> None:
        if target.gpu is not None:
            Cuda(load_binding()).use(target.gpu.index)  # each thread has its own
        serialized = builder.build_serialized_network(network, config)
        if serialized is not None:
            built.append(bytes(memoryview(serialized)))

    thread = threading.Thread(target=work, name="engine builder", daemon=True)
    thread.start()
    try:
        while thread.is_alive():
            thread.join(POLL_S)
    except KeyboardInterrupt:
        cancelled.set()
        thread.join()
        raise
    finally:
        monitor.close()
    return built[0] if built else None


def _capability(trt: Any, value: int) -> Any:
    members = trt.ComputeCapability.__members__
    known = [name.removeprefix("SM") for name in members if name.startswith("SM")]
    if f"SM{value}" not in members:
        raise ConfigError(f"compute capability {value} is unknown; known: {', '.join(known)}")
    return members[f"SM{value}"]


@contextmanager
def _timing_cache(target: Target, config: Any) -> Iterator[None]:
    """Use the timing cache of earlier builds, and save it after this one.

    TensorRT for RTX measures nothing while building.
    """
    if target.backend.builds_without_gpu:
        yield
        return
    name = f"timing-{target.backend.version}-sm{target.compute_capability}.cache"
    path = cache_folder() / name
    content = b""
    if path.is_file():
        check_private(path)
        content = path.read_bytes()
    cache = config.create_timing_cache(content)
    if not config.set_timing_cache(cache, ignore_mismatch=False):  # another GPU of the kind
        config.set_timing_cache(config.create_timing_cache(b""), ignore_mismatch=False)
    yield
    with files.atomic_write(path) as temporary:
        temporary.write_bytes(memoryview(config.get_timing_cache().serialize()))


def _check_network(source: OnnxSource, network: Any) -> None:
    """Check that TensorRT understood the inputs and outputs as the file states them."""
    for kind, specs, count, get in (
        ("input", source.inputs, network.num_inputs, network.get_input),
        ("output", source.outputs, network.num_outputs, network.get_output),
    ):
        found = {}
        for index in range(count):
            tensor = get(index)
            dtype = DTYPES.get(tensor.dtype.name, tensor.dtype.name.lower())
            found[tensor.name] = TensorSpec(tuple(tensor.shape), dtype)
        if found != dict(specs):
            raise ModelFileError(
                f"{source.path}: TensorRT reads its {kind}s as {found}, the file says {specs}"
            )


def _check_precision(source: OnnxSource, arithmetic: dict[str, int]) -> None:
    """Check that a file of reduced precision makes an engine that computes in it."""
    precision = source.properties.get("precision", "fp32")
    wanted = REDUCED.get(precision)
    if wanted and not arithmetic.get(wanted):
        raise ModelFileError(
            f"{source.path}: says its precision is {precision}, but no layer would compute in "
            f"{wanted}; export it again with python -m training.export"
        )
