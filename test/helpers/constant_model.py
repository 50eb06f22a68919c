"""An ONNX model of constants, each part of which can be replaced to break the contract.

It always sees two boxes; the first lies partly over the second.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

INPUT_HW = (48, 64)
N, M = 4, 7
BOXES_XYXY = np.array([[8, 8, 32, 32], [20, 12, 52, 40], [0, 0, 0, 0], [0, 0, 0, 0]], np.float32)
SCORES = np.array([0.9, 0.8, 0, 0], np.float32)
METADATA = {
    "format_version": "1",
    "model_id": "two_boxes",
    "class_names": json.dumps(["object"]),
    "input_hw": json.dumps(list(INPUT_HW)),
    "training_data": "nothing",
    "git_commit": "0000000",
    "metrics": json.dumps({"coco.amodal_mask.AP": 0.5}),
}


def outputs() -> dict[str, np.ndarray]:
    """Return what the model gives for every image, by output name."""
    return {
        "boxes": BOXES_XYXY,
        "scores": SCORES,
        "labels": np.zeros(N, np.int64),
        "amodal": np.full((N, M, M), 0.9, np.float32),
        "visible": np.full((N, M, M), 0.9, np.float32),
    }


def build(
    path: Path,
    *,
    values: dict[str, np.ndarray] | None = None,
    metadata: dict[str, str] | None = None,
    input_type: int = TensorProto.UINT8,
    input_shape: tuple[Any, ...] = (1, *INPUT_HW, 3),
    input_name: str = "image",
) -> Path:
    """Write the model; the arguments replace single parts, to break the contract on purpose."""
    values = outputs() if values is None else values
    nodes = [
        helper.make_node("Constant", [], [name], value=numpy_helper.from_array(value))
        for name, value in values.items()
    ]
    graph = helper.make_graph(
        nodes,
        "contract",
        [helper.make_tensor_value_info(input_name, input_type, input_shape)],
        [
            helper.make_tensor_value_info(
                name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape
            )
            for name, value in values.items()
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    for key, value in (METADATA if metadata is None else metadata).items():
        model.metadata_props.add(key=key, value=value)
    onnx.save(model, path)
    return path
