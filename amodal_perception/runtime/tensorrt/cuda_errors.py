"""CUDA's errors in words: which are out of memory, which are final, and what mends them."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from amodal_perception.errors import (
    EngineError,
    GpuLostError,
    GpuMemoryError,
    GpuUnavailableError,
)

OUT_OF_MEMORY = frozenset(["cudaErrorMemoryAllocation"])
STICKY = frozenset(
    [
        "cudaErrorAssert",
        "cudaErrorCudartUnloading",
        "cudaErrorDevicesUnavailable",
        "cudaErrorECCUncorrectable",
        "cudaErrorExternalDevice",
        "cudaErrorHardwareStackError",
        "cudaErrorIllegalAddress",
        "cudaErrorIllegalInstruction",
        "cudaErrorInvalidAddressSpace",
        "cudaErrorInvalidPc",
        "cudaErrorLaunchFailure",
        "cudaErrorLaunchTimeout",
        "cudaErrorMisalignedAddress",
        "cudaErrorMpsConnectionFailed",
        "cudaErrorNvlinkUncorrectable",
        "cudaErrorUnknown",
    ]
)
"""After these, every further call of the process fails: only a new process helps."""
DRIVER_TOO_OLD = ("cudaErrorInsufficientDriver", "cudaErrorCallRequiresNewerDriver")

CONTAINER = "in a container, start it with --gpus all (Jetson: --runtime nvidia)"
RESTART_DRIVER = "sudo modprobe -r nvidia_uvm; sudo modprobe nvidia_uvm, or restart the machine"
FAULTS = {
    "cudaErrorNoDevice": (
        "the driver finds no GPU",
        f"nvidia-smi lists what it finds; {CONTAINER}",
    ),
    "cudaErrorMemoryAllocation": (
        "the GPU's memory is full",
        "nvidia-smi (Jetson: tegrastats) shows which processes hold it; end one",
    ),
    "cudaErrorDevicesUnavailable": (
        "the GPU is in use, by a process that has it for itself, or forbidden to all",
        "nvidia-smi -q -d COMPUTE shows its mode; sudo nvidia-smi -c DEFAULT lets several in",
    ),
    "cudaErrorSystemDriverMismatch": (
        "the driver's kernel module and its libraries are of different versions",
        "restart the machine, as after every driver update",
    ),
    "cudaErrorSystemNotReady": (
        "the driver's services are not running",
        "sudo systemctl start nvidia-fabricmanager",
    ),
    "cudaErrorStubLibrary": (
        "the CUDA toolkit's stub of libcuda was loaded, not the driver's",
        "take the folder .../stubs out of LD_LIBRARY_PATH",
    ),
    "cudaErrorInitializationError": ("the driver does not start", RESTART_DRIVER),
    "cudaErrorUnknown": ("the driver does not start, as after a suspend", RESTART_DRIVER),
    "cudaErrorOperatingSystem": (
        "the driver's files in /dev cannot be opened",
        "ls -l /dev/nvidia* shows who may; sudo usermod -aG video,render $USER, then log in anew",
    ),
    "cudaErrorCompatNotSupportedOnDevice": (
        "the forward-compatible libcuda (package cuda-compat) does not serve this GPU",
        "take its folder out of LD_LIBRARY_PATH and update the driver",
    ),
    "cudaErrorMpsConnectionFailed": (
        "the MPS server does not answer",
        "nvidia-cuda-mps-control -d starts it; unset CUDA_MPS_PIPE_DIRECTORY does without",
    ),
    "cudaErrorMpsServerNotReady": (
        "the MPS server is not ready",
        "try again; unset CUDA_MPS_PIPE_DIRECTORY does without it",
    ),
    "cudaErrorECCUncorrectable": (
        "the GPU's memory has faults",
        "nvidia-smi -q -d ECC shows them; sudo nvidia-smi --gpu-reset, or restart the machine",
    ),
    "cudaErrorDeviceNotLicensed": (
        "the virtual GPU has no licence",
        "nvidia-smi -q shows its licence; ask who runs the host",
    ),
    "cudaErrorSoftwareValidityNotEstablished": (
        "the driver could not check its own files",
        "reinstall the driver",
    ),
}
"""By CUDA's names: what is wrong where no GPU can be used, and what mends it."""


@dataclass(frozen=True)
class CudaVersions:
    """Versions of CUDA here, as CUDA numbers them: 12060 is 12.6.

    Attributes:
        driver: newest that the driver serves; 0: there is no driver.
        runtime: of the Python bindings; 0: unknown.
    """

    driver: int
    runtime: int

    def __str__(self) -> str:
        driver = f"driver for CUDA {version_text(self.driver)}" if self.driver else "no driver"
        if not self.runtime:
            return driver
        return f"{driver}, bindings for CUDA {version_text(self.runtime)}"


def version_text(version: int) -> str:
    """Write a version as people do: 12060 is 12.6."""
    return f"{version // 1000}.{version % 1000 // 10}"


def failure(name: str, what: str) -> EngineError:
    """Return the error for a CUDA call that failed while an engine was loaded or run.

    Args:
        name: CUDA's of the error.
        what: the work in words.
    """
    if name in OUT_OF_MEMORY:
        error: EngineError = GpuMemoryError(f"{what}: the GPU is out of memory ({name})")
    elif name in STICKY:
        error = GpuLostError(f"{what}: the GPU is lost to this process ({name}); start it again")
    else:
        error = EngineError(f"{what}: CUDA says {name}")
    error.cuda_name = name
    return error


def unavailable(name: str, versions: CudaVersions) -> GpuUnavailableError:
    """Return the error for a GPU that cannot be used at all.

    Args:
        name: CUDA's of the error.
        versions: found here.
    """
    if name in DRIVER_TOO_OLD:
        wrong, remedy = _old_driver(versions) if versions.driver else _no_driver()
    else:
        wrong, remedy = FAULTS.get(name, ("CUDA refuses", "nvidia-smi says how the driver is"))
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if name == "cudaErrorNoDevice" and visible is not None:
        wrong += f" among those that CUDA_VISIBLE_DEVICES={visible!r} lets it see"
        remedy = "unset CUDA_VISIBLE_DEVICES"
    error = GpuUnavailableError(f"{wrong} ({name}; {versions}): {remedy}")
    error.cuda_name = name
    return error


def _no_driver() -> tuple[str, str]:
    return (
        "no NVIDIA driver is here",
        f"sudo ubuntu-drivers install, then restart (Jetson: install JetPack); {CONTAINER}",
    )


def _old_driver(versions: CudaVersions) -> tuple[str, str]:
    major = versions.driver // 1000
    return (
        "the driver is too old for the CUDA runtime",
        f"pip install 'cuda-bindings=={major}.*' and TensorRT's packages for CUDA {major}, or "
        "update the driver",
    )


def logged_error(text: str) -> int:
    """Return CUDA's number of the error that TensorRT's log tells of; 0: of none."""
    found = re.search(r"cudaError (\d+)", text)
    if found:
        return int(found[1])
    return 2 if re.search(r"out ?of ?memory", text, re.IGNORECASE) else 0
