"""The ONNX file that an engine is built from, checked before TensorRT reads it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from amodal_perception.errors import ConfigError, ModelFileError, one_line
from amodal_perception.runtime.contract import ModelMetadata, TensorSpec, check_contract
from amodal_perception.runtime.providers import ORT_DTYPES
from amodal_perception.runtime.self_contained import check_self_contained


@dataclass(frozen=True, eq=False)
class OnnxSource:
    """A model that keeps the network's contract.

    Attributes:
        path: of the file.
        content: the file; hashed, checked and compiled from one reading.
        metadata: of the model.
        properties: the same as text by key, as it stands in the file.
        inputs: what the graph takes.
        outputs: what the graph gives.
    """

    path: Path
    content: bytes
    metadata: ModelMetadata
    properties: Mapping[str, str]
    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]


def read_source(path: Path) -> OnnxSource:
    """Read and check a model.

    It must be all in one file: engines follow references to others wherever they lead.

    Raises:
        ConfigError: ONNX Runtime is not installed.
        ModelFileError: missing, damaged, foreign, not in one file, or against the contract.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise ConfigError(
            f"models are checked by ONNX Runtime ({error}); pip install it"
        ) from None

    if not path.is_file():
        raise ModelFileError(f"{path}: no such model file")
    content = path.read_bytes()
    check_self_contained(path, content)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(
            content, options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # of a dozen types with no common base
        raise ModelFileError(
            f"{path}: is no usable ONNX model, or is truncated, or is newer than ONNX Runtime "
            f"{onnxruntime.__version__} ({one_line(error)})"
        ) from None
    inputs, outputs = (
        {t.name: TensorSpec(tuple(t.shape), ORT_DTYPES.get(t.type, t.type)) for t in tensors}
        for tensors in (session.get_inputs(), session.get_outputs())
    )
    properties = dict(session.get_modelmeta().custom_metadata_map)
    digest = hashlib.sha256(content).hexdigest()
    metadata = check_contract(
        path, sha256=digest, properties=properties, inputs=inputs, outputs=outputs
    )
    return OnnxSource(path, content, metadata, properties, inputs, outputs)
