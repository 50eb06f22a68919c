"""CUDA calls and their errors, and the GPU's compute capability, through cuda-python."""

from __future__ import annotations

from typing import Any

from amodal_perception.errors import ConfigError, EngineError, GpuLostError, GpuMemoryError

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


def cuda_runtime() -> Any:
    """Import the CUDA runtime's binding.

    Raises:
        ConfigError: not installed.
    """
    try:
        from cuda.bindings import (  # type: ignore[import-not-found,import-untyped,unused-ignore]
            runtime,
        )
    except ImportError as error:
        raise ConfigError(
            f"engines run through cuda-python, which does not load ({error}); "
            "pip install cuda-python"
        ) from None
    return runtime


def check_cuda(result: tuple[Any, ...], what: str) -> Any:
    """Return what a CUDA call gave, or raise its error.

    Args:
        result: of a function of `cuda_runtime`: the error code, then values.
        what: the work in words, for the message.

    Raises:
        GpuMemoryError: the GPU's memory ran out.
        GpuLostError: no call of this process will go well any more.
        EngineError: anything else.
    """
    error, *values = result
    if int(error) == 0:
        return values[0] if len(values) == 1 else tuple(values)
    name = error.name
    if name in OUT_OF_MEMORY:
        raise GpuMemoryError(f"{what}: the GPU is out of memory ({name})")
    if name in STICKY:
        raise GpuLostError(f"{what}: the GPU is lost to this process ({name}); start it again")
    raise EngineError(f"{what}: CUDA says {name}")


def compute_capability() -> int | None:
    """Return the first GPU's compute capability, such as 86, or None where there is no GPU."""
    try:
        cuda = cuda_runtime()
        if check_cuda(cuda.cudaGetDeviceCount(), "counting GPUs") == 0:
            return None
        attributes = cuda.cudaDeviceAttr
        major, minor = (
            check_cuda(cuda.cudaDeviceGetAttribute(attribute, 0), "asking the GPU")
            for attribute in (
                attributes.cudaDevAttrComputeCapabilityMajor,
                attributes.cudaDevAttrComputeCapabilityMinor,
            )
        )
    except (ConfigError, EngineError):
        return None
    return int(10 * major + minor)
