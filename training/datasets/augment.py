"""Data augmentation: scale jitter, flip, copy-paste, colour jitter, blur and noise.

The default is wide on purpose. The simulated scenes are few and clean; the photographs that the
model will meet have other lenses, light, colours and noise.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from amodal_perception.preprocess import PAD_VALUE
from training.datasets.sample import Sample

MOVED = 0.8
"""How often size and aspect are changed."""
PASTED = 0.5
"""How often an object that can be pasted is."""
LUMA = np.array([0.299, 0.587, 0.114], np.float32)


@dataclass(frozen=True)
class Augmentation:
    """Augmentation settings; every second sample is flipped besides.

    Attributes:
        scale_jitter: least and greatest factor of the image's size.
        aspect_jitter: least and greatest factor of width to height.
        recolour: change colours, and blur and roughen some.
        copy_paste: how often objects of another image are pasted, 0..1 (Ghiasi et al. 2021).
    """

    scale_jitter: tuple[float, float] = (0.75, 1.6)
    aspect_jitter: tuple[float, float] = (0.9, 1.1)
    recolour: bool = True
    copy_paste: float = 0.0


def augment(
    sample: Sample,
    rng: np.random.Generator,
    settings: Augmentation = Augmentation(),
    other: Sample | None = None,
) -> Sample:
    """Augment a sample: a copy of the same size, a function of the arguments only.

    Args:
        sample: what to change.
        rng: draws what changes.
        settings: how much it changes.
        other: whose objects to paste; None for none.
    """
    size_hw = sample.image.shape[0], sample.image.shape[1]
    sample = move(sample, random_affine(size_hw, rng, settings))
    if other is not None:
        pasted = choose_whole(other, rng)
        sample = paste_over(sample, move(pasted, random_affine(size_hw, rng, settings)))
    if not settings.recolour:
        return sample
    image = sample.image
    if rng.random() < 0.8:
        image = recolour(image, rng)
    if rng.random() < 0.25:
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), float(rng.uniform(0.4, 1.4))))
    if rng.random() < 0.25:
        noise = rng.standard_normal(image.shape, np.float32) * rng.uniform(2, 12)
        image = np.clip(image + noise, 0, 255).astype(np.uint8)
    return Sample(image, sample.amodal, sample.visible, sample.labels, ids=sample.ids)


def random_affine(
    size_hw: tuple[int, int], rng: np.random.Generator, settings: Augmentation = Augmentation()
) -> NDArray[np.float64]:
    """Draw a random affine, [2, 3] on pixel indices: flip, scale jitter and random crop."""
    height, width = size_hw
    sx = sy = 1.0
    if rng.random() < MOVED:
        scale = np.exp(rng.uniform(*np.log(settings.scale_jitter)))
        aspect = np.sqrt(np.exp(rng.uniform(*np.log(settings.aspect_jitter))))
        sx, sy = scale * aspect, scale / aspect
    # A larger image is cropped, a smaller one is placed on grey, both anywhere.
    tx = rng.uniform() * (width - sx * width)
    ty = rng.uniform() * (height - sy * height)
    if rng.random() < 0.5:
        sx, tx = -sx, width - tx
    # From pixel borders (continuous) to pixel indices (centres at whole numbers).
    return np.array([[sx, 0, tx + 0.5 * sx - 0.5], [0, sy, ty + 0.5 * sy - 0.5]])


def choose_whole(sample: Sample, rng: np.random.Generator) -> Sample:
    """Choose objects for copy-paste, each with a chance of one half: those wholly in view."""
    whole = np.zeros(len(sample.labels), np.bool_) if sample.whole is None else sample.whole
    chosen = whole & (rng.random(len(whole)) < PASTED)
    return Sample(
        sample.image,
        sample.amodal[chosen],
        sample.visible[chosen],
        sample.labels[chosen],
        ids=None if sample.ids is None else sample.ids[chosen],
    )


def paste_over(sample: Sample, pasted: Sample) -> Sample:
    """Copy-paste (Ghiasi et al., CVPR 2021): put objects in front; what they cover gets hidden.

    The complete masks of all objects stay what they are. This is where amodal truth is better
    off than modal truth: a covered object is still known completely.
    """
    front = np.asarray(pasted.visible.any(axis=0))
    return Sample(
        np.where(front[..., None], pasted.image, sample.image),
        np.concatenate([sample.amodal, pasted.amodal]),
        np.concatenate([sample.visible & ~front, pasted.visible]),
        np.concatenate([sample.labels, pasted.labels]),
        ids=_joined(sample.ids, pasted.ids),
    )


def _joined(
    first: NDArray[np.int64] | None, second: NDArray[np.int64] | None
) -> NDArray[np.int64] | None:
    return None if first is None or second is None else np.concatenate([first, second])


def move(sample: Sample, affine: NDArray[np.float64]) -> Sample:
    """Apply an affine to image and masks; masks are cut at the border, padding is grey."""
    if np.array_equal(affine, np.eye(2, 3)):
        return sample
    height, width = sample.image.shape[:2]
    size = (width, height)
    image = cv2.warpAffine(
        sample.image, affine, size, borderMode=cv2.BORDER_CONSTANT, borderValue=(PAD_VALUE,) * 3
    )
    both = np.stack([sample.amodal, sample.visible], -1).view(np.uint8)  # [N, H, W, 2]
    moved = np.zeros((len(both), height, width, 2), np.bool_)
    for i, masks in enumerate(both):
        moved[i] = cv2.warpAffine(masks, affine, size, flags=cv2.INTER_NEAREST)
    return Sample(np.asarray(image), moved[..., 0], moved[..., 1], sample.labels, ids=sample.ids)


def recolour(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Colour jitter: hue, saturation (or grey), white balance, contrast, gamma, brightness."""
    saturation = 0.0 if rng.random() < 0.08 else rng.uniform(0.4, 1.6)
    matrix = saturation * np.eye(3) + (1 - saturation) * LUMA
    matrix = hue_rotation(rng.uniform(-0.4, 0.4)) @ matrix
    image = np.asarray(cv2.transform(image, matrix))
    levels = np.arange(256)[:, None] / 255.0
    gain = rng.uniform(0.7, 1.35) * rng.uniform(0.88, 1.12, 3)
    contrast = rng.uniform(0.7, 1.3)
    curve = ((levels ** rng.uniform(0.75, 1.35) - 0.5) * contrast + 0.5) * gain  # [256, 3]
    table = np.clip(curve * 255 + rng.uniform(-20, 20), 0, 255).astype(np.uint8)
    return np.asarray(cv2.LUT(image, table[:, None]))


def hue_rotation(angle_rad: float) -> NDArray[np.float64]:
    """Return the [3, 3] rotation of RGB about the grey axis (Rodrigues' formula)."""
    cos, sin = np.cos(angle_rad), np.sin(angle_rad)
    cross = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / np.sqrt(3)
    return cos * np.eye(3) + (1 - cos) / 3 + sin * cross
