"""Precision of an engine's layers, read from the network, or from the engine on a GPU."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from amodal_perception.runtime.tensorrt.library import DTYPES, Backend

ARITHMETIC = ("CONVOLUTION", "DECONVOLUTION", "MATRIX_MULTIPLY")
"""Layers in which the work is; the others move and compare numbers."""
INSPECTED_DTYPES = {
    "FP32": "float32",
    "FP16": "float16",
    "BF16": "bfloat16",
    "INT8": "int8",
    "UINT8": "uint8",
    "INT32": "int32",
    "INT64": "int64",
    "BOOL": "bool",
}
"""NumPy's names of the types in an inspector's words, such as ``Row major linear FP16``."""


def network_types(network: Any) -> tuple[dict[str, str], dict[str, int]]:
    """Tell the element type of every layer that a strongly typed network prescribes.

    Args:
        network: TensorRT's, as parsed.

    Returns:
        Types by the layers' names, and the number of arithmetic layers by type. An arithmetic
        layer of two dequantised operands computes in int8: TensorRT fuses them.
    """
    types: dict[str, str] = {}
    arithmetic: Counter[str] = Counter()
    dequantised: set[str] = set()
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        output = layer.get_output(0)
        kind = layer.type.name
        dtype = DTYPES.get(output.dtype.name, output.dtype.name.lower())
        if kind == "DEQUANTIZE":
            dequantised.add(output.name)
        elif kind in ARITHMETIC:
            operands = {layer.get_input(i).name for i in range(min(layer.num_inputs, 2))}
            if len(operands) == 2 and operands <= dequantised:
                dtype = "int8"
            arithmetic[dtype] += 1
        types[layer.name] = dtype
    return types, dict(arithmetic)


def engine_types(backend: Backend, engine: bytes) -> dict[str, str]:
    """Tell the element type of every layer of an engine, as built.

    Args:
        backend: what built it.
        engine: built for the GPU that is here.

    Returns:
        Types by the layers' names; empty where the engine cannot be opened or tells nothing.
    """
    trt = backend.api
    opened = trt.Runtime(trt.Logger(trt.Logger.INTERNAL_ERROR)).deserialize_cuda_engine(engine)
    if opened is None:
        return {}
    inspector = opened.create_engine_inspector()
    return inspected_types(inspector.get_engine_information(trt.LayerInformationFormat.JSON))


def inspected_types(information: str) -> dict[str, str]:
    """Read an engine inspector's JSON: type of the first output by the layer's name."""
    types = {}
    for layer in json.loads(information).get("Layers", []):
        if isinstance(layer, dict) and layer.get("Outputs"):
            words = str(layer["Outputs"][0].get("Format/Datatype", "")).split()
            for word in words:
                if word in INSPECTED_DTYPES:
                    types[layer["Name"]] = INSPECTED_DTYPES[word]
    return types
