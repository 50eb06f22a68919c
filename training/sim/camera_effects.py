"""Camera model for rendered pictures: exposure, blur, sensor noise, JPEG compression."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from amodal_perception.structures import UInt8Array
from training.sim.textures import noise

Rng = np.random.Generator


@dataclass(frozen=True)
class CameraEffects:
    """One camera's settings; equal settings give a film a constant look.

    Attributes:
        gain_rgb: exposure times white balance.
        gamma: exponent after the gain; above 1 darkens.
        contrast: about mid grey.
        saturation: 0 grey, 1 unchanged.
        vignette: darkening of the corners, 0..1.
        defocus_px: standard deviation of the blur.
        motion_px: length of the motion blur, 0 for none.
        motion_deg: its direction.
        shot_noise, read_noise: standard deviations at full and at no light, of 1.
        chroma_blotch: strength of low-frequency colour noise, of 1.
        jpeg_quality: 1..100.
    """

    gain_rgb: tuple[float, float, float] = (1.0, 1.0, 1.0)
    gamma: float = 1.0
    contrast: float = 1.0
    saturation: float = 1.0
    vignette: float = 0.0
    defocus_px: float = 0.0
    motion_px: float = 0.0
    motion_deg: float = 0.0
    shot_noise: float = 0.0
    read_noise: float = 0.0
    chroma_blotch: float = 0.0
    jpeg_quality: int = 92


def sample_effects(rng: Rng, mean_level: float) -> CameraEffects:
    """Draw camera settings, exposed for a picture of a mean level (0..1)."""
    wanted = rng.uniform(0.32, 0.66)
    exposure = np.clip(wanted / max(mean_level, 0.03), 0.55, 3.0) ** rng.uniform(0.5, 1.0)
    warm, green = rng.normal(0, 0.08), rng.normal(0, 0.03)
    gain = exposure * np.exp([warm, green, -warm])
    noisy = rng.random() < 0.7
    return CameraEffects(
        gain_rgb=(float(gain[0]), float(gain[1]), float(gain[2])),
        gamma=float(np.exp(rng.normal(0, 0.15))),
        contrast=float(rng.uniform(0.75, 1.2)),
        saturation=float(rng.uniform(0.45, 1.2)),
        vignette=float(rng.uniform(0, 0.4)) if rng.random() < 0.4 else 0.0,
        defocus_px=float(rng.uniform(0.4, 1.6)) if rng.random() < 0.45 else 0.0,
        motion_px=float(rng.uniform(2, 9)) if rng.random() < 0.2 else 0.0,
        motion_deg=float(rng.uniform(0, 180)),
        shot_noise=float(rng.uniform(0.005, 0.045)) if noisy else 0.0,
        read_noise=float(rng.uniform(0.002, 0.02)) if noisy else 0.0,
        chroma_blotch=float(rng.uniform(0, 0.03)) if noisy else 0.0,
        jpeg_quality=int(rng.integers(40, 96)),
    )


def apply_effects(image: UInt8Array, effects: CameraEffects, rng: Rng) -> UInt8Array:
    """Expose, blur and add noise; the random numbers are for the noise only.

    Args:
        image: [H, W, 3] uint8 RGB.
        effects: the camera.
        rng: source of the noise.
    """
    height, width = image.shape[:2]
    x = image.astype(np.float32) / 255
    if effects.motion_px >= 1:
        kernel = _motion_kernel(effects.motion_px, effects.motion_deg)
        x = np.asarray(cv2.filter2D(x, -1, kernel))
    if effects.defocus_px > 0:
        x = np.asarray(cv2.GaussianBlur(x, (0, 0), effects.defocus_px))
    x = x * np.array(effects.gain_rgb, np.float32)
    if effects.vignette > 0:
        rows = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
        columns = np.linspace(-1, 1, width, dtype=np.float32)[None]
        x *= (1 - effects.vignette * (rows**2 + columns**2) / 2)[..., None]
    x = np.where(x > 0.8, 1 - 0.2 * np.exp(-(x - 0.8) / 0.2), x)  # highlights roll off
    x = np.maximum(x, 0) ** np.float32(effects.gamma)
    x = (x - 0.5) * effects.contrast + 0.5
    grey = x @ np.array([0.299, 0.587, 0.114], np.float32)
    x = grey[..., None] + (x - grey[..., None]) * effects.saturation
    if effects.read_noise > 0 or effects.shot_noise > 0:
        sigma = np.sqrt(effects.read_noise**2 + effects.shot_noise**2 * np.clip(x, 0, 1))
        x = x + rng.standard_normal(x.shape, np.float32) * sigma
    if effects.chroma_blotch > 0:
        blotch = np.stack([noise(rng, 64, 12, 2) - 0.5 for _ in range(3)], -1)
        x = x + cv2.resize(blotch, (width, height)) * effects.chroma_blotch
    return np.asarray(np.clip(x * 255 + 0.5, 0, 255), np.uint8)


def encode_jpeg(image: UInt8Array, quality: int) -> bytes:
    """Compress an RGB picture."""
    settings = [cv2.IMWRITE_JPEG_QUALITY, quality]
    return cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), settings)[1].tobytes()


def _motion_kernel(length_px: float, angle_deg: float) -> NDArray[np.float32]:
    size = int(np.ceil(length_px)) | 1
    kernel = np.zeros((size, size), np.float32)
    centre = size // 2
    a = np.radians(angle_deg)
    offset = np.array([np.cos(a), np.sin(a)]) * length_px / 2
    start, stop = np.rint(centre - offset).astype(int), np.rint(centre + offset).astype(int)
    cv2.line(kernel, tuple(map(int, start)), tuple(map(int, stop)), 1.0, 1, cv2.LINE_AA)
    return kernel / kernel.sum()
