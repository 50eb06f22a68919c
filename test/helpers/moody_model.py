"""A model that the brightest pixel of its image can make slow, or fail."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from helpers.contract_model import write_model

CALM = 90  # two discs, at once
SLOW = 120  # the same, after some tenths of a second
ENDLESS = 130  # an answer in a minute or so
HUNGRY = 150  # asks for more memory than there is
BROKEN = 200  # fails


def write_moody_model(path: Path) -> Path:
    """Write it; the image's brightest pixel, 0 to 255, indexes three tables in the graph."""
    model = onnx.load(write_model(path))
    loops, floats = np.ones(BROKEN, np.int64), np.ones(BROKEN, np.int64)
    loops[SLOW], loops[ENDLESS], floats[HUNGRY] = 12, 4000, 2**48
    step = helper.make_graph(
        [
            helper.make_node("MatMul", ["product", "square"], ["next_product"]),
            helper.make_node("Identity", ["go_on"], ["go_on_still"]),
        ],
        "step",
        [
            helper.make_tensor_value_info("number", TensorProto.INT64, []),
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("product", TensorProto.FLOAT, [1024, 1024]),
        ],
        [
            helper.make_tensor_value_info("go_on_still", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next_product", TensorProto.FLOAT, [1024, 1024]),
        ],
    )
    nodes = [
        helper.make_node("Cast", ["brightest"], ["mood"], to=TensorProto.INT64),
        helper.make_node("Gather", ["loops", "mood"], ["count"]),  # fails from BROKEN on
        helper.make_node("Loop", ["count", "", "square"], ["product_at_last"], body=step),
        helper.make_node("Gather", ["floats", "mood"], ["size"]),
        helper.make_node("Unsqueeze", ["size", "first_axis"], ["shape"]),
        helper.make_node("ConstantOfShape", ["shape"], ["memory"]),
        helper.make_node("ReduceMax", ["product_at_last"], ["largest"], keepdims=0),
        helper.make_node("ReduceMax", ["memory"], ["most"], keepdims=0),
        helper.make_node("Add", ["largest", "most"], ["work"]),
        helper.make_node("Mul", ["work", "zero"], ["no_work"]),
        helper.make_node("Add", ["fixed_boxes", "no_work"], ["boxes"]),
    ]
    kept = [node for node in model.graph.node if "boxes" not in node.output]
    del model.graph.node[:]
    model.graph.node.extend(kept + nodes)
    model.graph.initializer.extend(
        [
            numpy_helper.from_array(loops, "loops"),
            numpy_helper.from_array(floats, "floats"),
            numpy_helper.from_array(np.zeros(1, np.int64), "first_axis"),
            numpy_helper.from_array(np.eye(1024, dtype=np.float32), "square"),
        ]
    )
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
    return path
