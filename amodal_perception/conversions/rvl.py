"""RVL, a run-length coding of depth images (Wilson 2017); compressedDepth offers it beside PNG.

Numbers are cut into groups of three bits, the lowest first; with a bit that says whether more
follow, each group takes half a byte, and eight of them a little-endian word, the first on top. An
image is: how many pixels are zero, how many are not, the steps from each of these to the next
(zigzag: 0, -1, 1, -2, ...), and so on.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from amodal_perception.errors import ImageError

GROUPS_IN_WORD = 8
# A step takes 17 bits: six groups, three bytes; and a run of one pixel at most as much again.
MAX_BYTES_PER_PIXEL = 6
MAX_GROUPS = 10


def decode_rvl(data: NDArray[np.uint8], pixels: int) -> NDArray[np.uint16]:
    """Decode the samples of an image.

    Args:
        data: [B] uint8, without the sizes that stand before it.
        pixels: how many are wanted.

    Returns:
        [pixels] uint16.

    Raises:
        ImageError: damaged, or cut short.
    """
    if len(data) > MAX_BYTES_PER_PIXEL * pixels + GROUPS_IN_WORD:
        raise ImageError(f"RVL: {len(data)} bytes are too many for {pixels} pixels")
    numbers = _numbers(data)
    samples = np.zeros(pixels, np.uint16)
    is_step, is_known = np.zeros(len(numbers), np.bool_), np.zeros(pixels, np.bool_)
    at = pixel = 0
    while pixel < pixels:
        if at + 1 >= len(numbers):
            raise ImageError(f"RVL: cut short after {pixel} of {pixels} pixels")
        zeros, nonzeros = int(numbers[at]), int(numbers[at + 1])
        first, at = pixel + zeros, at + 2
        pixel = first + nonzeros
        if pixel > pixels or at + nonzeros > len(numbers):
            raise ImageError(f"RVL: damaged, a run of {zeros} + {nonzeros} of {pixels} pixels")
        is_known[first:pixel] = True
        is_step[at : at + nonzeros] = True
        at += nonzeros
    zigzag = numbers[is_step]
    steps = (zigzag >> 1) ^ -(zigzag & 1)
    samples[is_known] = np.cumsum(steps).astype(np.uint16)  # modulo 2**16, as the coder counts
    return samples


def _numbers(data: NDArray[np.uint8]) -> NDArray[np.int64]:
    words = np.frombuffer(data[: len(data) // 4 * 4].tobytes(), "<u4")
    groups = np.empty((len(words), GROUPS_IN_WORD), np.uint8)
    for i in range(GROUPS_IN_WORD):
        groups[:, i] = (words >> np.uint32(4 * (GROUPS_IN_WORD - 1 - i))) & np.uint32(0xF)
    flat: NDArray[np.uint8] = groups.ravel()
    ends = np.flatnonzero(flat < 8)
    if not len(ends):
        return np.zeros(0, np.int64)
    flat = flat[: ends[-1] + 1]
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1
    if lengths.max() > MAX_GROUPS:
        raise ImageError("RVL: damaged, a number without an end")
    place = np.arange(len(flat)) - np.repeat(starts, lengths)
    return np.add.reduceat((flat & 7).astype(np.int64) << (3 * place), starts)
