"""Tiny ONNX models that keep the network's contract, for tests that need no trained one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

INPUT_HW = (288, 384)
SLOTS = 32
CELLS = 28


def write_model(
    path: Path,
    *,
    boxes_xyxy: np.ndarray | None = None,
    scores: np.ndarray | None = None,
    busy_loops: int = 0,
    input_hw: tuple[int, int] = INPUT_HW,
) -> Path:
    """Write a model that sees the same objects in every image.

    By default two discs: the first, in the middle, covers the left part of the second. Of the
    second only the right half is called visible.

    Args:
        path: the file to write.
        boxes_xyxy: [n, 4] boxes in input pixels, n at most `SLOTS`.
        scores: [n], descending.
        busy_loops: matrix products to do per image, about 10 ms each: a slow model.
        input_hw: the network's input size, pixels.
    """
    height, width = input_hw
    if boxes_xyxy is None:
        middle = np.array([width, height, width, height]) / 2
        boxes_xyxy = middle + [[-60, -60, 60, 60], [0, -50, 100, 50]]
    if scores is None:
        scores = np.linspace(0.95, 0.9, len(boxes_xyxy))
    n = len(boxes_xyxy)
    cells = (np.arange(CELLS) + 0.5) / CELLS * 2 - 1
    disc = (cells[:, None] ** 2 + cells[None, :] ** 2 < 0.95).astype(np.float32)
    amodal = np.zeros((SLOTS, CELLS, CELLS), np.float32)
    amodal[:n] = disc
    visible = amodal.copy()
    visible[1:n, :, : CELLS // 2] = 0
    constants = {
        "boxes": np.pad(boxes_xyxy.astype(np.float32), ((0, SLOTS - n), (0, 0))),
        "scores": np.pad(np.asarray(scores, np.float32), (0, SLOTS - n)),
        "labels": np.zeros(SLOTS, np.int64),
        "amodal": amodal,
        "visible": visible,
    }
    # The boxes depend on the image (plus nothing), so that the graph reads its input.
    constants["fixed_boxes"] = constants.pop("boxes")
    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMax", ["pixels"], ["brightest"], keepdims=0),
        helper.make_node("Mul", ["brightest", "zero"], ["nothing"]),
        *_busy_nodes(busy_loops),
        helper.make_node(
            "Add", ["busy_boxes" if busy_loops else "fixed_boxes", "nothing"], ["boxes"]
        ),
        *(
            helper.make_node("Identity", [f"fixed_{name}"], [name])
            for name in ("scores", "labels", "amodal", "visible")
        ),
    ]
    initializers = [
        numpy_helper.from_array(array, name if name.startswith("fixed") else f"fixed_{name}")
        for name, array in constants.items()
    ]
    initializers.append(numpy_helper.from_array(np.zeros((), np.float32), "zero"))
    if busy_loops:
        initializers.append(numpy_helper.from_array(np.eye(1024, dtype=np.float32), "matrix"))
    graph = helper.make_graph(
        nodes,
        "contract_model",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, [1, height, width, 3])],
        [
            helper.make_tensor_value_info("boxes", TensorProto.FLOAT, [SLOTS, 4]),
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, [SLOTS]),
            helper.make_tensor_value_info("labels", TensorProto.INT64, [SLOTS]),
            helper.make_tensor_value_info("amodal", TensorProto.FLOAT, [SLOTS, CELLS, CELLS]),
            helper.make_tensor_value_info("visible", TensorProto.FLOAT, [SLOTS, CELLS, CELLS]),
        ],
        initializers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    properties = {
        "format_version": "1",
        "model_id": "two_discs",
        "class_names": json.dumps(["object"]),
        "input_hw": json.dumps(list(input_hw)),
        "training_data": "none",
        "git_commit": "",
        "metrics": "{}",
    }
    helper.set_model_props(model, properties)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
    return path


def _busy_nodes(loops: int) -> list:
    """Chain matrix products that start from, and change nothing of, ``nothing``."""
    if not loops:
        return []
    nodes = [helper.make_node("Add", ["matrix", "nothing"], ["product_0"])]
    nodes += [
        helper.make_node("MatMul", [f"product_{i}", "matrix"], [f"product_{i + 1}"])
        for i in range(loops)
    ]
    nodes += [
        helper.make_node("ReduceMax", [f"product_{loops}"], ["largest"], keepdims=0),
        helper.make_node("Mul", ["largest", "zero"], ["more_nothing"]),
        helper.make_node("Add", ["fixed_boxes", "more_nothing"], ["busy_boxes"]),
    ]
    return nodes
