"""Count the FLOPs of an ONNX graph; needs the package `onnx`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx


def count_flops(model: onnx.ModelProto) -> int:
    """Return the floating-point operations of one pass, 2 for each multiply-add.

    Convolutions and matrix products count, also those that pool RoIs; the rest is memory traffic.

    Args:
        model: with static shapes.
    """
    from onnx import shape_inference

    graph = shape_inference.infer_shapes(model, data_prop=True).graph
    shape_of = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for value in [*graph.input, *graph.output, *graph.value_info]:
        shape_of[value.name] = tuple(d.dim_value for d in value.type.tensor_type.shape.dim)
    flops = 0
    for node in graph.node:
        if node.op_type == "Conv":
            weight = shape_of[node.input[1]]  # [out, in, h, w]
            flops += 2 * math.prod(shape_of[node.output[0]]) * math.prod(weight[1:])
        elif node.op_type == "ConvTranspose":
            weight = shape_of[node.input[1]]  # [in, out, h, w]
            flops += 2 * math.prod(shape_of[node.input[0]]) * math.prod(weight[1:])
        elif node.op_type == "MatMul":
            flops += 2 * math.prod(shape_of[node.output[0]]) * shape_of[node.input[0]][-1]
        elif node.op_type == "Gemm":
            # Whatever is transposed, the two sizes of A together are rows times terms of a sum.
            columns = shape_of[node.output[0]][-1]
            flops += 2 * math.prod(shape_of[node.input[0]]) * columns
    return flops
