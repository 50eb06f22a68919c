"""Tiles and strips for HTML pages: crops and heat maps of an object side by side."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import cv2
import numpy as np

from amodal_perception.storage.image_files import data_url
from amodal_perception.structures import FloatArray, UInt8Array

TILE_PX = 128
GAP_PX = 4


def strip(tiles: Sequence[UInt8Array]) -> UInt8Array:
    """Concatenate tiles [128, 128, 3] side by side, with white gaps: [128, W, 3] uint8 RGB."""
    gap = np.full((TILE_PX, GAP_PX, 3), 255, np.uint8)
    return np.concatenate([part for tile in tiles for part in (tile, gap)][:-1], 1)


def tile(picture: UInt8Array) -> UInt8Array:
    """Resize a picture [H, W, 3] to a tile [128, 128, 3]."""
    size = (TILE_PX, TILE_PX)
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA))


def heat(probability: FloatArray) -> UInt8Array:
    """Return a map [H, W] as a tile, coloured from dark (0) to light (1)."""
    levels = np.asarray(255 * resized(probability).clip(0, 1)).astype(np.uint8)
    return np.asarray(cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO)[..., ::-1])


def resized(values: FloatArray) -> FloatArray:
    """Interpolate a map [H, W] to a tile's size."""
    size = (TILE_PX, TILE_PX)
    return np.asarray(cv2.resize(values, size, interpolation=cv2.INTER_LINEAR))


def figure(drawn: UInt8Array, *, caption: str, alt: str) -> str:
    """Return a strip and its caption as HTML."""
    return (
        f'<figure><img src="{data_url(drawn)}" alt="{alt}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def section(name: str, image: UInt8Array, figures: Sequence[str]) -> str:
    """Return an image [H, W, 3] and the figures of its objects as HTML."""
    return (
        f'<section><h2>{escape(name)}</h2><img src="{data_url(image)}" alt="the image">'
        f"{''.join(figures) or '<p>Nothing was found.</p>'}</section>"
    )
