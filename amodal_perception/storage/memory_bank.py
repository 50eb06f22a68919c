"""PGExp's memory bank as a folder: ``bank.safetensors`` and ``bank.json``.

Every slot is an object of the training data, or a moved copy of one: its visible mask is the key,
its visible box, amodal box and amodal mask are the value. Masks lie inside the slot's frame, the
object's amodal box, as 28 x 28 cells, eight to a byte, row by row.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amodal_perception import files
from amodal_perception.errors import DatasetError

CELLS = 28
MASK_BYTES = CELLS * CELLS // 8
TABLE = "bank.json"
TENSORS = "bank.safetensors"
FORMAT_VERSION = 1


@dataclass(frozen=True, eq=False)
class MemoryBank:
    """A memory bank of C classes with S slots each; a class without objects has empty ones.

    Attributes:
        class_names: C names.
        objects: [C] int64, how many objects of the training data a class has.
        codes: [C, S, D] float16, of the keys.
        visible: [C, S, 98] uint8, the keys, packed.
        amodal: [C, S, 98] uint8, packed; the key is a part of it.
        visible_xyxy: [C, S, 4] float32, pixels of the object's picture.
        amodal_xyxy: [C, S, 4] float32.
        ids: [C, S] int64, of the annotation; -1 in an empty slot.
        moved: [C, S] bool, a copy that was moved to fill the bank.
        shown: [C, M] int64, slots that the page shows; -1 for none.
        shown_near: [C, M, n] int64, their nearest slots.
        shown_flow: [C, M, n, 2, 14, 14] float16, from the slot's visible mask to the near slots'
            amodal masks, offsets in x and y; 2 is the whole side.
        made_from: what the bank was made from, for people.
    """

    class_names: tuple[str, ...]
    objects: NDArray[np.int64]
    codes: NDArray[np.float16]
    visible: NDArray[np.uint8]
    amodal: NDArray[np.uint8]
    visible_xyxy: NDArray[np.float32]
    amodal_xyxy: NDArray[np.float32]
    ids: NDArray[np.int64]
    moved: NDArray[np.bool_]
    shown: NDArray[np.int64]
    shown_near: NDArray[np.int64]
    shown_flow: NDArray[np.float16]
    made_from: dict[str, Any]

    @property
    def slots(self) -> int:
        """Return the number of slots of a class."""
        return self.codes.shape[1]


ARRAYS = {
    "objects": ("int64", ("C",)),
    "codes": ("float16", ("C", "S", "D")),
    "visible": ("uint8", ("C", "S", MASK_BYTES)),
    "amodal": ("uint8", ("C", "S", MASK_BYTES)),
    "visible_xyxy": ("float32", ("C", "S", 4)),
    "amodal_xyxy": ("float32", ("C", "S", 4)),
    "ids": ("int64", ("C", "S")),
    "moved": ("bool", ("C", "S")),
    "shown": ("int64", ("C", "M")),
    "shown_near": ("int64", ("C", "M", "n")),
    "shown_flow": ("float16", ("C", "M", "n", 2, 14, 14)),
}
"""Type and shape of every array of the file; equal letters are equal lengths."""


def pack_masks(masks: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Pack [..., 28, 28] masks to [..., 98] bytes."""
    return np.packbits(masks.reshape(*masks.shape[:-2], CELLS * CELLS), axis=-1)


def unpack_masks(packed: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Unpack [..., 98] bytes to [..., 28, 28] masks; inverse of `pack_masks`."""
    bits = np.unpackbits(packed, axis=-1, count=CELLS * CELLS)
    return bits.reshape(*packed.shape[:-1], CELLS, CELLS).astype(np.bool_)


def write_bank(folder: Path, bank: MemoryBank) -> None:
    """Write the folder; ``bank.json`` comes last and marks it as whole."""
    save_file = _safetensors().save_file
    (folder / TABLE).unlink(missing_ok=True)
    with files.atomic_write(folder / TENSORS) as temporary:
        save_file({name: np.ascontiguousarray(getattr(bank, name)) for name in ARRAYS}, temporary)
    table = {
        "format_version": FORMAT_VERSION,
        "class_names": list(bank.class_names),
        "made_from": bank.made_from,
    }
    files.write_json(folder / TABLE, table, indent=2)


def read_bank(folder: Path) -> MemoryBank:
    """Read and check a bank's folder.

    Raises:
        DatasetError: no bank, damaged, or arrays that do not fit together.
    """
    try:
        table = json.loads((folder / TABLE).read_text())
        class_names, made_from = tuple(table["class_names"]), dict(table["made_from"])
        version = table["format_version"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DatasetError(f"{folder / TABLE}: is no bank's table ({error!r})") from None
    if version != FORMAT_VERSION:
        raise DatasetError(f"{folder / TABLE}: is of format {version}; make the bank again")
    safetensors = _safetensors()
    try:
        arrays = safetensors.load_file(folder / TENSORS)
    except Exception as error:  # the library's own, and the operating system's
        raise DatasetError(
            f"{folder / TENSORS}: cannot be read ({error}); make it again"
        ) from None
    _check(arrays, len(class_names), folder / TENSORS)
    return MemoryBank(class_names=class_names, made_from=made_from, **arrays)


def _check(arrays: dict[str, NDArray], classes: int, path: Path) -> None:
    lengths: dict[str, int] = {"C": classes}
    if set(arrays) != set(ARRAYS):
        raise DatasetError(f"{path}: holds {sorted(arrays)}, expected {sorted(ARRAYS)}")
    for name, (dtype, shape) in ARRAYS.items():
        array = arrays[name]
        expected = tuple(
            n if isinstance(n, int) else lengths.setdefault(n, length)
            for n, length in zip(shape, array.shape)
        )
        if str(array.dtype) != dtype or array.shape != expected or array.ndim != len(shape):
            raise DatasetError(
                f"{path}: {name} is {array.dtype} {list(array.shape)}, "
                f"expected {dtype} {list(shape)} with {lengths}"
            )


def _safetensors() -> Any:
    try:
        import safetensors.numpy
    except ImportError:
        raise DatasetError(
            "a bank is a safetensors file; install requirements/training.txt, or safetensors"
        ) from None
    return safetensors.numpy
