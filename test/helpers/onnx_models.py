"""Tiny ONNX models for tests that need no trained one: good, slow, broken, or as the image says.

They keep the network's contract: boxes, scores, labels, amodal and visible masks of a fixed
number of instances, and the metadata.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

INPUT_HW = (288, 384)
SLOTS = 32
CELLS = 28
METADATA = {
    "format_version": "1",
    "model_id": "two_discs",
    "class_names": json.dumps(["object"]),
    "input_hw": json.dumps(list(INPUT_HW)),
    "training_data": "none",
    "git_commit": "",
    "metrics": "{}",
}

# What the brightest pixel of an image makes of `write_moody_model`'s answer.
CALM = 90  # two discs, at once
SLOW = 120  # the same, after some tenths of a second
ENDLESS = 130  # an answer in a minute or so
HUNGRY = 150  # asks for more memory than there is
BROKEN = 200  # fails


def two_discs(
    boxes_xyxy: np.ndarray | None = None,
    scores: np.ndarray | None = None,
    input_hw: tuple[int, int] = INPUT_HW,
) -> dict[str, np.ndarray]:
    """Return the outputs of a model that sees discs, by name.

    By default two: the first, in the middle, covers the left part of the second. Of all but the
    first only the right half is called visible.

    Args:
        boxes_xyxy: [n, 4] boxes in input pixels, n at most `SLOTS`.
        scores: [n], descending.
        input_hw: the network's input size, pixels.
    """
    height, width = input_hw
    if boxes_xyxy is None:
        middle = np.array([width, height, width, height]) / 2
        boxes_xyxy = middle + [[-60, -60, 60, 60], [0, -50, 100, 50]]
    n = len(boxes_xyxy)
    if scores is None:
        scores = np.linspace(0.95, 0.9, n)
    cells = (np.arange(CELLS) + 0.5) / CELLS * 2 - 1
    amodal = np.zeros((SLOTS, CELLS, CELLS), np.float32)
    amodal[:n] = cells[:, None] ** 2 + cells[None, :] ** 2 < 0.95
    visible = amodal.copy()
    visible[1:n, :, : CELLS // 2] = 0
    return {
        "boxes": np.pad(boxes_xyxy.astype(np.float32), ((0, SLOTS - n), (0, 0))),
        "scores": np.pad(np.asarray(scores, np.float32), (0, SLOTS - n)),
        "labels": np.zeros(SLOTS, np.int64),
        "amodal": amodal,
        "visible": visible,
    }


def write_model(
    path: Path,
    *,
    boxes_xyxy: np.ndarray | None = None,
    scores: np.ndarray | None = None,
    busy_loops: int = 0,
    input_hw: tuple[int, int] = INPUT_HW,
) -> Path:
    """Write a model that sees the same discs in every image: see `two_discs`.

    Args:
        path: the file to write.
        boxes_xyxy: as of `two_discs`.
        scores: as of `two_discs`.
        busy_loops: matrix products to do per image, about 10 ms each: a slow model.
        input_hw: the network's input size, pixels.
    """
    outputs = two_discs(boxes_xyxy, scores, input_hw)
    # The boxes depend on the image (plus nothing), so that the graph reads its input.
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
            for name in outputs
            if name != "boxes"
        ),
    ]
    initializers = {f"fixed_{name}": array for name, array in outputs.items()}
    initializers["zero"] = np.zeros((), np.float32)
    if busy_loops:
        initializers["matrix"] = np.eye(1024, dtype=np.float32)
    model = _model(nodes, outputs, METADATA | {"input_hw": json.dumps(list(input_hw))}, input_hw)
    return _save(path, model, initializers)


def write_constant_model(
    path: Path,
    *,
    values: dict[str, np.ndarray] | None = None,
    metadata: dict[str, str] = METADATA,
    **image: Any,
) -> Path:
    """Write a model of constants; what is given replaces parts, to break the contract on purpose.

    Args:
        path: the file to write.
        values: the outputs by name, by default `two_discs`.
        metadata: of the model.
        image: the input's name, type and shape.
    """
    values = two_discs() if values is None else values
    nodes = [
        helper.make_node("Constant", [], [name], value=numpy_helper.from_array(value))
        for name, value in values.items()
    ]
    onnx.save(_model(nodes, values, metadata, **image), path)
    return path


def write_moody_model(path: Path) -> Path:
    """Write a model that the image's brightest pixel, 0 to 255, can make slow, or fail.

    The pixel indexes two tables in the graph: how often to multiply, and how much memory to take.
    """
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
    tables = {"loops": loops, "floats": floats, "first_axis": np.zeros(1, np.int64)}
    return _save(path, model, tables | {"square": np.eye(1024, dtype=np.float32)})


def _model(
    nodes: list,
    outputs: dict[str, np.ndarray],
    metadata: dict[str, str],
    input_hw: tuple[int, int] = INPUT_HW,
    *,
    input_name: str = "image",
    input_type: int = TensorProto.UINT8,
    input_shape: tuple[Any, ...] | None = None,
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "contract",
        [helper.make_tensor_value_info(input_name, input_type, input_shape or (1, *input_hw, 3))],
        [
            helper.make_tensor_value_info(
                name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape
            )
            for name, value in outputs.items()
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    helper.set_model_props(model, metadata)
    return model


def _save(path: Path, model: onnx.ModelProto, initializers: dict[str, np.ndarray]) -> Path:
    model.graph.initializer.extend(
        numpy_helper.from_array(array, name) for name, array in initializers.items()
    )
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
