"""Mixed precision of an exported graph: find the nodes that may be in fp16 or int8.

What turns predictions into boxes, suppresses, and samples features needs float32: coordinates up
to 640 in float16 are half a pixel apart, areas exceed its range, and indices must be exact.
"""

from __future__ import annotations

from collections import defaultdict

import onnx

MATRIX_PRODUCTS = frozenset(["Gemm", "MatMul"])
CONVOLUTIONS = frozenset(["Conv", "ConvTranspose"])
FOLLOWING = frozenset(["Add", "AveragePool", "Concat", "MaxPool", "Relu", "Resize"])
"""Between convolutions; they take and give features of the same kind."""


def feature_nodes(model: onnx.ModelProto) -> frozenset[str]:
    """Name the nodes that compute features, which tolerate lower precision.

    That is all convolutions and products with constant matrices, and what lies between them; not
    the last ones, whose outputs are scores, offsets and masks.

    Args:
        model: simplified, every node with a name of its own.
    """
    constants = {tensor.name for tensor in model.graph.initializer}
    consumers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
    for node in model.graph.node:
        for name in node.input:
            consumers[name].append(node)

    def computes(node: onnx.NodeProto) -> bool:
        if node.op_type in MATRIX_PRODUCTS:
            return node.input[1] in constants
        return node.op_type in CONVOLUTIONS

    def is_prediction(node: onnx.NodeProto) -> bool:
        after = consumers[node.output[0]]
        if len(after) == 1 and after[0].op_type == "Add" and constants & set(after[0].input):
            after = consumers[after[0].output[0]]  # the bias
        return not any(computes(n) or n.op_type in FOLLOWING for n in after)

    features: set[str] = set()  # tensors
    chosen = set()
    for node in model.graph.node:
        data = [name for name in node.input if name and name not in constants]
        if computes(node):
            is_chosen = not is_prediction(node)
        else:
            is_chosen = node.op_type in FOLLOWING and bool(data) and features.issuperset(data)
        if is_chosen:
            chosen.add(node.name)
            features.update(node.output)
    return frozenset(chosen)
