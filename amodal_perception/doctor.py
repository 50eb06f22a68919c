"""What is installed here, whether it fits together, and what mends it: for ``amodal doctor``.

Every library is imported in a process of its own: one that crashes or hangs is a row, not the end.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from amodal_perception.errors import AmodalError
from amodal_perception.runtime import DEFAULT_MODEL, load_runtime
from amodal_perception.runtime.tensorrt import cache, gpu
from amodal_perception.runtime.tensorrt.cuda import driver_version
from amodal_perception.runtime.tensorrt.cuda_errors import version_text
from amodal_perception.runtime.tensorrt.private_files import cache_folder

OK, ABSENT, WARNING, ERROR = "ok", "absent", "warning", "error"
EXIT_CODES = {OK: 0, ABSENT: 0, WARNING: 1, ERROR: 2}
TIMEOUT_S = 60.0
OLDEST_PYTHON, NEWEST_PYTHON = (3, 10), (3, 13)
OLDEST_TENSORRT = 10
OLDEST_CAPABILITY = 75
"""TensorRT 10 and newer, and TensorRT for RTX, know no older GPU (Turing)."""

LIBRARIES = {
    "NumPy": ("numpy", "m.__version__"),
    "OpenCV": ("cv2", "m.__version__"),
    "rclpy": ("rclpy", "__import__('importlib.metadata').metadata.version('rclpy')"),
    "RMW": ("rclpy", "m.get_rmw_implementation_identifier()"),
    "ONNX Runtime": ("onnxruntime", "m.__version__ + ' ' + ' '.join(m.get_available_providers())"),
    "CUDA runtime": ("cuda.bindings.runtime", "m.cudaRuntimeGetVersion()[1]"),
    "TensorRT": ("tensorrt", "m.__version__"),
    "TensorRT for RTX": ("tensorrt_rtx", "m.__version__"),
}
"""By the names in the table: a module, and the expression of its version."""
NEEDED = {
    "NumPy": "python3 -m pip install numpy",
    "OpenCV": "python3 -m pip install opencv-python-headless",
    "ONNX Runtime": "python3 -m pip install onnxruntime",
}
WITHOUT = {
    "rclpy": "the node needs it: source a ROS installation",
    "RMW": "belongs to ROS",
    "CUDA runtime": "only an NVIDIA GPU needs it",
    "TensorRT": "only .engine files need it",
    "TensorRT for RTX": "only .engine files need it",
}
"""What it means that an optional library is not here."""


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        name: what was looked at.
        found: version, or what is wrong.
        level: `OK`, `ABSENT` (optional, and not here), `WARNING` or `ERROR`.
        remedy: what to do about it; empty: nothing.
    """

    name: str
    found: str
    level: str = OK
    remedy: str = ""


@dataclass(frozen=True)
class Imported:
    """A library, imported in a process of its own.

    Attributes:
        is_here: whether there is such a module.
        version: as it says, when it was imported.
        problem: why it was not, one line.
    """

    is_here: bool
    version: str = ""
    problem: str = ""


@dataclass(frozen=True)
class Findings:
    """All that is known of the machine before it is judged.

    Attributes:
        libraries: by the names of `LIBRARIES`.
        driver: the driver's CUDA version, 12060 is 12.6; 0: there is none.
        hardware: NVIDIA hardware that the system lists, in words; empty: none.
        gpus: usable GPUs, each with its compute capability.
        gpu_problem: why none is usable.
        packages: version of every distribution that pip knows, by its name with dashes.
    """

    libraries: dict[str, Imported]
    driver: int
    hardware: str
    gpus: tuple[tuple[str, int], ...]
    gpu_problem: str
    packages: dict[str, str]


def examine(model: Path | None = None, device: str = "") -> list[Row]:
    """Look at this machine, and judge what was found.

    Args:
        model: an ``.onnx`` or ``.engine`` file to check; None: the one that ships.
        device: the GPU, by index or UUID.
    """
    findings = _look(device)
    return [
        *judge(findings),
        _model_row(model or DEFAULT_MODEL, device, findings),
        *([] if model else [_cache_row()]),
    ]


def worst(rows: Sequence[Row]) -> str:
    """Return the worst level."""
    return max((row.level for row in rows), key=lambda level: EXIT_CODES[level], default=OK)


def judge(findings: Findings) -> list[Row]:
    """Judge everything but models."""
    rows = [_python_row(sys.version_info[:2], platform.machine())]
    for name, imported in findings.libraries.items():
        rows.append(_library_row(name, imported, findings))
    rows.insert(-3, _driver_row(findings))
    return [*rows, *_gpu_rows(findings), *_fit_rows(findings)]


def _look(device: str) -> Findings:
    with ThreadPoolExecutor(2) as pool:
        names = list(LIBRARIES)
        libraries = dict(zip(names, pool.map(lambda name: _imported(*LIBRARIES[name]), names)))
    gpus: tuple[tuple[str, int], ...] = ()
    problem = ""
    try:
        gpus = tuple((f"{g.index}: {g}, {g.uuid}", g.compute_capability) for g in gpu.list_gpus())
        gpu.find_gpu(device)
    except AmodalError as error:
        problem = str(error)
    packages = {
        found.metadata["Name"].lower().replace("_", "-"): found.version
        for found in metadata.distributions()
        if found.metadata["Name"]
    }
    return Findings(libraries, driver_version(), _hardware(), gpus, problem, packages)


def _imported(module: str, expression: str) -> Imported:
    code = (
        "import importlib, importlib.util, sys\n"
        f"name = {module!r}\n"
        "try:\n"
        "    here = importlib.util.find_spec(name) is not None\n"
        "except ModuleNotFoundError:\n"
        "    here = False\n"
        "if not here:\n"
        "    sys.exit(44)\n"
        "m = importlib.import_module(name)\n"
        f"print({expression})\n"
    )
    try:
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=TIMEOUT_S
        )
    except subprocess.TimeoutExpired:
        return Imported(True, problem=f"hangs when it is imported ({TIMEOUT_S:.0f} s)")
    if done.returncode == 44:
        return Imported(False)
    if done.returncode < 0:
        return Imported(True, problem=f"crashes when it is imported (signal {-done.returncode})")
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no reason given"]
        return Imported(True, problem=f"does not load: {lines[-1]}")
    return Imported(True, (done.stdout.strip().splitlines() or ["?"])[-1])


def _hardware() -> str:
    """Name NVIDIA hardware that the system lists, driver or not."""
    model = Path("/proc/device-tree/model")
    compatible = Path("/proc/device-tree/compatible")
    if compatible.is_file() and b"nvidia,tegra" in compatible.read_bytes():
        return model.read_text().rstrip("\0") if model.is_file() else "NVIDIA Jetson"
    for vendor in Path("/sys/bus/pci/devices").glob("*/vendor"):
        kind = vendor.with_name("class")
        if vendor.read_text().strip() == "0x10de" and kind.read_text().startswith("0x03"):
            return f"NVIDIA GPU at PCI {vendor.parent.name}"
    return ""


def _python_row(version: tuple[int, ...], machine: str) -> Row:
    found = f"{platform.python_version()} on {machine}"
    if OLDEST_PYTHON <= version[:2] <= NEWEST_PYTHON:
        return Row("Python", found)
    return Row("Python", found, ERROR, "use CPython 3.10 to 3.13")


def _library_row(name: str, imported: Imported, findings: Findings) -> Row:
    if not imported.is_here:
        if name in NEEDED:
            return Row(name, "not installed", ERROR, NEEDED[name])
        expected = name == "CUDA runtime" and bool(findings.hardware)
        return Row(name, "not installed", WARNING if expected else ABSENT, WITHOUT[name])
    if imported.problem:
        return Row(name, imported.problem, ERROR, _reinstall(name))
    version = imported.version
    if name == "ONNX Runtime":
        number, *providers = version.split()
        short = ", ".join(word.removesuffix("ExecutionProvider") for word in providers)
        row = Row(name, f"{number} with {short}")
        both = [p for p in ("onnxruntime", "onnxruntime-gpu") if p in findings.packages]
        if len(both) == 2:
            remedy = "pip uninstall both, and install onnxruntime-gpu alone: they share files"
            return Row(name, f"{row.found}, installed twice", WARNING, remedy)
        return row
    if name == "CUDA runtime":
        return Row(name, f"{version_text(int(version))} (Python bindings)")
    if name == "TensorRT" and int(version.partition(".")[0]) < OLDEST_TENSORRT:
        return Row(name, version, ERROR, "TensorRT 10 or newer is needed (JetPack 6 or newer)")
    return Row(name, version)


def _reinstall(name: str) -> str:
    if name in ("rclpy", "RMW"):
        return (
            "use the Python that this ROS was made for (Humble 3.10, Jazzy 3.12), and source "
            "its setup.bash"
        )
    return NEEDED.get(name, "install it anew: docs/tensorrt.md has the packages that fit")


def _driver_row(findings: Findings) -> Row:
    if findings.driver:
        return Row("CUDA driver", f"serves CUDA {version_text(findings.driver)}")
    if findings.hardware:
        remedy = "sudo ubuntu-drivers install, then restart (Jetson: install JetPack)"
        return Row("CUDA driver", f"none, for {findings.hardware}", ERROR, remedy)
    return Row("CUDA driver", "none", ABSENT, "no NVIDIA hardware is seen here either")


def _gpu_rows(findings: Findings) -> list[Row]:
    rows = [
        Row("GPU", words, ERROR, "its compute capability is below 75: run the .onnx file")
        if capability < OLDEST_CAPABILITY
        else Row("GPU", words)
        for words, capability in findings.gpus
    ]
    if findings.gpu_problem:
        wrong, _, remedy = findings.gpu_problem.partition("): ")
        wrong = f"{wrong})" if remedy else wrong
        if findings.hardware or findings.driver:
            level = ERROR
        else:
            level = WARNING if _has_tensorrt(findings) else ABSENT
        rows.append(Row("GPU", wrong, level, remedy))
    return rows


def _has_tensorrt(findings: Findings) -> bool:
    return any(findings.libraries[name].is_here for name in ("TensorRT", "TensorRT for RTX"))


def _fit_rows(findings: Findings) -> list[Row]:
    """Judge whether the parts are of one CUDA."""
    majors: dict[str, int] = {}
    bindings = findings.libraries["CUDA runtime"]
    if bindings.version:
        majors["CUDA bindings"] = int(bindings.version) // 1000
    for package in sorted(findings.packages):
        for major in (12, 13):
            if package in (f"tensorrt-cu{major}", f"tensorrt-rtx-cu{major}"):
                majors[package] = major
    found = ", ".join(f"{name} for CUDA {major}" for name, major in majors.items())
    if len(majors) < 2 and not (majors and findings.driver):
        return []
    driver = findings.driver // 1000
    too_new = [name for name, major in majors.items() if driver and major > driver]
    if too_new:
        remedy = (
            f"pip install 'cuda-bindings=={driver}.*' and the packages that end in -cu{driver}, "
            "or update the driver"
        )
        wrong = f"{found}; the driver serves CUDA {version_text(findings.driver)}"
        return [Row("CUDA versions", wrong, ERROR, remedy)]
    if len(set(majors.values())) > 1:
        major = min(major for name, major in majors.items() if name != "CUDA bindings")
        remedy = f"pip install 'cuda-bindings=={major}.*'"
        return [Row("CUDA versions", f"{found}: two CUDAs in one process", WARNING, remedy)]
    return [Row("CUDA versions", found)]


def _model_row(model: Path, device: str, findings: Findings) -> Row:
    if model.suffix == ".engine":
        entry = cache.check_engine(model, device)
        problem = entry.problem or (findings.gpu_problem and "no GPU to run it")
        if problem:
            named = problem if str(model) in problem else f"{model}: {problem}"
            return Row("model", named, ERROR)
        return Row("model", entry.warning or f"{model} fits", WARNING if entry.warning else OK)
    return _tried("model", lambda: f"{load_runtime(model).metadata.model_id}, {model.name}, loads")


def _cache_row() -> Row:
    def describe() -> str:
        folder = cache_folder()
        entries = cache.list_engines(folder)
        usable = sum(not entry.problem for entry in entries)
        return f"{len(entries)} in {folder}, {usable} of them for this machine"

    return _tried("engines", describe)


def _tried(name: str, describe: Callable[[], str]) -> Row:
    try:
        return Row(name, describe())
    except AmodalError as error:
        return Row(name, str(error), ERROR)
    except (ImportError, OSError) as error:
        return Row(name, f"cannot be checked: {error}", ERROR)


def as_table(rows: Sequence[Row]) -> str:
    """Write rows as text: what was found, and below it what to do."""
    width = max(len(row.name) for row in rows)
    lines = []
    for row in rows:
        lines.append(f"{row.level:8}{row.name:{width}}  {row.found}")
        if row.remedy:
            lines.append(f"{'':8}{'':{width}}  -> {row.remedy}")
    return "\n".join(lines)


def as_json(rows: Sequence[Row]) -> str:
    """Write rows as JSON, with what of the environment decides how they came about."""
    names = [
        *("CUDA_VISIBLE_DEVICES", "LD_LIBRARY_PATH", "PYTHONPATH"),
        *("RMW_IMPLEMENTATION", "ROS_DISTRO", "ROS_DOMAIN_ID"),
    ]
    content = {
        "level": worst(rows),
        "rows": [vars(row) for row in rows],
        "system": platform.platform(),
        "environment": {name: os.environ[name] for name in names if name in os.environ},
    }
    return json.dumps(content, indent=1)
