"""Heat maps of BLADE: how does directed expansion turn a visible into an amodal mask?

    python -m training.studies.blade_expansion RUN --data DIR --out DIR

Writes a page after the paper's figure 4: for the most occluded objects of some images the visible
mask, the overlapping region, the gradient of the neighbour loss on the amodal mask (the active
band) and the result. BLADE only, prompted with the true boxes; true masks are not used.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from html import escape
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from amodal_perception.boxes import xywh_to_xyxy
from amodal_perception.command_line import run_main
from amodal_perception.errors import ConfigError
from amodal_perception.preprocess import letterbox
from amodal_perception.reports.page import write_page
from amodal_perception.storage import amodal_coco
from amodal_perception.storage.amodal_coco import AmodalCoco
from amodal_perception.storage.image_files import read_image
from amodal_perception.structures import FloatArray, UInt8Array
from training.models.blade.blade import Blade
from training.models.blade.blade_losses import BladeMaskLogits, box_targets
from training.models.blade.condinst import MASK_STRIDE
from training.models.blade.overlap_regions import neighbour_loss
from training.models.detector_protocol import image_size_hw
from training.studies.box_prompts import load_blade, points_for
from training.studies.object_strips import figure, heat, resized, section, strip, tile

TILES = ("image", "seen: m_v", "region: m_r", "pull on m_a", "expanded: m_a", "result: m")
MARGIN = 0.15
"""Shown around an object's amodal box, as a part of its size."""


def pull_of_neighbours(
    logits: BladeMaskLogits, visible_xyxy: Tensor, amodal_xyxy: Tensor, *, threshold: float
) -> Tensor:
    """Return how the neighbour loss moves the logits of m_a: its gradient, turned round.

    Args:
        logits: of the N objects of one image, [1, N, H, W].
        visible_xyxy: [1, N, 4] true boxes, input pixels.
        amodal_xyxy: [1, N, 4] likewise.
        threshold: t.

    Returns:
        [N, H, W]; above 0 where the mask is to grow.
    """
    assert logits.amodal is not None
    size_hw = int(logits.amodal.shape[-2]), int(logits.amodal.shape[-1])
    valid = torch.ones(visible_xyxy.shape[:2], dtype=torch.bool, device=visible_xyxy.device)
    targets = box_targets(visible_xyxy, amodal_xyxy, valid, size_hw)
    amodal = logits.amodal[0].detach().clone().requires_grad_()
    visible = logits.visible[0].sigmoid()
    loss = neighbour_loss(
        amodal, visible, targets.region[0], targets.amodal[0], threshold=threshold
    )
    loss.sum().backward()
    assert amodal.grad is not None
    return -amodal.grad


def strips(
    model: Blade, image: UInt8Array, visible_xyxy: Tensor, amodal_xyxy: Tensor, labels: Tensor
) -> list[UInt8Array]:
    """Draw the `TILES` of the N prompted objects of an image.

    Args:
        model: in evaluation mode, with an amodal head.
        image: [1, H, W, 3] uint8 RGB, at the network's input size.
        visible_xyxy: [N, 4] true boxes, input pixels.
        amodal_xyxy: [N, 4] likewise.
        labels: [N] int64.
    """
    with torch.no_grad():
        levels = model.levels(torch.from_numpy(image))
        found, points = model.detector.detect_points(
            levels, image_size_hw(torch.from_numpy(image))
        )
        index = points_for(visible_xyxy, labels, found, points)[None]
        z = model.heads(model.mask_branch(levels), points, index)
        result = model.segment(levels, points, index).amodal[0].numpy()
    threshold = model.settings.visible_threshold
    pull = pull_of_neighbours(z, visible_xyxy[None], amodal_xyxy[None], threshold=threshold)
    visible = z.visible[0].sigmoid().numpy()
    amodal = z.amodal[0].sigmoid().numpy() if z.amodal is not None else result
    region = z.region[0].sigmoid().numpy() if z.region is not None else np.ones_like(result)
    drawn = []
    for i, (x0, y0, x1, y1) in enumerate(amodal_xyxy.tolist()):
        cut = _window(x0, y0, x1, y1, image.shape[1:3])
        pulled = pull[i].numpy() / max(float(pull[i].abs().max()), 1e-12)
        tiles = [
            tile(cut(image[0])),
            heat(_part(visible[i], cut)),
            heat(_part(region[i], cut)),
            _signed(_part(pulled, cut)),
            heat(_part(amodal[i], cut)),
            heat(_part(result[i], cut)),
        ]
        drawn.append(strip(tiles))
    return drawn


def _window(
    x0: float, y0: float, x1: float, y1: float, size_hw: tuple[int, ...]
) -> Callable[[np.ndarray], np.ndarray]:
    """Return what cuts an object with some margin out of pictures of the input's size."""
    dx, dy = MARGIN * (x1 - x0) + 4, MARGIN * (y1 - y0) + 4
    left, top = max(0, int(x0 - dx)), max(0, int(y0 - dy))
    right, bottom = min(size_hw[1], int(x1 + dx) + 1), min(size_hw[0], int(y1 + dy) + 1)
    return lambda picture: picture[top:bottom, left:right]


def _part(values: np.ndarray, cut: Callable[[np.ndarray], np.ndarray]) -> FloatArray:
    size = values.shape[1] * MASK_STRIDE, values.shape[0] * MASK_STRIDE
    return cut(cv2.resize(values, size, interpolation=cv2.INTER_LINEAR))


def _signed(values: FloatArray) -> UInt8Array:
    """Return a map as a tile, coloured from blue (-1) over white (0) to red (1)."""
    values = resized(values)
    strength = np.abs(values.clip(-1, 1)) ** 0.5  # so that the weaker half shows too
    others = (255 * (1 - strength)).astype(np.uint8)
    full = np.full_like(others, 255)
    red = np.stack([full, others, others], -1)
    blue = np.stack([others, others, full], -1)
    return np.where((values > 0)[..., None], red, blue)


def write_pictures(run: Path, data: Path, out: Path, *, images: int, objects: int) -> Path:
    """Write ``expansion.html`` on the first images that have hidden objects; return its path.

    Raises:
        ConfigError: the run is of another system, or has no amodal head.
        AmodalError: a file that is missing or damaged.
    """
    runtime = load_blade(run, torch.device("cpu"))
    model = runtime.model
    assert isinstance(model, Blade)
    if not model.settings.expansion:
        raise ConfigError(f"{run}: is BoxInst, which expands nothing; give a run of blade")
    truth = amodal_coco.read(data)
    hidden = [
        k for k in sorted(truth.images) if any(_rate(r) > 0 for r in truth.annotations_of(k))
    ]
    sections = [
        f"<header><h1>Expansion</h1><p>From left to right: {escape(', '.join(TILES))}. Dark is "
        "0, light is 1. The pull is that of the neighbour loss alone: red grows, blue shrinks; "
        "the red band along what is seen is the active band.</p><p class='model'>model "
        f"<code>{escape(runtime.metadata.model_id)}</code></p></header>"
    ]
    for key in tqdm(hidden[:images], "drawing", unit="image", delay=2, leave=False):
        name = truth.images[key]["file_name"]
        image, view = letterbox(read_image(truth.path.parent / name), runtime.metadata.input_hw)
        rows, boxes, labels = _objects(truth, key)
        scale, shift = np.tile(view.scale_xy, 2), np.tile(view.offset_xy, 2)
        visible, amodal = (torch.from_numpy((b * scale + shift).astype(np.float32)) for b in boxes)
        order = np.argsort([-_rate(row) for row in rows], kind="stable")[:objects]
        drawn = strips(model, image, visible, amodal, labels)
        figures = [
            figure(
                drawn[i], caption=f"{100 * _rate(rows[i]):.0f} % hidden", alt="maps of an object"
            )
            for i in order
            if _rate(rows[i]) > 0
        ]
        sections.append(section(name, image[0], figures))
    path = out / "expansion.html"
    write_page(path, "Expansion", sections)
    return path


def _rate(row: amodal_coco.Json) -> float:
    return float(row.get("occlusion_rate", 0))


def _objects(
    truth: AmodalCoco, image_id: int
) -> tuple[list[amodal_coco.Json], list[FloatArray], Tensor]:
    """Return an image's objects that show, their visible and amodal boxes, and their labels."""
    label_of = {category: label for label, category in enumerate(sorted(truth.categories))}
    rows = [
        row
        for row in truth.annotations_of(image_id)
        if not row.get("iscrowd") and min(row.get("visible_bbox", [0])[2:], default=0) > 0
    ]
    boxes = [
        xywh_to_xyxy(np.array([row[key] for row in rows], np.float32).reshape(-1, 4))
        for key in ("visible_bbox", "bbox")
    ]
    return rows, boxes, torch.tensor([label_of[row["category_id"]] for row in rows])


def main(arguments: list[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m training.studies.blade_expansion", description=__doc__.split("\n\n")[0]
    )
    parser.add_argument("run", type=Path, help="run folder or checkpoint of blade")
    parser.add_argument("--data", type=Path, required=True, help="amodal COCO folder")
    parser.add_argument("--out", type=Path, required=True, help="folder for expansion.html")
    parser.add_argument("--images", type=int, default=12, help="how many (12)")
    parser.add_argument("--objects", type=int, default=4, help="of an image, at most (4)")
    options = parser.parse_args(arguments)
    return run_main("training.studies.blade_expansion", lambda: _run(options))


def _run(options: argparse.Namespace) -> None:
    path = write_pictures(
        options.run, options.data, options.out, images=options.images, objects=options.objects
    )
    print(path)


if __name__ == "__main__":
    sys.exit(main())
