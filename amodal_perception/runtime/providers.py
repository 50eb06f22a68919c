"""ONNX Runtime's execution providers, what can run an ``.onnx`` file in it, and its words."""

from __future__ import annotations

from pathlib import Path

PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
}
"""ONNX Runtime's names by ours."""
ORT_DTYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
    "tensor(uint8)": "uint8",
}
"""NumPy's names of its element types."""
ON_NVIDIA = ("cuda", "tensorrt")
"""Those that run on an NVIDIA GPU."""


def provider_options(
    provider: str, device_index: int = 0, engine_folder: Path | None = None
) -> dict[str, str]:
    """Return the options with which ONNX Runtime starts a provider.

    Args:
        provider: of `PROVIDERS`.
        device_index: CUDA's, of the GPU.
        engine_folder: where the TensorRT provider keeps engines and timings; None: nowhere.
    """
    if provider not in ON_NVIDIA:
        return {}
    options = {"device_id": str(device_index)}
    if provider == "cuda":
        options["use_tf32"] = "0"  # float32 in the file is float32 on the GPU
    elif engine_folder is not None:
        options |= {
            "trt_engine_cache_enable": "1",
            "trt_engine_cache_path": str(engine_folder),
            "trt_timing_cache_enable": "1",
            "trt_timing_cache_path": str(engine_folder),
        }
    return options
