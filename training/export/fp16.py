"""Convert an exported graph to mixed fp16: features in float16, boxes and NMS in float32."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from training.export.feature_nodes import feature_nodes
from training.export.simplify import check, simplify

SUFFIX = {TensorProto.FLOAT16: "fp16", TensorProto.FLOAT: "fp32"}


def to_fp16(model: onnx.ModelProto) -> onnx.ModelProto:
    """Convert the feature nodes of a network to float16; inputs and outputs stay as they are.

    Written here because the converters of ONNX Runtime and onnxconverter-common pass every value
    between two float32 nodes through float16 as well, which moves boxes by a quarter of a pixel.

    Args:
        model: in float32.
    """
    model = simplify(model)
    chosen = feature_nodes(model)
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    fp16_of: dict[str, str] = {}  # float16 versions, by the names of float32 tensors
    fp32_of: dict[str, str] = {}  # float32 versions, by the names of float16 tensors
    nodes = []

    def cast(name: str, to: TensorProto.DataType, known: dict[str, str]) -> str:
        if name not in known:
            known[name] = f"{name}_{SUFFIX[to]}"
            nodes.append(helper.make_node("Cast", [name], [known[name]], known[name], to=to))
        return known[name]

    def fp16_constant(name: str) -> str:
        values = numpy_helper.to_array(constants[name])
        if name not in fp16_of:
            fp16_of[name] = f"{name}_fp16"
            converted = values.astype(np.float16)
            assert np.isfinite(converted).all(), f"{name} is out of the range of float16"
            graph.initializer.append(numpy_helper.from_array(converted, fp16_of[name]))
        return fp16_of[name]

    in_fp16: set[str] = set()
    for node in graph.node:
        is_chosen = node.name in chosen
        for index, name in enumerate(node.input):
            if not name:
                continue
            if name in constants:
                if is_chosen and not (node.op_type == "Resize" and index > 0):  # its scales
                    node.input[index] = fp16_constant(name)
            elif is_chosen and name not in in_fp16:
                node.input[index] = cast(name, TensorProto.FLOAT16, fp16_of)
            elif not is_chosen and name in in_fp16:
                node.input[index] = cast(name, TensorProto.FLOAT, fp32_of)
        if is_chosen:
            in_fp16.update(node.output)
        nodes.append(node)
    assert not in_fp16 & {output.name for output in graph.output}
    used = {name for node in nodes for name in node.input}
    initializers = [tensor for tensor in graph.initializer if tensor.name in used]
    for field, content in ((graph.node, nodes), (graph.initializer, initializers)):
        content = [type(item).FromString(item.SerializeToString()) for item in content]
        del field[:]
        field.extend(content)
    del graph.value_info[:]  # types of before
    check(model)
    return model
