"""Letterbox: scale a camera image to the network's input size, and remember the way back."""

from __future__ import annotations

import cv2
import numpy as np

from amodal_perception.structures import LetterboxTransform, UInt8Array

PAD_VALUE = 114
"""Grey of the padding: about the mean of natural images, so the border is no strong edge."""


def letterbox(
    image: UInt8Array, input_hw: tuple[int, int]
) -> tuple[UInt8Array, LetterboxTransform]:
    """Letterbox an image: scale it to the network's input, keeping its aspect, padded with grey.

    Args:
        image: [H, W, 3] uint8 RGB, any size.
        input_hw: height and width of the network's input, pixels.

    Returns:
        [1, h, w, 3] uint8 RGB, and where the image lies inside it.
    """
    camera_hw = (image.shape[0], image.shape[1])
    scale = min(input_hw[0] / camera_hw[0], input_hw[1] / camera_hw[1])
    height = min(max(round(camera_hw[0] * scale), 1), input_hw[0])
    width = min(max(round(camera_hw[1] * scale), 1), input_hw[1])
    top, left = (input_hw[0] - height) // 2, (input_hw[1] - width) // 2

    batch = np.full((1, *input_hw, 3), PAD_VALUE, np.uint8)
    inside = batch[0, top : top + height, left : left + width]
    if (height, width) == camera_hw:
        inside[:] = image
    else:
        # Averaging areas, when shrinking, keeps fine texture from turning into false edges.
        method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        inside[:] = cv2.resize(image, (width, height), interpolation=method)
    transform = LetterboxTransform(
        camera_hw=camera_hw,
        input_hw=input_hw,
        scale_xy=(width / camera_hw[1], height / camera_hw[0]),
        offset_xy=(float(left), float(top)),
    )
    return batch, transform
