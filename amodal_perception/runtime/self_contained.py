"""Refuse ONNX files with external data, before a runtime follows the references.

ONNX Runtime reads external data wherever it lies, absolute paths included, even of a model that is
given as bytes (1.23.2, tried). So this looks first, in the protocol buffer itself: the package
`onnx`, which could, is not needed to run a model.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from amodal_perception.errors import ModelFileError

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
CHILDREN = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {
        5: "tensor",
        6: "graph",
        10: "tensor",
        11: "graph",
        22: "sparse",
        23: "sparse",
    },
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
"""Messages of onnx.proto in which tensors can be, by the field that holds them."""
EXTERNAL_DATA, DATA_LOCATION = 13, 14
"""Fields of a tensor."""


def check_self_contained(path: Path, content: bytes) -> None:
    """Check that all of a model is in its file.

    Args:
        path: the file, for messages.
        content: all of it.

    Raises:
        ModelFileError: damaged, or a tensor's values are in another file.
    """
    try:
        is_external = _has_external(memoryview(content), "model")
    except (ValueError, IndexError, RecursionError):
        raise ModelFileError(f"{path}: is no usable ONNX model, or is truncated") from None
    if is_external:
        raise ModelFileError(
            f"{path}: is no usable ONNX model, because its weights are in other files; "
            "save it in one (onnx.save_model with save_as_external_data=False)"
        )


def _has_external(message: memoryview, kind: str) -> bool:
    children = CHILDREN[kind]
    for field, value in _fields(message):
        if kind == "tensor" and field in (EXTERNAL_DATA, DATA_LOCATION):
            if value != 0:  # a location of 0 is this file
                return True
        elif (
            field in children
            and isinstance(value, memoryview)
            and _has_external(value, children[field])
        ):
            return True
    return False


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Walk over a message's fields: number, and value; numbers of fixed size are left out."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        field, wire = key >> 3, key & 7
        if wire == VARINT:
            value, at = _varint(message, at)
            yield field, value
        elif wire == BYTES:
            size, at = _varint(message, at)
            if at + size > len(message):
                raise ValueError("a field is longer than its message")
            yield field, message[at : at + size]
            at += size
        elif wire in (FIXED32, FIXED64):
            at += 4 if wire == FIXED32 else 8
        else:
            raise ValueError(f"unknown wire type {wire}")


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("a number of more than ten bytes")
