"""Pretrained weights: torchvision's state dicts under the names of our parts.

Nothing is downloaded; give ``weights=FILE`` (``.pth`` or ``.safetensors``) to training. Known are
image classifiers (ResNet, MobileNetV3), which fill the backbone, and Mask R-CNN with a ResNet and
a feature pyramid, which fills all but what is new in a system. Of one that was trained on COCO the
layers of classes are taken by the names of the data's classes, if COCO has all of them.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torchvision.models.detection import MaskRCNN_ResNet50_FPN_Weights

from amodal_perception.errors import ModelFileError, one_line

DETECTOR_NAMES = (
    (r"backbone\.body\.(.+)", r"backbone.\1"),
    (r"backbone\.fpn\.(.+)", r"fpn.pyramid.\1"),
    (r"rpn\.head\.conv\.0\.0\.(.+)", r"detector.rpn.conv.\1"),
    (r"rpn\.head\.conv\.(weight|bias)", r"detector.rpn.conv.\1"),  # as older files have it
    (r"rpn\.head\.cls_logits\.(.+)", r"detector.rpn.objectness.\1"),
    (r"rpn\.head\.bbox_pred\.(.+)", r"detector.rpn.deltas.\1"),
    (r"roi_heads\.box_head\.(fc6|fc7)\.(.+)", r"detector.\1.\2"),
    (r"roi_heads\.box_predictor\.cls_score\.(.+)", r"detector.classes.\1"),
    (r"roi_heads\.box_predictor\.bbox_pred\.(.+)", r"detector.boxes.\1"),
    (r"roi_heads\.mask_predictor\.conv5_mask\.(.+)", r"mask_heads.visible.upsample.\1"),
    (r"roi_heads\.mask_predictor\.mask_fcn_logits\.(.+)", r"mask_heads.visible.logits.\1"),
)
"""torchvision's names of Mask R-CNN's tensors and ours."""
MASK_CONV = re.compile(r"roi_heads\.mask_head\.(?:mask_fcn(\d)|(\d)\.0)\.(weight|bias)")
PYRAMID_CONV = re.compile(r"(fpn\.pyramid\.(?:inner|layer)_blocks\.\d)\.(weight|bias)")

COCO_SLOTS: list[str] = MaskRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"]
"""What the 91 rows of torchvision's class layers are: the background, 80 classes, 10 unused."""
BACKGROUND_AND_UNUSED = frozenset(["__background__", "N/A"])
CLASS_LAYER, BOX_LAYER = "detector.classes", "detector.boxes"
MASK_LAYER = "mask_heads.visible.logits"


def read(path: Path, class_names: Sequence[str] = (), class_slots: int = 0) -> dict[str, Tensor]:
    """Read a file of weights and give its tensors our names and our order of classes.

    Args:
        path: ``.pth``, ``.pt`` or ``.safetensors``.
        class_names: of the data.
        class_slots: rows of the class layer of the network to fill.

    Raises:
        ModelFileError: it cannot be read, or holds something other than tensors by name.
    """
    try:
        if path.suffix == ".safetensors":
            tensors = load_file(path)
        else:
            tensors = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, SafetensorError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise ModelFileError(f"{path}: cannot be read as weights ({one_line(error)})") from None
    if not isinstance(tensors, dict) or not all(isinstance(v, Tensor) for v in tensors.values()):
        raise ModelFileError(f"{path}: is not a state_dict, tensors by name")
    translated = {our_name(name): tensor for name, tensor in tensors.items()}
    if CLASS_LAYER + ".bias" in translated and CLASS_LAYER + ".bias" not in tensors:
        return our_classes(translated, class_names, class_slots)
    return translated


def our_classes(
    loaded: dict[str, Tensor], class_names: Sequence[str], class_slots: int
) -> dict[str, Tensor]:
    """Change torchvision's class layers to ours.

    We have no mask of the background. Layers of COCO's classes get those of the data, in the
    data's order; they are left out if a class is not one of COCO's, as it cannot be told which row
    would be like it.

    Args:
        loaded: by our names.
        class_names: of the data.
        class_slots: rows of the class layer of the network to fill; if it has room for unused
            ones, they follow the classes.
    """
    changed = dict(loaded)
    for name in loaded:
        if name.startswith(MASK_LAYER):
            changed[name] = loaded[name][1:]
    if len(loaded[CLASS_LAYER + ".bias"]) != len(COCO_SLOTS):
        return changed
    layers = {
        f"{layer}.{kind}"
        for layer in (CLASS_LAYER, BOX_LAYER, MASK_LAYER)
        for kind in ("weight", "bias")
    } & set(loaded)
    if not set(class_names) <= set(COCO_SLOTS) - BACKGROUND_AND_UNUSED:
        return {name: tensor for name, tensor in changed.items() if name not in layers}
    wanted = [COCO_SLOTS.index(name) for name in class_names]
    unused = [row for row in range(1, len(COCO_SLOTS)) if row not in wanted]
    has_room = class_slots == len(COCO_SLOTS)
    for name in layers:
        by_class = changed[name].unflatten(0, (-1, 4 if name.startswith(BOX_LAYER) else 1))
        if name.startswith(MASK_LAYER):
            rows = [row - 1 for row in wanted]
        elif name.startswith(CLASS_LAYER) and has_room:
            rows = [0, *wanted, *unused]
        else:
            rows = [0, *wanted]
        changed[name] = by_class[rows].flatten(0, 1)
    return changed


def our_name(name: str) -> str:
    """Translate a tensor's name; names that are ours already stay."""
    if re.match(r"(conv1|bn1|layer\d|features)\.", name):
        return f"backbone.{name}"
    match = MASK_CONV.fullmatch(name)
    if match:
        index = int(match[2]) if match[1] is None else int(match[1]) - 1
        return f"mask_heads.visible.convs.{index}.{match[3]}"
    for pattern, ours in DETECTOR_NAMES:
        if re.fullmatch(pattern, name):
            # Files from before torchvision 0.13 have one level less in the pyramid's names.
            return PYRAMID_CONV.sub(r"\1.0.\2", re.sub(pattern, ours, name))
    return name


def fill_mask_heads(loaded: dict[str, Tensor], own: dict[str, Tensor]) -> dict[str, Tensor]:
    """Initialise both mask heads of ORCNN and ASN from the one head of a Mask R-CNN.

    Args:
        loaded: tensors by our names.
        own: those of the network to fill.

    Returns:
        `loaded`, with the tensors of a mask head that it lacks taken from the one that it has.
    """
    filled = dict(loaded)
    for name in own:
        for head, other in (("amodal", "visible"), ("visible", "amodal")):
            source = name.replace(f"mask_heads.{head}.", f"mask_heads.{other}.")
            if source != name and name not in loaded and source in loaded:
                filled[name] = loaded[source]
    return filled
