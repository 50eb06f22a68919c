"""Overlays of scenes on images: visible parts tinted, hidden parts striped."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import ArrayLike

from amodal_perception.structures import Scene, UInt8Array

VISIBLE_OPACITY = 0.45
HIDDEN_OPACITY = 0.75
STRIPE_PERIOD_PX = 8
DARK_TEXT, LIGHT_TEXT = "#111827", "#ffffff"


def instance_colors(count: int) -> UInt8Array:
    """Return [count, 3] uint8 RGB colours; neighbours in the list differ strongly in hue."""
    return id_colors(np.arange(count))


def id_colors(ids: np.ndarray) -> UInt8Array:
    """Return a colour for each of [N] whole numbers: [N, 3] uint8 RGB."""
    count = len(ids)
    # Steps of the golden angle spread any number of hues evenly.
    hues = (ids * 0.381966 * 180) % 180
    hsv = np.stack([hues, np.full(count, 200), np.full(count, 255)], axis=-1).astype(np.uint8)
    return cv2.cvtColor(hsv[None], cv2.COLOR_HSV2RGB)[0] if count else np.zeros((0, 3), np.uint8)


def text_color(rgb: ArrayLike) -> str:
    """Return the CSS colour, dark or white, that is read best on a colour [3] of 0..255."""
    share = np.asarray(rgb) / 255
    linear = np.where(share > 0.04045, ((share + 0.055) / 1.055) ** 2.4, share / 12.92)
    luminance = linear @ (0.2126, 0.7152, 0.0722)  # of sRGB, 0..1
    return DARK_TEXT if luminance > 0.2 else LIGHT_TEXT


def draw_scene(image: UInt8Array, scene: Scene, colors: UInt8Array | None = None) -> UInt8Array:
    """Draw a scene over its image.

    Visible pixels are tinted; hidden pixels, which are guesses, are striped in the same colour;
    the amodal outline is drawn thin; each object carries its index and score, and how much of it
    is hidden where that is a tenth or more.

    Args:
        image: [H, W, 3] uint8 RGB, the size of the scene's masks.
        scene: of the image.
        colors: [N, 3] uint8 RGB, one for each instance; None takes `instance_colors`.

    Returns:
        [H, W, 3] uint8 RGB, a new array.
    """
    picture = image.copy()
    instances = scene.instances
    if colors is None:
        colors = instance_colors(len(instances))
    for i in range(len(instances)):
        window = instances.window(i)
        rows, columns = window
        if rows.start == rows.stop or columns.start == columns.stop:
            continue
        # Stripes run in image coordinates, so that they do not crawl with the window.
        ys, xs = np.ogrid[rows, columns]
        stripes = (xs + ys) % STRIPE_PERIOD_PX < STRIPE_PERIOD_PX // 2
        patch = picture[window]
        _tint(patch, instances.visible_crops[i], colors[i], VISIBLE_OPACITY)
        _tint(patch, instances.hidden_crops[i] & stripes, colors[i], HIDDEN_OPACITY)
    for i in range(len(instances)):
        rows, columns = instances.window(i)
        amodal = instances.amodal_crops[i].view(np.uint8)
        contours, _ = cv2.findContours(
            amodal, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE, offset=(columns.start, rows.start)
        )
        cv2.drawContours(picture, contours, -1, _rgb(colors[i]), 1, cv2.LINE_AA)
    for i in range(len(instances)):
        _label(picture, scene, i, _rgb(colors[i]))
    return picture


def _tint(patch: UInt8Array, where: np.ndarray, color: UInt8Array, opacity: float) -> None:
    blended = patch[where] * (1 - opacity) + color * opacity
    patch[where] = blended.astype(np.uint8)


def _rgb(color: UInt8Array) -> tuple[int, int, int]:
    return int(color[0]), int(color[1]), int(color[2])


def _label(picture: UInt8Array, scene: Scene, index: int, color: tuple[int, int, int]) -> None:
    """Write an instance's number at the middle of its visible part."""
    instances = scene.instances
    rows, columns = instances.window(index)
    ys, xs = np.nonzero(instances.visible_crops[index])
    if len(ys) == 0:
        return
    text = f"{index} {instances.scores[index]:.2f}"
    if len(scene.class_names) > 1:
        text = f"{index} {scene.class_names[instances.labels[index]]}"
    if instances.occlusion_rate[index] >= 0.1:
        text += f" hid {instances.occlusion_rate[index]:.0%}"
    scale = max(picture.shape[0] / 1200, 0.35)
    (width, height), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
    x = columns.start + int(xs.mean()) - width // 2
    y = rows.start + int(ys.mean()) + height // 2
    x = min(max(x, 2), max(picture.shape[1] - width - 2, 2))
    y = min(max(y, height + 2), picture.shape[0] - 3)
    cv2.putText(picture, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, scale, (0, 0, 0), 3, cv2.LINE_AA)
    cv2.putText(picture, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, scale, color, 1, cv2.LINE_AA)
