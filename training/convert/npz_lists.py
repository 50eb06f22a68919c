"""Read lists of numbers from .npz files without unpickling, which could run code.

NumPy stores polygons of different lengths as an array of Python objects, that is as a pickle, and
loading a pickle may run any code. Here its instructions are read one by one and only those that
build lists, tuples, numbers and arrays of numbers are followed; nothing is imported or called.
"""

from __future__ import annotations

import pickletools
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

npy: Any = np.lib.format
LITERALS = {
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT",
    "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE",
}  # fmt: skip
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
IGNORED = {"PROTO", "FRAME"}
MARK = object()


@dataclass
class _Name:
    """A function or class that the pickle names; it is never looked up."""

    name: str


@dataclass
class _Call:
    """What the pickle would call, and the state it would set."""

    function: str
    arguments: Any
    state: Any = None


def read_npz(path: Path | IO[bytes]) -> dict[str, Any]:
    """Read a .npz file's arrays as numbers, strings or nested lists.

    Raises:
        ValueError: not such a file, or it holds something else than numbers and strings.
        OSError: not readable.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return {
                name.removesuffix(".npy"): _read_member(archive.open(name))
                for name in archive.namelist()
            }
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise ValueError(f"is no .npz file, or is damaged ({error})") from None
    except (TypeError, IndexError) as error:
        raise ValueError(f"holds an array that cannot be read ({error})") from None


def _read_member(file: IO[bytes]) -> Any:
    version = npy.read_magic(file)
    header = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}.get(version)
    if header is None:
        raise ValueError(f"is of .npy version {version}, which is not known")
    shape, fortran, dtype = header(file)
    content = file.read()
    if dtype.hasobject:
        return _plain(_follow(content))
    array = np.frombuffer(content, dtype).reshape(shape, order="F" if fortran else "C")
    return array.tolist()


def _follow(content: bytes) -> Any:
    """Follow a pickle's instructions as far as they only build data."""
    stack: list[Any] = []
    memo: dict[Any, Any] = {}

    def since_mark() -> list[Any]:
        start = len(stack) - 1 - next(i for i, v in enumerate(reversed(stack)) if v is MARK)
        items = stack[start + 1 :]
        del stack[start:]
        return items

    def pop(count: int) -> list[Any]:
        items = stack[-count:]
        del stack[-count:]
        return items

    try:
        for instruction, argument, _ in pickletools.genops(content):
            name = instruction.name
            if name in IGNORED:
                continue
            if name in LITERALS:
                stack.append(argument)
            elif name in CONSTANTS:
                stack.append(CONSTANTS[name])
            elif name == "MARK":
                stack.append(MARK)
            elif name == "EMPTY_LIST":
                stack.append([])
            elif name == "EMPTY_TUPLE":
                stack.append(())
            elif name == "LIST":
                stack.append(since_mark())
            elif name == "TUPLE":
                stack.append(tuple(since_mark()))
            elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
                stack.append(tuple(pop(int(name[-1]))))
            elif name == "APPEND":
                item = stack.pop()
                stack[-1].append(item)
            elif name == "APPENDS":
                items = since_mark()
                stack[-1].extend(items)
            elif name == "GLOBAL":
                stack.append(_Name(str(argument).split(" ")[-1]))
            elif name == "STACK_GLOBAL":
                stack.append(_Name(str(pop(2)[1])))
            elif name == "REDUCE":
                function, arguments = pop(2)
                stack.append(_Call(function.name, arguments))
            elif name == "BUILD":
                state = stack.pop()
                stack[-1].state = state
            elif name == "MEMOIZE":
                memo[len(memo)] = stack[-1]
            elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
                memo[argument] = stack[-1]
            elif name in ("GET", "BINGET", "LONG_BINGET"):
                stack.append(memo[argument])
            elif name == "STOP":
                return stack.pop()
            else:
                raise ValueError(f"holds more than numbers (pickle instruction {name})")
    except (IndexError, KeyError, AttributeError, StopIteration, TypeError):
        raise ValueError("holds a damaged array of objects") from None
    raise ValueError("holds a damaged array of objects")


def _plain(value: Any) -> Any:
    """Turn what `_follow` gives into nested lists of numbers and strings."""
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, (int, float, str)) or value is None:
        return value
    if isinstance(value, _Call) and value.function == "scalar":
        dtype, content = value.arguments
        return np.frombuffer(content, _dtype(dtype))[0].item()
    if isinstance(value, _Call) and value.function == "_reconstruct" and value.state:
        _, shape, dtype, fortran, content = value.state
        if isinstance(content, list):
            items = [_plain(item) for item in content]
            return items if shape else items[0]
        array = np.frombuffer(content, _dtype(dtype))
        return array.reshape(shape, order="F" if fortran else "C").tolist()
    raise ValueError("holds an object that is no list of numbers")


def _dtype(call: Any) -> np.dtype:
    if not isinstance(call, _Call) or call.function != "dtype" or not call.state:
        raise ValueError("holds an array of a type that is not known")
    dtype = np.dtype(call.arguments[0]).newbyteorder(call.state[1])
    if dtype.hasobject:
        raise ValueError("holds an array of objects inside another")
    return dtype
