"""ONNX Runtime on the CPU."""

from __future__ import annotations

import hashlib
from pathlib import Path

import onnxruntime

from amodal_perception.errors import ModelFileError
from amodal_perception.runtime.contract import (
    ModelMetadata,
    RawDetections,
    TensorSpec,
    check_contract,
)
from amodal_perception.runtime.external_data import check_self_contained
from amodal_perception.structures import UInt8Array

ORT_DTYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
    "tensor(uint8)": "uint8",
}


class OnnxRuntime:
    """A model in ONNX Runtime; runs on the CPU, holds no state between frames."""

    def __init__(self, path: Path, num_threads: int = 0) -> None:
        """Load and check a model.

        Args:
            path: the ``.onnx`` file; all of the model must be in it.
            num_threads: threads inside one operator; 0 lets ONNX Runtime choose.

        Raises:
            ModelFileError: damaged, foreign, or against the contract.
        """
        content = path.read_bytes()  # hashed and loaded from one reading
        check_self_contained(path, content)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = num_threads
        options.log_severity_level = 4  # failures are raised; they need no second line
        try:
            self._session = onnxruntime.InferenceSession(
                content, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # ONNX Runtime raises a dozen types with no common base
            raise ModelFileError(
                f"{path}: is no usable ONNX model, or is truncated ({_first_line(error)})"
            ) from None
        self.metadata: ModelMetadata = check_contract(
            path,
            sha256=hashlib.sha256(content).hexdigest(),
            properties=self._session.get_modelmeta().custom_metadata_map,
            inputs=_specs(self._session.get_inputs()),
            outputs=_specs(self._session.get_outputs()),
        )
        self._outputs = [output.name for output in self._session.get_outputs()]

    def __call__(self, image: UInt8Array) -> RawDetections:
        """Run the network on [1, H, W, 3] uint8 RGB."""
        values = dict(zip(self._outputs, self._session.run(self._outputs, {"image": image})))
        return RawDetections(
            boxes_xyxy=values["boxes"],
            scores=values["scores"],
            labels=values["labels"],
            amodal=values["amodal"],
            visible=values["visible"],
            occluder=values.get("occluder"),
        )


def _specs(tensors: list[onnxruntime.NodeArg]) -> dict[str, TensorSpec]:
    return {
        tensor.name: TensorSpec(tuple(tensor.shape), ORT_DTYPES.get(tensor.type, tensor.type))
        for tensor in tensors
    }


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:200]
