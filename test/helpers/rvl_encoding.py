"""RVL as its paper (Wilson 2017) writes it down, number by number."""

from __future__ import annotations

import struct

import numpy as np


def encode_rvl(samples: np.ndarray) -> bytes:
    """Encode an image's samples (uint16), without sizes."""
    groups: list[int] = []

    def write(value: int) -> None:
        while True:
            value, low = value >> 3, value & 7
            groups.append(low | (8 if value else 0))
            if not value:
                return

    flat, at, previous = samples.ravel().tolist(), 0, 0
    while at < len(flat):
        start = at
        while at < len(flat) and flat[at] == 0:
            at += 1
        write(at - start)
        start = at
        while at < len(flat) and flat[at] != 0:
            at += 1
        write(at - start)
        for value in flat[start:at]:
            step, previous = value - previous, value
            write(2 * step if step >= 0 else -2 * step - 1)
    groups += [0] * (-len(groups) % 8)
    words = []
    for first in range(0, len(groups), 8):
        word = 0
        for group in groups[first : first + 8]:
            word = word << 4 | group
        words.append(word)
    return struct.pack(f"<{len(words)}I", *words)
