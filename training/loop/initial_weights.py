"""Initial weights (fine-tuning): from another run, an exported model or torchvision."""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence
from pathlib import Path

import onnx
import torch
from google.protobuf.message import DecodeError
from onnx import numpy_helper
from torch import Tensor, nn

from amodal_perception.errors import ConfigError, ModelFileError
from training import distributed
from training.loop import checkpoints
from training.models.backbones import pretrained_weights

ONNX_PREFIX = "model."
"""Before the names of the network's tensors in an exported file."""
LISTED = 6
"""Most tensors that a message names."""


def start_from(
    model: nn.Module, path: Path, class_names: Sequence[str] = (), made: Collection[str] = ()
) -> None:
    """Load the tensors that agree in name and shape, and report those that do not.

    Args:
        model: changed in place.
        path: run folder, checkpoint, ``.onnx`` file that `training.export` wrote, or a file of
            torchvision's weights (`training.models.backbones.pretrained_weights`).
        class_names: of the data, by which class layers of COCO are taken.
        made: names of tensors that come from elsewhere, and are neither taken nor missing.

    Raises:
        ConfigError: nothing agrees.
        ModelFileError: the file cannot be read, or its normalisation is folded away.
    """
    own = model.state_dict()
    if path.suffix == ".onnx":
        loaded = read_onnx(path)
    elif path.suffix in (".pth", ".pt", ".safetensors"):
        slots = len(own.get(pretrained_weights.CLASS_LAYER + ".bias", ()))
        loaded = pretrained_weights.read(path, class_names, slots)
    elif path.is_file():
        raise ModelFileError(
            f"weights={path}: is no file of weights; give a run folder, a checkpoint, an .onnx "
            "file of training.export, or a .pth or .safetensors file"
        )
    else:
        loaded = checkpoints.averaged_weights(path)
    loaded = pretrained_weights.fill_mask_heads(loaded, own)
    own = {name: value for name, value in own.items() if name not in made}
    taken = {k: v for k, v in loaded.items() if k in own and own[k].shape == v.shape}
    if not taken:
        raise ConfigError(f"weights={path}: is another kind of network; no tensor fits")
    model.load_state_dict(taken, strict=False)
    if distributed.rank() == 0:
        # An exported file has no counters of batches, and nothing needs them.
        new = [k for k in own if k not in taken and not k.endswith("num_batches_tracked")]
        print(f"{len(taken)} tensors taken from {path}", file=sys.stderr)
        if new:
            print(f"{len(new)} start at random: {_shortened(new)}", file=sys.stderr)


def read_onnx(path: Path) -> dict[str, Tensor]:
    """Read the network's tensors from a file of `training.export`, by their PyTorch names.

    Raises:
        ModelFileError: no ONNX file, not of our making, or normalisation folded into convolutions.
    """
    try:
        graph = onnx.load(path).graph
    except (OSError, DecodeError) as error:
        raise ModelFileError(f"{path}: cannot be read as ONNX ({error})") from None
    tensors = {
        initializer.name.removeprefix(ONNX_PREFIX): initializer
        for initializer in graph.initializer
        if initializer.name.startswith(ONNX_PREFIX)
    }
    if any(name.endswith(".weight_bias") for name in tensors):
        raise ModelFileError(
            f"{path}: its normalisation is folded into the convolutions, so it cannot be trained "
            "further; export it again from its run, or give the run folder"
        )
    if not tensors:
        raise ModelFileError(f"{path}: holds no named weights; was it made by training.export?")
    return {
        # A copy: the file's bytes are read-only.
        name: torch.from_numpy(numpy_helper.to_array(tensor).copy())
        for name, tensor in tensors.items()
    }


def _shortened(names: list[str]) -> str:
    more = len(names) - LISTED
    return ", ".join(names[:LISTED]) + (f" and {more} more" if more > 0 else "")
