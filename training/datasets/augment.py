"""Random changes of a training sample: geometry, colour and sharpness.

They are wide on purpose. The simulated scenes are few and clean; the photographs that the model
will meet have other lenses, light, colours and noise.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from amodal_perception.preprocess import PAD_VALUE
from training.datasets.sample import Sample

SCALE_RANGE = (0.75, 1.6)
ASPECT_RANGE = (0.9, 1.1)
LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def augment(sample: Sample, rng: np.random.Generator) -> Sample:
    """Return a changed copy of the same size, a function of the sample and `rng` only."""
    if rng.random() < 0.8:
        sample = move(sample, random_affine(sample.image.shape[:2], rng))
    image = sample.image
    if rng.random() < 0.8:
        image = recolour(image, rng)
    if rng.random() < 0.25:
        image = cv2.GaussianBlur(image, (0, 0), float(rng.uniform(0.4, 1.4)))
    if rng.random() < 0.25:
        noise = rng.standard_normal(image.shape, np.float32) * rng.uniform(2, 12)
        image = np.clip(image + noise, 0, 255).astype(np.uint8)
    return Sample(image, sample.amodal, sample.visible, sample.labels)


def random_affine(size_hw: tuple[int, int], rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw a [2, 3] map of pixel indices that mirrors, scales and shifts inside the image."""
    height, width = size_hw
    scale = np.exp(rng.uniform(*np.log(SCALE_RANGE)))
    aspect = np.sqrt(np.exp(rng.uniform(*np.log(ASPECT_RANGE))))
    sx, sy = scale * aspect, scale / aspect
    # A larger image is cropped, a smaller one is placed on grey, both anywhere.
    tx = rng.uniform() * (width - sx * width)
    ty = rng.uniform() * (height - sy * height)
    if rng.random() < 0.5:
        sx, tx = -sx, width - tx
    # From pixel borders (continuous) to pixel indices (centres at whole numbers).
    return np.array([[sx, 0, tx + 0.5 * sx - 0.5], [0, sy, ty + 0.5 * sy - 0.5]])


def move(sample: Sample, affine: NDArray[np.float64]) -> Sample:
    """Warp image and masks alike; masks are cut at the border, what comes from outside is grey."""
    height, width = sample.image.shape[:2]
    size = (width, height)
    image = cv2.warpAffine(
        sample.image, affine, size, borderMode=cv2.BORDER_CONSTANT, borderValue=(PAD_VALUE,) * 3
    )
    both = np.stack([sample.amodal, sample.visible], -1).view(np.uint8)  # [N, H, W, 2]
    moved = np.zeros((len(both), height, width, 2), np.bool_)
    for i, masks in enumerate(both):
        moved[i] = cv2.warpAffine(masks, affine, size, flags=cv2.INTER_NEAREST)
    return Sample(image, moved[..., 0], moved[..., 1], sample.labels)


def recolour(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Change hue, saturation (sometimes to grey), white balance, contrast, gamma, brightness."""
    saturation = 0.0 if rng.random() < 0.08 else rng.uniform(0.4, 1.6)
    matrix = saturation * np.eye(3) + (1 - saturation) * LUMA
    matrix = hue_rotation(rng.uniform(-0.4, 0.4)) @ matrix
    image = cv2.transform(image, matrix)
    levels = np.arange(256)[:, None] / 255.0
    gain = rng.uniform(0.7, 1.35) * rng.uniform(0.88, 1.12, 3)
    contrast = rng.uniform(0.7, 1.3)
    curve = ((levels ** rng.uniform(0.75, 1.35) - 0.5) * contrast + 0.5) * gain  # [256, 3]
    table = np.clip(curve * 255 + rng.uniform(-20, 20), 0, 255).astype(np.uint8)
    return cv2.LUT(image, table[:, None])


def hue_rotation(angle_rad: float) -> NDArray[np.float64]:
    """Return the [3, 3] rotation of RGB about the grey axis (Rodrigues' formula)."""
    cos, sin = np.cos(angle_rad), np.sin(angle_rad)
    cross = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / np.sqrt(3)
    return cos * np.eye(3) + (1 - cos) / 3 + sin * cross
