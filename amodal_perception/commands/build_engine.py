"""``amodal build-engine``: options, and what is printed."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from amodal_perception.errors import ConfigError
from amodal_perception.runtime.tensorrt import cache
from amodal_perception.runtime.tensorrt.build import BuildOptions, BuiltEngine, build_engine
from amodal_perception.runtime.tensorrt.library import BACKENDS
from amodal_perception.runtime.tensorrt.private_files import cache_folder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the options of ``amodal build-engine``."""
    defaults = BuildOptions()
    parser.add_argument("model", type=Path, nargs="?", help=".onnx file to build from")
    parser.add_argument(
        "--out", type=Path, help="engine to write, ending in .engine (default: in the cache)"
    )
    parser.add_argument(
        "--backend", choices=list(BACKENDS), default="", help="default: the first installed"
    )
    parser.add_argument(
        "--compute-capability",
        type=int,
        default=0,
        metavar="SM",
        help="of the GPU, such as 86 or 89 (default: that of the GPU here); another one than "
        "here needs tensorrt-rtx",
    )
    parser.add_argument(
        "--device", default="", help="GPU here, by index or UUID (default: the first)"
    )
    parser.add_argument(
        "--workspace",
        type=int,
        default=defaults.workspace_mib,
        metavar="MIB",
        help="limit of the scratch memory while building, MiB (0: all the GPU has)",
    )
    parser.add_argument(
        "--optimization-level",
        type=int,
        default=defaults.optimization_level,
        metavar="LEVEL",
        help="0: fast to build, to 5: fast to run (default %(default)s)",
    )
    parser.add_argument("--force", action="store_true", help="build though the engine is there")
    others = parser.add_mutually_exclusive_group()
    others.add_argument(
        "--check", type=Path, metavar="ENGINE", help="check whether an engine can be used here"
    )
    others.add_argument("--list", action="store_true", help="list the engines in the cache")
    others.add_argument(
        "--prune", action="store_true", help="remove from the cache what cannot be used here"
    )


def run(arguments: argparse.Namespace) -> int:
    """Run the command; return its exit code."""
    if arguments.check:
        return _check(arguments.check, arguments.device)
    if arguments.list:
        return _list()
    if arguments.prune:
        return _prune()
    if arguments.model is None:
        raise ConfigError("build-engine: name an .onnx file, or --check, --list or --prune")
    if arguments.out is not None and arguments.out.suffix != ".engine":
        raise ConfigError(f"--out {arguments.out}: must end in .engine")
    built = build_engine(
        arguments.model,
        arguments.out,
        BuildOptions(
            backend=arguments.backend,
            compute_capability=arguments.compute_capability,
            device=arguments.device,
            workspace_mib=arguments.workspace,
            optimization_level=arguments.optimization_level,
        ),
        force=arguments.force,
    )
    _print_built(built)
    return 0


def _print_built(built: BuiltEngine) -> None:
    manifest = built.manifest
    did = f"built in {manifest.build_seconds:.1f} s" if built.is_new else "is there already"
    counts = ", ".join(f"{n} {dtype}" for dtype, n in sorted(manifest.precision.items()))
    print(f"{built.path}: {did}, {built.path.stat().st_size / 1e6:.1f} MB")
    print(
        f"{manifest.backend} {manifest.backend_version} for compute capability "
        f"{manifest.compute_capability}; arithmetic layers: {counts}"
    )


def _check(path: Path, device: str) -> int:
    entry = cache.check_engine(path, device)
    if entry.manifest is not None:
        for key in ("onnx_file", "onnx_sha256", "backend", "backend_version", "built_at"):
            print(f"{key:20} {getattr(entry.manifest, key)}")
        print(f"{'compute_capability':20} {entry.manifest.compute_capability}")
    if entry.problem:
        print(f"amodal: {entry.problem}", file=sys.stderr)
        return 1
    print(entry.warning or f"{path}: can be used")
    return 0


def _list() -> int:
    folder = cache_folder()
    entries = cache.list_engines(folder)
    for entry in entries:
        size_mb = entry.path.stat().st_size / 1e6
        state = entry.problem or entry.warning or "can be used"
        print(f"{entry.path.name}  {size_mb:.1f} MB  {state}")
    print(f"{len(entries)} engines in {folder}")
    return 0


def _prune() -> int:
    folder = cache_folder()
    gone = cache.prune(folder)
    for path in gone:
        print(f"removed {path.name}")
    print(f"{len(gone)} files removed from {folder}")
    return 0
