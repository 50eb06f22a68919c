"""Visualize a training batch: its tensors as one file, every image with its ground truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from amodal_perception import files
from amodal_perception.drawing.overlay import draw_scene
from amodal_perception.masks import mask_windows
from amodal_perception.ordering import TRUTH_CONFIG, occlusion_graph
from amodal_perception.storage.image_files import write_image
from amodal_perception.structures import Instances, Scene, UInt8Array
from training.structures import Batch


def save_batch(folder: Path, batch: Batch) -> None:
    """Write ``batch.npz`` (the fields of `Batch`) and ``image_<number>.png``."""
    with files.atomic_write(folder / "batch.npz") as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, **{k: v.cpu().numpy() for k, v in batch._asdict().items()})
    for number in range(len(batch.images)):
        write_image(folder / f"image_{number:02d}.png", draw_truth(batch, number))


def draw_truth(batch: Batch, number: int) -> UInt8Array:
    """Draw the ground truth of a batch's image over it: [H, W, 3] uint8 RGB."""
    valid = batch.valid[number].cpu()
    amodal = batch.amodal[number].cpu()[valid].numpy() > 0
    visible = batch.visible[number].cpu()[valid].numpy() > 0
    instances = Instances.from_masks(
        boxes_xyxy=batch.boxes_xyxy[number].cpu()[valid].numpy(),
        scores=np.ones(len(amodal), np.float32),
        labels=batch.labels[number].cpu()[valid].numpy().astype(np.int32),
        amodal=amodal,
        visible=visible,
        windows_xyxy=mask_windows(amodal),
    )
    scene = Scene(0, "", instances, occlusion_graph(instances, TRUTH_CONFIG), "truth", ())
    return draw_scene(batch.images[number].cpu().numpy(), scene)
