"""Find the GPU that a user names, or say exactly why there is none."""

from __future__ import annotations

from amodal_perception.errors import AmodalError, ConfigError, EngineError, GpuUnavailableError
from amodal_perception.runtime.tensorrt.cuda import Cuda, Gpu, load_binding
from amodal_perception.runtime.tensorrt.cuda_errors import CudaVersions, unavailable


def find_gpu(device: str = "", cuda: Cuda | None = None) -> Gpu:
    """Return the GPU that `device` names.

    Args:
        device: index, or UUID or its beginning as nvidia-smi -L lists it; empty: the first.
        cuda: None: the one that is installed.

    Raises:
        ConfigError: there are GPUs, but not this one; the message lists them.
        GpuUnavailableError: no GPU can be used, and why.
    """
    gpus = list_gpus(cuda)
    if not device:
        return gpus[0]
    if device.isascii() and device.isdigit():
        matches = [gpu for gpu in gpus if gpu.index == int(device)]
    else:
        matches = [gpu for gpu in gpus if gpu.uuid.lower().startswith(device.lower())]
    if len(matches) == 1:
        return matches[0]
    here = "; ".join(f"{gpu.index} = {gpu.uuid}, {gpu.name}" for gpu in gpus)
    raise ConfigError(
        f"device {device!r} is {'more than one' if matches else 'no'} GPU here: {here}"
    )


def list_gpus(cuda: Cuda | None = None) -> list[Gpu]:
    """Describe all GPUs, one at least.

    Raises:
        GpuUnavailableError: no GPU can be used, and why.
    """
    versions = CudaVersions(0, 0)
    cuda = cuda or Cuda(load_binding())
    try:
        versions = cuda.versions()
        gpus = [cuda.gpu(index) for index in range(cuda.device_count())]
    except EngineError as error:
        if not error.cuda_name:
            raise GpuUnavailableError(f"{error} ({versions})") from None
        raise unavailable(error.cuda_name, versions) from None
    if not gpus:
        raise unavailable("cudaErrorNoDevice", versions)
    return gpus


def problem(device: str = "") -> str:
    """Say why no GPU can be used; empty: one can."""
    try:
        find_gpu(device)
    except AmodalError as error:
        return str(error)
    return ""
