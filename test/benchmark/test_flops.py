"""Arithmetic of small graphs, counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="needs onnx to make the graphs")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from amodal_perception.benchmark.flops import count_flops  # noqa: E402


@pytest.mark.parametrize(
    ("operation", "options", "image", "weight", "flops"),
    [
        # 4 x 6 x 6 results, each a sum of 3 x 3 x 3 products.
        ("Conv", {"pads": [1, 1, 1, 1]}, (1, 3, 6, 6), (4, 3, 3, 3), 2 * 4 * 36 * 27),
        ("Conv", {"group": 3}, (1, 3, 6, 6), (3, 1, 3, 3), 2 * 3 * 16 * 9),
        # Each of 3 x 36 values goes into 4 x 2 x 2 others.
        ("ConvTranspose", {"strides": [2, 2]}, (1, 3, 6, 6), (3, 4, 2, 2), 2 * 108 * 16),
        ("MatMul", {}, (5, 7), (7, 2), 2 * 5 * 7 * 2),
        ("Gemm", {}, (5, 7), (7, 2), 2 * 5 * 7 * 2),
        ("Gemm", {"transA": 1, "transB": 1}, (7, 5), (2, 7), 2 * 5 * 7 * 2),
        ("Add", {}, (5, 7), (5, 7), 0),
    ],
)
def test_flops_of_one_operation(operation, options, image, weight, flops):
    graph = helper.make_graph(
        [helper.make_node(operation, ["image", "weight"], ["found"], **options)],
        "one",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, image)],
        [helper.make_empty_tensor_value_info("found")],
        [numpy_helper.from_array(np.zeros(weight, np.float32), "weight")],
    )
    opset = [helper.make_opsetid("", 17)]
    assert count_flops(helper.make_model(graph, opset_imports=opset)) == flops
