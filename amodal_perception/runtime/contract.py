"""The model file's contract: names, shapes and dtypes of inputs and outputs, and metadata.

Input ``image``: uint8 [1, H, W, 3] RGB. Outputs, N fixed, best score first, padded with score 0:
``boxes`` [N, 4], ``scores`` [N], ``labels`` [N], ``amodal`` and ``visible`` [N, m, m]; where the
system predicts them, ``occluder`` (what hides the object; BCNet) and ``occluded`` (its own mask of
the hidden part, where that is not amodal less visible; ORCNN), [N, m, m]. All shapes are static.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from amodal_perception.errors import ModelFileError
from amodal_perception.structures import FloatArray, UInt8Array

FORMAT_VERSION = "1"
"""Raised when the meaning of an input, output or metadata key changes."""

REQUIRED_OUTPUTS = ("boxes", "scores", "labels", "amodal", "visible")
OPTIONAL_MASKS = ("occluder", "occluded")


@dataclass(frozen=True)
class ModelMetadata:
    """The metadata of a model file.

    Attributes:
        name: the system and size, such as ``orcnn_light``.
        sha256: of the file, hexadecimal.
        class_names: what the labels index.
        input_hw: the network's input size, pixels.
        max_instances: N, the fixed number of rows in every output.
        mask_size: m, the side of a mask's grid.
        training_data: in words, which data the model learned from.
        git_commit: of the code that exported it.
        metrics: figures measured when it was exported, by their full names; ``predictions`` says
            of what, see `amodal_perception.storage.predictions_file`.
        precision: ``fp32``, ``fp16`` or ``int8``; of the features, where the work is.
        one_mask: the network predicts one mask only, which ``amodal`` and ``visible`` both are.
        optional_masks: those of `OPTIONAL_MASKS` that it has.
    """

    name: str
    sha256: str
    class_names: tuple[str, ...]
    input_hw: tuple[int, int]
    max_instances: int
    mask_size: int
    training_data: str = ""
    git_commit: str = ""
    metrics: Mapping[str, float | str] | None = None
    precision: str = "fp32"
    one_mask: bool = False
    optional_masks: tuple[str, ...] = ()

    @property
    def model_id(self) -> str:
        """Name and content, short: ``name@sha256[:12]``."""
        return f"{self.name}@{self.sha256[:12]}"


@dataclass(frozen=True, eq=False)
class RawDetections:
    """The network's outputs for one image, still in input pixels and with padding rows.

    Attributes:
        boxes_xyxy: [N, 4] float32, amodal boxes, input pixels.
        scores: [N] float32, descending; 0 marks padding.
        labels: [N] int32 or int64.
        amodal: [N, m, m] float32, probability inside the box.
        visible: [N, m, m] float32, probability inside the box.
        occluder: [N, m, m] float32 or None.
        occluded: [N, m, m] float32 or None.
    """

    boxes_xyxy: FloatArray
    scores: FloatArray
    labels: NDArray[np.integer]
    amodal: FloatArray
    visible: FloatArray
    occluder: FloatArray | None = None
    occluded: FloatArray | None = None

    @classmethod
    def of_outputs(cls, values: Mapping[str, NDArray[Any]]) -> RawDetections:
        """Take the network's outputs by their names in the file."""
        return cls(
            boxes_xyxy=values["boxes"],
            scores=values["scores"],
            labels=values["labels"],
            amodal=values["amodal"],
            visible=values["visible"],
            occluder=values.get("occluder"),
            occluded=values.get("occluded"),
        )


class Runtime(Protocol):
    """A loaded model that can run."""

    @property
    def metadata(self) -> ModelMetadata:
        """The metadata of the model file."""
        ...

    @property
    def hardware(self) -> str:
        """What it runs on, in words."""
        ...

    def __call__(self, image: UInt8Array) -> RawDetections:
        """Run the network on [1, H, W, 3] uint8 RGB; H, W are `metadata.input_hw`."""
        ...


@dataclass(frozen=True)
class TensorSpec:
    """Shape and element type of one input or output, as an engine reports them."""

    shape: tuple[object, ...]
    dtype: str


def check_contract(
    path: Path,
    *,
    sha256: str,
    properties: Mapping[str, str],
    inputs: Mapping[str, TensorSpec],
    outputs: Mapping[str, TensorSpec],
) -> ModelMetadata:
    """Return the model's metadata if the file keeps the contract.

    Args:
        path: the model file, for messages.
        sha256: of the file.
        properties: the file's metadata, text by key.
        inputs: what the graph takes.
        outputs: what the graph gives.

    Raises:
        ModelFileError: names the offending key, input or output and what was expected.
    """
    version = properties.get("format_version")
    if version != FORMAT_VERSION:
        found = "has no format_version" if version is None else f"has format_version {version!r}"
        raise ModelFileError(
            f"{path}: {found}, expected {FORMAT_VERSION!r}; is this a model exported by "
            "python -m training.export?"
        )
    class_names = tuple(_metadata(path, properties, "class_names", list, str))
    input_hw = _metadata(path, properties, "input_hw", list, int)
    metrics = _metadata(path, properties, "metrics", dict, (int, float, str))
    one_mask = properties.get("one_mask", "false")
    if one_mask not in ("true", "false"):
        raise ModelFileError(
            f"{path}: metadata 'one_mask' is {one_mask!r}, expected true or false"
        )
    if not class_names:
        raise ModelFileError(f"{path}: metadata 'class_names' is empty")
    if len(input_hw) != 2:
        raise ModelFileError(f"{path}: metadata 'input_hw' is {input_hw}, expected [H, W]")
    height, width = input_hw

    if list(inputs) != ["image"]:
        raise ModelFileError(f"{path}: inputs are {list(inputs)}, expected one, 'image'")
    _expect(path, "input", "image", inputs["image"], (1, height, width, 3), ("uint8",))
    for name in REQUIRED_OUTPUTS:
        if name not in outputs:
            raise ModelFileError(f"{path}: has no output '{name}'; it has {list(outputs)}")
    n = _static_length(path, "scores", outputs["scores"], axis=0, rank=1)
    m = _static_length(path, "amodal", outputs["amodal"], axis=1, rank=3)
    floats, integers = ("float32",), ("int32", "int64")
    for name, shape, dtypes in (
        ("scores", (n,), floats),
        ("boxes", (n, 4), floats),
        ("labels", (n,), integers),
        ("amodal", (n, m, m), floats),
        ("visible", (n, m, m), floats),
        *((name, (n, m, m), floats) for name in OPTIONAL_MASKS),
    ):
        if name in outputs:
            _expect(path, "output", name, outputs[name], shape, dtypes)
    return ModelMetadata(
        name=properties.get("model_id", path.stem),
        sha256=sha256,
        class_names=class_names,
        input_hw=(height, width),
        max_instances=n,
        mask_size=m,
        training_data=properties.get("training_data", ""),
        git_commit=properties.get("git_commit", ""),
        metrics=metrics,
        precision=properties.get("precision", "fp32"),
        one_mask=one_mask == "true",
        optional_masks=tuple(name for name in OPTIONAL_MASKS if name in outputs),
    )


def _metadata(
    path: Path,
    properties: Mapping[str, str],
    key: str,
    container: type,
    element: type | tuple[type, ...],
) -> Any:
    """Parse a JSON list or object whose values are all of one kind."""
    if key not in properties:
        raise ModelFileError(f"{path}: metadata has no '{key}'")
    try:
        value = json.loads(properties[key])
    except ValueError:
        value = None
    elements = value.values() if isinstance(value, dict) else value
    if not isinstance(value, container) or not all(isinstance(e, element) for e in elements):
        kind = "list" if container is list else "object"
        raise ModelFileError(
            f"{path}: metadata '{key}' is {properties[key]!r}, expected a JSON {kind}"
        )
    return value


def _static_length(path: Path, name: str, spec: TensorSpec, *, axis: int, rank: int) -> int:
    if len(spec.shape) != rank or not isinstance(spec.shape[axis], int):
        raise ModelFileError(
            f"{path}: output '{name}' has shape {list(spec.shape)}, "
            f"expected {rank} fixed dimension{'s' if rank > 1 else ''}"
        )
    length = spec.shape[axis]
    assert isinstance(length, int)
    return length


def _expect(
    path: Path,
    kind: str,
    name: str,
    spec: TensorSpec,
    shape: tuple[int, ...],
    dtypes: tuple[str, ...],
) -> None:
    if spec.shape != shape or spec.dtype not in dtypes:
        raise ModelFileError(
            f"{path}: {kind} '{name}' is {spec.dtype} {list(spec.shape)}, "
            f"expected {' or '.join(dtypes)} {list(shape)}"
        )
