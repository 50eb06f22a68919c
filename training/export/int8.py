"""Post-training quantization to int8: Q/DQ nodes with calibrated ranges around the features."""

from __future__ import annotations

import itertools
import logging
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)

from amodal_perception.structures import UInt8Array
from training.export.feature_nodes import feature_nodes
from training.export.simplify import check, simplify

ENGINES = ("cpu", "tensorrt")
"""Inference engines that an int8 file can be made for; see `to_int8`."""


class _Images(CalibrationDataReader):
    """Feed images to ONNX Runtime's calibration."""

    def __init__(self, images: Iterable[UInt8Array]) -> None:
        self._images = iter(images)

    def get_next(self) -> dict[str, np.ndarray] | None:
        image = next(self._images, None)
        return None if image is None else {"image": image}


def to_int8(
    model: onnx.ModelProto, images: Iterable[UInt8Array], *, engine: str
) -> onnx.ModelProto:
    """Quantize the feature nodes of a network to int8; inputs and outputs stay as they are.

    Weights are quantised for every channel, features for a tensor, in the range that they take on
    the images.

    Args:
        model: in float32.
        images: [1, H, W, 3] uint8 RGB of the network's input size, like those it will see.
        engine: ``cpu``: ranges need not be symmetric, which ONNX Runtime computes fastest, and
            transposed convolutions stay in float32, for which it has no int8 kernel; or
            ``tensorrt``, which takes symmetric ranges and biases in float32 only.
    """
    model = simplify(model)
    on_cpu = engine == "cpu"
    if on_cpu:
        _widen_normalisation(model)
    nodes = {node.name: node for node in model.graph.node}
    chosen = sorted(
        name
        for name in feature_nodes(model)
        if not (on_cpu and nodes[name].op_type == "ConvTranspose")
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "int8.onnx")
        level = logging.root.level
        logging.root.setLevel(logging.ERROR)  # it advises to simplify what is simplified
        try:
            quantize_static(
                model,
                path,
                _Images(images),
                quant_format=QuantFormat.QDQ,
                nodes_to_quantize=chosen,
                per_channel=True,
                activation_type=QuantType.QUInt8 if on_cpu else QuantType.QInt8,
                weight_type=QuantType.QInt8,
                calibrate_method=CalibrationMethod.MinMax,
                extra_options={"ActivationSymmetric": not on_cpu, "QuantizeBias": on_cpu},
            )
        finally:
            logging.root.setLevel(level)
        quantized = onnx.load(path)
    check(quantized)
    return quantized


def _widen_normalisation(model: onnx.ModelProto) -> None:
    """Repeat the constants of normalisation, [3, 1, 1], along a row of the image.

    ONNX Runtime computes int8 convolutions with channels last, and normalises in that order, too:
    with three numbers in the innermost place that takes ten times as long as with a row of them.
    """
    width = model.graph.input[0].type.tensor_type.shape.dim[2].dim_value
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    ahead = itertools.takewhile(lambda node: node.op_type != "Conv", model.graph.node)
    for name in {name for node in ahead if node.op_type in ("Sub", "Div") for name in node.input}:
        if name in constants:
            values = numpy_helper.to_array(constants[name])
            row = np.ascontiguousarray(np.broadcast_to(values, (*values.shape[:-1], width)))
            constants[name].CopyFrom(numpy_helper.from_array(row, name))
