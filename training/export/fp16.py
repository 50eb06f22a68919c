"""Let the features of an exported graph be computed in float16."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from training.export.feature_nodes import feature_nodes
from training.export.simplify import check, simplify

SUFFIX = {TensorProto.FLOAT16: "half", TensorProto.FLOAT: "float"}


def to_fp16(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the network with its feature nodes in float16; inputs and outputs stay as they are.

    Written here because the converters of ONNX Runtime and onnxconverter-common pass every value
    between two float32 nodes through float16 as well, which moves boxes by a quarter of a pixel.

    Args:
        model: in float32.
    """
    model = simplify(model)
    chosen = feature_nodes(model)
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    halves: dict[str, str] = {}  # float16 versions, by the names of float32 tensors
    floats: dict[str, str] = {}  # float32 versions, by the names of float16 tensors
    nodes = []

    def cast(name: str, to: TensorProto.DataType, known: dict[str, str]) -> str:
        if name not in known:
            known[name] = f"{name}_{SUFFIX[to]}"
            nodes.append(helper.make_node("Cast", [name], [known[name]], known[name], to=to))
        return known[name]

    def half_constant(name: str) -> str:
        values = numpy_helper.to_array(constants[name])
        if name not in halves:
            halves[name] = f"{name}_half"
            half = values.astype(np.float16)
            assert np.isfinite(half).all(), f"{name} is out of the range of float16"
            graph.initializer.append(numpy_helper.from_array(half, halves[name]))
        return halves[name]

    in_half: set[str] = set()
    for node in graph.node:
        is_chosen = node.name in chosen
        for index, name in enumerate(node.input):
            if not name:
                continue
            if name in constants:
                if is_chosen and not (node.op_type == "Resize" and index > 0):  # its scales
                    node.input[index] = half_constant(name)
            elif is_chosen and name not in in_half:
                node.input[index] = cast(name, TensorProto.FLOAT16, halves)
            elif not is_chosen and name in in_half:
                node.input[index] = cast(name, TensorProto.FLOAT, floats)
        if is_chosen:
            in_half.update(node.output)
        nodes.append(node)
    assert not in_half & {output.name for output in graph.output}
    used = {name for node in nodes for name in node.input}
    initializers = [tensor for tensor in graph.initializer if tensor.name in used]
    for field, content in ((graph.node, nodes), (graph.initializer, initializers)):
        content = [type(item).FromString(item.SerializeToString()) for item in content]
        del field[:]
        field.extend(content)
    del graph.value_info[:]  # types of before
    check(model)
    return model
