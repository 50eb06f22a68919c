"""Box prompts: how good are BLADE's and BoxInst's masks of objects whose boxes are given?

    python -m training.studies.box_prompts RUN --data DIR --out DIR

The test of BLADE's paper: the prompt is the visible box of an object (B_test); the predicted mask
is measured by level of occlusion. ``--box amodal`` prompts with the amodal
box instead ("known centre"), as the paper does for its baseline BoxInst. For runs of these two.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from amodal_perception.boxes import xywh_to_xyxy
from amodal_perception.command_line import run_main
from amodal_perception.errors import ConfigError
from amodal_perception.evaluation.evaluate import evaluate
from amodal_perception.preprocess import letterbox
from amodal_perception.storage import amodal_coco
from amodal_perception.storage.amodal_coco import AmodalCoco, Json
from amodal_perception.storage.coco_rle import encode_mask
from amodal_perception.storage.image_files import read_image
from amodal_perception.storage.predictions_file import RAW, predictions_info
from amodal_perception.structures import BoolArray, FloatArray, LetterboxTransform, UInt8Array
from training.evaluate import TorchRuntime, labels_of, load, write_figures
from training.models.blade.blade import Blade
from training.models.blade.condinst import MASK_STRIDE
from training.models.detector_protocol import Proposals, image_size_hw
from training.models.detectors.box_geometry import box_iou
from training.models.detectors.instance_points import Points

KEYS = {"visible": "visible_bbox", "amodal": "bbox"}
PROTOCOLS = ("blade", "bayesian_amodal")
FIRST_LEVEL_PX = 64.0
"""Longest distance from a point to a side of its box on the first level; doubles from level to
level, as FCOS has it."""


def points_for(boxes_xyxy: Tensor, labels: Tensor, found: Proposals, points: Points) -> Tensor:
    """Choose the detector's point for each box prompt.

    That of the detection of the object's class whose box has the highest IoU; if none overlaps,
    the point nearest to the box's centre, on the level for its size.

    Args:
        boxes_xyxy: [G, 4] prompts, input pixels.
        labels: [G] int64, classes.
        found: the detections of one image.
        points: of the detector.

    Returns:
        [G] int64.
    """
    iou = box_iou(boxes_xyxy[:, None], found.boxes_xyxy[0])
    fits = (found.scores[0] > 0) & (found.labels[0] == labels[:, None])
    best, which = torch.where(fits, iou, torch.zeros_like(iou)).max(1)

    centre = (boxes_xyxy[:, :2] + boxes_xyxy[:, 2:]) / 2
    half = (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]).amax(1) / 2
    strides = points.stride.unique()  # ascending
    level = torch.log2(half.clamp(min=1e-6) / FIRST_LEVEL_PX).ceil().clamp(0, len(strides) - 1)
    on_level = points.stride == strides[level.long()][:, None]
    away = (points.xy - centre[:, None]).square().sum(-1)
    nearest = torch.where(on_level, away, torch.full_like(away, torch.inf)).argmin(1)
    return torch.where(best > 0, found.index[0][which], nearest)


def segment_boxes(
    model: Blade, image: Tensor, boxes_xyxy: Tensor, labels: Tensor
) -> tuple[Tensor, Tensor]:
    """Segment the objects in box prompts: amodal and visible probabilities.

    Args:
        model: in evaluation mode.
        image: [1, H, W, 3] uint8 RGB, at the network's input size.
        boxes_xyxy: [G, 4] prompts, input pixels.
        labels: [G] int64.

    Returns:
        Each [G, H / 4, W / 4].
    """
    with torch.inference_mode():
        levels = model.levels(image)
        found, points = model.detector.detect_points(levels, image_size_hw(image))
        index = points_for(boxes_xyxy, labels, found, points)
        maps = model.segment(levels, points, index[None])
    return maps.amodal[0], maps.visible[0]


def to_camera(probability: FloatArray, transform: LetterboxTransform) -> BoolArray:
    """Turn a map [h, w] of the network's input at stride 4 into a camera mask, at least 0.5."""
    height, width = transform.camera_hw
    # From camera pixels to the map's cells, both counted from the middle of the first.
    scale = np.array(transform.scale_xy) / MASK_STRIDE
    shift = (0.5 * np.array(transform.scale_xy) + transform.offset_xy) / MASK_STRIDE - 0.5
    matrix = np.array([[scale[0], 0, shift[0]], [0, scale[1], shift[1]]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    size, border = (width, height), cv2.BORDER_REPLICATE
    mask = cv2.warpAffine(probability, matrix, size, flags=flags, borderMode=border) >= 0.5
    return np.asarray(mask, np.bool_)


def predict_prompted(runtime: TorchRuntime, truth: AmodalCoco, *, box: str) -> AmodalCoco:
    """Segment every object of a data set by its box prompt, which the predictions keep.

    Args:
        runtime: a network that is a `Blade`.
        truth: with the boxes; of its masks nothing is used.
        box: ``visible`` or ``amodal``.

    Raises:
        AmodalError: an image that is missing or damaged, or an object without that box.
    """
    label_of = labels_of(truth, runtime.metadata)
    annotations: dict[int, Json] = {}
    for image_id in tqdm(sorted(truth.images), "segmenting", unit="image", delay=2, leave=False):
        name = truth.images[image_id]["file_name"]
        rows = [row for row in truth.annotations_of(image_id) if not row.get("iscrowd")]
        boxes = [_prompt(truth, row, KEYS[box]) for row in rows]
        prompts: np.ndarray = np.array(boxes).reshape(-1, 4)
        rows = [row for row, (_, _, w, h) in zip(rows, prompts) if w > 0 and h > 0]
        if not rows:
            continue
        prompts = prompts[(prompts[:, 2:] > 0).all(1)]
        image, transform = letterbox(
            read_image(truth.path.parent / name), runtime.metadata.input_hw
        )
        labels = torch.tensor([label_of[row["category_id"]] for row in rows])
        for row, annotation in zip(rows, _segmented(runtime, image, transform, prompts, labels)):
            annotations[row["id"]] = {
                "id": row["id"],
                "image_id": image_id,
                "category_id": row["category_id"],
                "score": 1.0,
                **annotation,
                KEYS[box]: row[KEYS[box]],
            }
    return AmodalCoco(
        path=Path(runtime.metadata.model_id),
        images=truth.images,
        categories=truth.categories,
        annotations=annotations,
        occlusions=(),
        info={**predictions_info(RAW, runtime.metadata), "box_prompt": box},
    )


def _prompt(truth: AmodalCoco, row: Json, key: str) -> list[float]:
    box = row.get(key)
    if not isinstance(box, list) or len(box) != 4:
        raise ConfigError(f"{truth.path}: annotation {row['id']} has no '{key}' to prompt with")
    return box


def _segmented(
    runtime: TorchRuntime,
    image: UInt8Array,
    transform: LetterboxTransform,
    prompts_xywh: FloatArray,
    labels: Tensor,
) -> list[Json]:
    """Segment an image's prompts [G, 4] xywh, camera pixels; return the annotations' masks."""
    camera = xywh_to_xyxy(prompts_xywh.astype(np.float32))
    boxes = camera * np.tile(transform.scale_xy, 2) + np.tile(transform.offset_xy, 2)
    assert isinstance(runtime.model, Blade)
    device = runtime.device
    amodal, visible = segment_boxes(
        runtime.model,
        torch.from_numpy(image).to(device),
        torch.from_numpy(boxes.astype(np.float32)).to(device),
        labels.to(device),
    )
    annotations = []
    for whole_map, part_map in zip(amodal.cpu().numpy(), visible.cpu().numpy()):
        whole, part = to_camera(whole_map, transform), to_camera(part_map, transform)
        x, y, width, height = cv2.boundingRect(whole.view(np.uint8))
        annotations.append(
            {
                "segmentation": encode_mask(whole),
                "visible_segmentation": encode_mask(part & whole),
                "bbox": [float(x), float(y), float(width), float(height)],
                "area": int(whole.sum()),
                "iscrowd": 0,
            }
        )
    return annotations


def load_blade(run: Path, device: torch.device, num_threads: int = 0) -> TorchRuntime:
    """Load a run of BLADE or BoxInst.

    Raises:
        ConfigError: it is of another system.
        ModelFileError: no run, or a damaged one.
    """
    if num_threads:
        torch.set_num_threads(num_threads)
    runtime = load(run, device)
    if not isinstance(runtime, TorchRuntime) or not isinstance(runtime.model, Blade):
        raise ConfigError(f"{run}: takes no box prompts; give a run of blade or boxinst")
    return runtime


def figures(truth: AmodalCoco, predictions: AmodalCoco) -> dict[str, float]:
    """Measure predictions by the protocols of box prompts."""
    return evaluate(truth, predictions, PROTOCOLS)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m training.studies.box_prompts", description=__doc__.split("\n\n")[0]
    )
    parser.add_argument("run", type=Path, help="run folder or checkpoint of blade or boxinst")
    parser.add_argument("--data", type=Path, required=True, help="amodal COCO folder")
    parser.add_argument("--out", type=Path, required=True, help="folder for the results")
    parser.add_argument("--box", choices=list(KEYS), default="visible", help="(visible)")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads (0: all cores)")
    options = parser.parse_args(arguments)
    return run_main("training.studies.box_prompts", lambda: _run(options))


def _run(options: argparse.Namespace) -> None:
    runtime = load_blade(options.run, torch.device("cpu"), options.threads)
    truth = amodal_coco.read(options.data)
    predictions = predict_prompted(runtime, truth, box=options.box)
    write_figures(options.out, truth, predictions, PROTOCOLS)


if __name__ == "__main__":
    sys.exit(main())
