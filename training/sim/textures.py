"""Procedural textures: noise, stripes, checks, wood, prints with text, marble, fabric.

More varied than reality looks, on purpose: a model that must work on photographs should find them
no stranger than its training pictures (domain randomisation, Tobin et al., 2017).
"""

from __future__ import annotations

import colorsys
import string
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Floats = NDArray[np.float32]
Rng = np.random.Generator


@dataclass(frozen=True, eq=False)
class Finish:
    """How a surface looks.

    Attributes:
        image: [S, S, 3] uint8 RGB texture.
        specular: strength of highlights, 0..1.
        shininess: narrowness of highlights, 0..1.
        alpha: opacity, 0..1.
    """

    image: Image
    specular: float = 0.3
    shininess: float = 0.3
    alpha: float = 1.0


def colour(rng: Rng) -> Floats:
    """A random colour, [3] float32 in 0..1: vivid, pale, dark or grey."""
    kind = rng.random()
    hue = rng.random()
    if kind < 0.4:
        rgb = colorsys.hsv_to_rgb(hue, rng.uniform(0.5, 1), rng.uniform(0.4, 1))
    elif kind < 0.65:
        rgb = colorsys.hsv_to_rgb(hue, rng.uniform(0.05, 0.5), rng.uniform(0.5, 1))
    elif kind < 0.75:
        rgb = colorsys.hsv_to_rgb(hue, rng.uniform(0, 1), rng.uniform(0.05, 0.35))
    elif kind < 0.9:
        rgb = (rng.uniform(0.75, 1.0),) * 3
    else:
        rgb = (rng.uniform(0.03, 0.75),) * 3
    return np.array(rgb, np.float32)


def noise(rng: Rng, size: int, coarse: int = 3, octaves: int = 4, fade: float = 0.55) -> Floats:
    """Smooth multi-octave noise, [size, size] float32 scaled to 0..1."""
    total = np.zeros((size, size), np.float32)
    weight = 1.0
    for octave in range(octaves):
        cells = coarse * 2**octave + 1
        if cells > size:
            break
        grid = rng.random((cells, cells), np.float32)
        total += weight * cv2.resize(grid, (size, size), interpolation=cv2.INTER_CUBIC)
        weight *= fade
    low, high = float(total.min()), float(total.max())
    return (total - low) / max(high - low, 1e-6)


def _blend(a: Floats, b: Floats, t: Floats) -> Floats:
    """Mix two colours by a [S, S] map."""
    return a + (b - a) * t[..., None]


def _to_bytes(rgb: Floats) -> Image:
    return (np.clip(rgb, 0, 1) * 255).astype(np.uint8)


def _coordinates(size: int) -> tuple[Floats, Floats]:
    axis = np.linspace(0, 1, size, endpoint=False, dtype=np.float32)
    x, y = np.meshgrid(axis, axis)
    return x, y


def _plain(rng: Rng, size: int) -> Floats:
    base = colour(rng)
    mottle = noise(rng, size, int(rng.integers(2, 10))) - 0.5
    image = base + mottle[..., None] * rng.uniform(0, 0.15)
    if rng.random() < 0.3:
        x, y = _coordinates(size)
        image = _blend(image, colour(rng), y if rng.random() < 0.5 else x)
    return np.asarray(image, np.float32)


def _stripes(rng: Rng, size: int) -> Floats:
    x, y = _coordinates(size)
    angle = rng.choice([0, np.pi / 2, rng.uniform(0, np.pi)])
    waves = int(rng.integers(1, 12))
    phase = np.cos(angle) * x + np.sin(angle) * y + rng.uniform(0, 0.1) * noise(rng, size)
    t = np.sin(2 * np.pi * waves * phase)
    t = (t > rng.uniform(-0.7, 0.7)) if rng.random() < 0.7 else t / 2 + 0.5
    return _blend(colour(rng), colour(rng), np.asarray(t, np.float32))


def _checks(rng: Rng, size: int) -> Floats:
    x, y = _coordinates(size)
    nx, ny = rng.integers(2, 12, 2)
    t = ((x * nx).astype(int) + (y * ny).astype(int)) % 2
    if rng.random() < 0.4:  # tartan
        t = ((x * nx).astype(int) % 2 + (y * ny).astype(int) % 2) / 2
    return _blend(colour(rng), colour(rng), np.asarray(t, np.float32))


def _dots(rng: Rng, size: int) -> Floats:
    x, y = _coordinates(size)
    count = int(rng.integers(2, 12))
    fx, fy = (x * count) % 1 - 0.5, (y * count) % 1 - 0.5
    t = (fx**2 + fy**2) < rng.uniform(0.03, 0.18)
    return _blend(colour(rng), colour(rng), t.astype(np.float32))


def _marble(rng: Rng, size: int) -> Floats:
    t: np.ndarray = noise(rng, size, int(rng.integers(1, 6)), 6, rng.uniform(0.4, 0.75))
    if rng.random() < 0.5:
        t = np.abs(2 * t - 1) ** rng.uniform(0.3, 1.5)
    image = _blend(colour(rng), colour(rng), t)
    if rng.random() < 0.4:
        image = _blend(image, colour(rng), (noise(rng, size, 4) > 0.6).astype(np.float32))
    return image


def _wood(rng: Rng, size: int) -> Floats:
    x, y = _coordinates(size)
    if rng.random() < 0.5:
        x, y = y, x
    hue, saturation = rng.uniform(0.04, 0.12), rng.uniform(0.25, 0.75)
    light = rng.uniform(0.3, 0.95)
    pale = np.array(colorsys.hsv_to_rgb(hue, saturation, light), np.float32)
    dark = pale * np.float32(rng.uniform(0.5, 0.85))
    warp = noise(rng, size, 2, 3) * rng.uniform(0.05, 0.5)
    rings = np.sin(2 * np.pi * rng.uniform(4, 25) * (x + warp))
    grain = cv2.resize(rng.random((max(size // 32, 2), size), np.float32), (size, size))
    if rng.random() < 0.5:
        grain = grain.T
    image = _blend(pale, dark, (rings / 2 + 0.5) * 0.6 + grain * 0.4)
    if rng.random() < 0.3:  # boards
        count = int(rng.integers(3, 9))
        gap = ((y * count) % 1) < 0.03
        tone = rng.uniform(0.8, 1.1, count).astype(np.float32)[(y * count).astype(int)]
        image = image * tone[..., None] * (1 - 0.6 * gap[..., None])
    return image


def _rings(rng: Rng, size: int) -> Floats:
    count = int(rng.integers(3, 12))
    bands = np.array([colour(rng) for _ in range(int(rng.integers(2, 4)))])
    index = rng.integers(0, len(bands), count)
    rows = bands[index][np.sort(rng.integers(0, count, size))]
    return np.asarray(np.repeat(rows[:, None], size, 1), np.float32)


def _fruit(rng: Rng, size: int) -> Floats:
    hue = rng.choice([rng.uniform(0, 0.17), rng.uniform(0.17, 0.4), rng.uniform(0.9, 1)])
    base = np.array(
        colorsys.hsv_to_rgb(hue, rng.uniform(0.5, 1), rng.uniform(0.45, 1)), np.float32
    )
    other = np.array(
        colorsys.hsv_to_rgb(
            (hue + rng.normal(0, 0.06)) % 1, rng.uniform(0.4, 1), rng.uniform(0.35, 1)
        ),
        np.float32,
    )
    image = _blend(base, other, noise(rng, size, 2, 5) ** rng.uniform(0.5, 2))
    specks = noise(rng, size, 24, 2) > rng.uniform(0.75, 0.95)
    return image * (1 - 0.3 * specks[..., None]).astype(np.float32)


_FONTS = (
    cv2.FONT_HERSHEY_SIMPLEX, cv2.FONT_HERSHEY_DUPLEX, cv2.FONT_HERSHEY_COMPLEX,
    cv2.FONT_HERSHEY_TRIPLEX, cv2.FONT_HERSHEY_SCRIPT_COMPLEX,
)  # fmt: skip


def _word(rng: Rng) -> str:
    letters = (
        string.ascii_letters if rng.random() < 0.5 else string.ascii_uppercase + string.digits
    )
    return "".join(letters[i] for i in rng.integers(0, len(letters), int(rng.integers(2, 9))))


def _print(rng: Rng, size: int) -> Floats:
    """Packaging: panels, discs, pictures, big and small text, bar code."""
    base = PATTERNS[int(rng.integers(len(PATTERNS)))] if rng.random() < 0.3 else _plain
    image = np.ascontiguousarray(base(rng, size))

    def tint() -> tuple[float, ...]:
        return tuple(float(c) for c in colour(rng))

    def place(low: float = 0.0, high: float = 1.0) -> int:
        return int(rng.uniform(low, high) * size)

    for _ in range(int(rng.integers(1, 6))):
        kind = rng.random()
        if kind < 0.45:
            x0, y0 = place(-0.1, 0.7), place(-0.1, 0.8)
            corner = (x0 + place(0.15, 1.1), y0 + place(0.06, 0.6))
            cv2.rectangle(image, (x0, y0), corner, tint(), -1)
        elif kind < 0.7:
            axes = (place(0.08, 0.35), place(0.08, 0.35))
            at = (place(0.1, 0.9), place(0.1, 0.9))
            cv2.ellipse(image, at, axes, rng.uniform(0, 180), 0, 360, tint(), -1, cv2.LINE_AA)
        elif kind < 0.85:
            corners = (rng.uniform(-0.1, 1.1, (int(rng.integers(3, 6)), 2)) * size).astype(
                np.int32
            )
            cv2.fillPoly(image, [cv2.convexHull(corners)], tint(), cv2.LINE_AA)
        else:
            s = place(0.2, 0.5)
            x0, y0 = place(0, 0.5), place(0, 0.5)
            patch = PATTERNS[int(rng.integers(len(PATTERNS)))](rng, max(s, 16))
            region = image[y0 : y0 + s, x0 : x0 + s]
            region[:] = patch[: region.shape[0], : region.shape[1]]
    for _ in range(int(rng.integers(1, 4))):
        font = _FONTS[int(rng.integers(len(_FONTS)))]
        scale = rng.uniform(0.5, 1.8) * size / 128
        thick = int(rng.integers(1, 5))
        cv2.putText(
            image,
            _word(rng),
            (place(-0.1, 0.4), place(0.15, 0.95)),
            font,
            scale,
            tint(),
            thick,
            cv2.LINE_AA,
        )
    if rng.random() < 0.5:  # a paragraph
        x0, y0, ink, scale = place(0, 0.6), place(0.1, 0.8), tint(), 0.22 * size / 128
        for row in range(int(rng.integers(2, 7))):
            text = " ".join(_word(rng) for _ in range(4))
            at = (x0, y0 + int(row * size * 0.055))
            cv2.putText(image, text, at, _FONTS[0], scale, ink, 1, cv2.LINE_AA)
    if rng.random() < 0.3:  # a bar code
        x, y0, height = place(0, 0.7), place(0, 0.8), place(0.1, 0.2)
        cv2.rectangle(
            image, (x - 3, y0 - 3), (x + place(0.2, 0.3), y0 + height + 3), (1, 1, 1), -1
        )
        for _ in range(14):
            wide = int(rng.integers(1, 4))
            cv2.rectangle(image, (x, y0), (x + wide - 1, y0 + height), (0.05, 0.05, 0.05), -1)
            x += wide + int(rng.integers(1, 4))
    return image


def _label(rng: Rng, size: int) -> Floats:
    """A plain body with a printed band around it."""
    image = _plain(rng, size)
    top, bottom = np.sort(rng.uniform(0.15, 0.95, 2) * size).astype(int)
    if bottom - top > size // 10:
        image[top:bottom] = cv2.resize(_print(rng, size), (size, bottom - top))
    return image


def _grey(rng: Rng, size: int, low: float, high: float) -> Floats:
    tone = rng.uniform(low, high) * (1 + rng.normal(0, 0.03, 3))
    streak = cv2.resize(rng.random((size, 4), np.float32), (size, size)) - 0.5
    return np.asarray(tone + streak[..., None] * rng.uniform(0, 0.1), np.float32)


PATTERNS: tuple[Callable[[Rng, int], Floats], ...] = (
    _stripes, _checks, _dots, _marble, _wood, _rings, _plain,
)  # fmt: skip


def make_finish(kind: str, rng: Rng, size: int = 128) -> Finish:
    """Draw a random surface of a kind: print, pattern, plain, paper, wood, metal, dark, ..."""
    gloss = float(rng.uniform(0, 0.7)), float(rng.uniform(0.05, 0.8))
    if kind == "print":
        return Finish(_to_bytes(_print(rng, size)), *gloss)
    if kind == "label":
        return Finish(_to_bytes(_label(rng, size)), *gloss)
    if kind == "pattern":
        return Finish(_to_bytes(PATTERNS[int(rng.integers(len(PATTERNS)))](rng, size)), *gloss)
    if kind == "noise":
        return Finish(_to_bytes(_marble(rng, size)), *gloss)
    if kind == "wood":
        return Finish(_to_bytes(_wood(rng, size)), gloss[0] * 0.5, gloss[1] * 0.5)
    if kind == "rings":
        return Finish(_to_bytes(_rings(rng, size)), *gloss)
    if kind == "fruit":
        return Finish(_to_bytes(_fruit(rng, size)), gloss[0] * 0.6, gloss[1])
    if kind == "metal":
        return Finish(_to_bytes(_grey(rng, size, 0.35, 0.8)), float(rng.uniform(0.5, 1)), 0.7)
    if kind == "dark":
        return Finish(_to_bytes(_grey(rng, size, 0.03, 0.25)), *gloss)
    if kind == "paper":
        if rng.random() < 0.5:
            tone = np.array([0.72, 0.56, 0.38], np.float32) * rng.uniform(0.7, 1.15)
        else:
            tone = np.array([1, 0.98, 0.92], np.float32) * rng.uniform(0.75, 1)
        mottle = noise(rng, size, 12, 3) - 0.5
        lines = cv2.resize(rng.random((size, 1), np.float32), (size, size)) - 0.5
        image = tone + (mottle * 0.08 + lines * 0.06)[..., None]
        return Finish(_to_bytes(image), 0.05, 0.1)
    if kind == "glass":
        return Finish(_to_bytes(_plain(rng, size)), 1.0, 0.9, float(rng.uniform(0.3, 0.75)))
    if kind == "plain":
        return Finish(_to_bytes(_plain(rng, size)), *gloss)
    raise ValueError(f"no finish is called {kind!r}")


def make_surface(rng: Rng, size: int = 256) -> Finish:
    """Draw a random table, floor or wall."""
    kind = rng.random()
    if kind < 0.25:
        image = _wood(rng, size)
    elif kind < 0.45:
        image = _plain(rng, size)
        image = image * 0.8 + 0.2 * image.mean()
    elif kind < 0.6:
        image = _marble(rng, size)
    elif kind < 0.7:  # granite, carpet
        grain = noise(rng, size, 60, 2)[..., None] - 0.5
        image = colour(rng) + grain * rng.uniform(0.1, 0.6)
    elif kind < 0.8:  # fabric
        x, y = _coordinates(size)
        waves = rng.integers(20, 60)
        weave = np.sin(2 * np.pi * waves * x) * np.sin(2 * np.pi * waves * y)
        image = _blend(colour(rng), colour(rng), np.asarray(weave / 2 + 0.5, np.float32))
    elif kind < 0.92:
        image = PATTERNS[int(rng.integers(len(PATTERNS)))](rng, size)
    else:
        image = _print(rng, size)
    if rng.random() < 0.5:  # stains and wear
        image = image * (1 - rng.uniform(0, 0.35) * noise(rng, size, 3, 5)[..., None])
    return Finish(_to_bytes(image), float(rng.uniform(0, 0.4)), float(rng.uniform(0, 0.6)))
