"""Shared-memory sample cache of a fixed size, for a process and the workers it forks.

Samples are requested in a new random order every epoch, so what was used last is not what will be
used next: whatever comes first is kept, and the rest is read again. A memory of half the data set
then serves half of the requests, where forgetting the oldest would serve fewer.
"""

from __future__ import annotations

import mmap
import multiprocessing
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


class SharedCache:
    """Bytes of numbered entries, written once and never changed.

    Processes forked from the one that made it see each other's entries (the workers of a
    DataLoader do); memory is taken as it fills, and only once for all of them.
    """

    def __init__(self, entries: int, budget_bytes: int) -> None:
        self._budget = budget_bytes
        self._room = mmap.mmap(-1, max(1, budget_bytes))
        table = np.frombuffer(mmap.mmap(-1, 8 * (2 * entries + 1)), np.int64)
        self._used = table[:1]
        self._places = table[1:].reshape(entries, 2)  # offset and length; 0 long: not there
        self._lock = multiprocessing.Lock()

    @property
    def used_bytes(self) -> int:
        """Tell how much is taken, at most the budget."""
        return int(self._used[0])

    def get(self, index: int) -> NDArray[np.uint8] | None:
        """Return an entry as a read-only view, or None."""
        with self._lock:
            offset, length = self._places[index].tolist()
        if length == 0:
            return None
        entry = np.frombuffer(self._room, np.uint8, length, offset)
        entry.flags.writeable = False
        return entry

    def put(self, index: int, parts: Sequence[NDArray]) -> None:
        """Keep the bytes of some arrays, one after the other, if there is room for all of them."""
        length = sum(part.nbytes for part in parts)
        with self._lock:
            start = self.used_bytes
            if self._places[index, 1] or start + length > self._budget:
                return
            self._used[0] += length
        offset = start
        for part in parts:
            self._room[offset : offset + part.nbytes] = part.tobytes()
            offset += part.nbytes
        with self._lock:
            self._places[index] = start, length
