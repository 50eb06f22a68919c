"""Simplify an ONNX graph for engines: fold constants and normalisation, drop what does nothing."""

from __future__ import annotations

import onnx
import onnxslim


def simplify(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the same function with fewer nodes, each with a name of its own.

    Batch normalisation becomes part of its convolution, so training cannot go on from the result.
    Metadata stays.
    """
    slim = onnxslim.slim(model)
    for index, node in enumerate(slim.graph.node):
        node.name = f"{node.op_type}_{index}"
    check(slim)
    return slim


def check(model: onnx.ModelProto) -> None:
    """Check a graph by ONNX's own rules, inferring all shapes."""
    onnx.checker.check_model(model, full_check=True)
