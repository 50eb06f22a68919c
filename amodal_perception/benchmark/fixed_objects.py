"""Fixed detections in place of the network's, so that latency does not depend on the images."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np

from amodal_perception.files import ASSETS
from amodal_perception.runtime import ModelMetadata, RawDetections, Runtime
from amodal_perception.storage.bag_frames import read_frames
from amodal_perception.storage.image_files import encode_image
from amodal_perception.structures import UInt8Array

SAMPLE_BAG = ASSETS / "sample_bag"
SIZE_HW = (480, 640)


@dataclass(frozen=True, eq=False)
class FixedObjects:
    """A runtime that runs its network, but returns fixed objects.

    What comes after the engine takes as long as there are objects, so their number is fixed;
    the engine itself, a static graph, takes the same time for every image.
    """

    runtime: Runtime
    objects: RawDetections

    @property
    def metadata(self) -> ModelMetadata:
        """The engine's own."""
        return self.runtime.metadata

    @property
    def hardware(self) -> str:
        """The engine's own."""
        return self.runtime.hardware

    def __call__(self, image: UInt8Array) -> RawDetections:
        """Run the engine; return the fixed objects."""
        self.runtime(image)
        return self.objects


def make_objects(metadata: ModelMetadata, count: int) -> RawDetections:
    """Make network outputs of discs and boxes that overlap, nearer ones over farther ones.

    Args:
        metadata: of the model whose outputs these could be.
        count: objects; the model's own limit holds.
    """
    rng = np.random.default_rng(0)
    height, width = metadata.input_hw
    n, m = metadata.max_instances, metadata.mask_size
    count = min(count, n)
    # Boxes of about 9,000 camera pixels at 640 x 480, a little larger than in simulated scenes of
    # 15 objects and more, on a jittered 5 x 4 grid so tight that neighbours overlap, yet nobody
    # disappears.
    place = rng.permutation(20)[np.arange(count) % 20]
    grid = np.stack([(place % 5 - 2) / 8, (place // 5 - 1.5) / 6.5], axis=1) + 0.5
    centre = (grid + rng.uniform(-0.02, 0.02, (count, 2))) * [width, height]
    half = rng.uniform(0.06, 0.105, (count, 2)) * [width, height]
    boxes_xyxy = np.zeros((n, 4), np.float32)
    boxes_xyxy[:count] = np.concatenate([centre - half, centre + half], axis=1)
    scores = np.zeros(n, np.float32)
    scores[:count] = np.linspace(0.99, 0.7, count)

    cells = (np.arange(m) + 0.5) / m * 2 - 1
    disc = (cells[:, None] ** 2 + cells[None, :] ** 2 < 0.95).astype(np.float32)
    amodal = np.zeros((n, m, m), np.float32)
    amodal[:count] = 1.0
    amodal[:count:2] = disc
    visible = amodal.copy()
    for far in range(count):
        x0, y0, x1, y1 = boxes_xyxy[far]
        xs = x0 + (cells + 1) / 2 * (x1 - x0)
        ys = y0 + (cells + 1) / 2 * (y1 - y0)
        for near in range(far):
            left, top, right, bottom = boxes_xyxy[near]
            inside_x = (xs >= left) & (xs < right)
            inside_y = (ys >= top) & (ys < bottom)
            visible[far][np.ix_(inside_y, inside_x)] = 0
    return RawDetections(
        boxes_xyxy=boxes_xyxy,
        scores=scores,
        labels=np.zeros(n, np.int64),
        amodal=amodal,
        visible=visible,
    )


def jpeg_messages() -> list[Any]:
    """Return camera messages with images of the sample bag."""
    images = [frame.image for frame, _ in zip(read_frames(SAMPLE_BAG), range(8))]
    stamp = SimpleNamespace(sec=0, nanosec=0)
    header = SimpleNamespace(stamp=stamp, frame_id="camera")
    messages = []
    for image in images:
        if image.shape[:2] != SIZE_HW:
            image = cv2.resize(image, SIZE_HW[::-1], interpolation=cv2.INTER_AREA)  # type: ignore
        data = np.frombuffer(encode_image(image, ".jpg"), np.uint8)
        messages.append(SimpleNamespace(header=header, format="jpeg", data=data))
    return messages
