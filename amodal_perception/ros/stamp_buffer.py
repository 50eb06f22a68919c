"""Approximate time synchronisation: the message of another topic nearest to a stamp."""

from __future__ import annotations

import threading
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")

BUFFER_SIZE = 10
# A stamp this much older than the newest one is no late message: time has started anew.
JUMP_NS = 1_000_000_000


class StampBuffer(Generic[T]):
    """The newest few items of one topic, found by the nearest stamp; thread-safe.

    Unlike in message_filters' cache, what is old is decided by arrival and never by stamps, so a
    clock that jumps, forward or back, costs at most the items that were kept.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._items: deque[tuple[int, T]] = deque(maxlen=BUFFER_SIZE)

    def __len__(self) -> int:
        return len(self._items)

    def put(self, stamp_ns: int, item: T) -> None:
        """Keep an item; the oldest makes room."""
        with self._changed:
            if self._items and stamp_ns < max(s for s, _ in self._items) - JUMP_NS:
                self._items.clear()
            self._items.append((stamp_ns, item))
            self._changed.notify_all()

    def clear(self) -> None:
        """Drop all items."""
        with self._changed:
            self._items.clear()

    def newest(self) -> T | None:
        """Return the item received last."""
        with self._changed:
            return self._items[-1][1] if self._items else None

    def find(self, stamp_ns: int, slop_ns: int, timeout_s: float = 0.0) -> T | None:
        """Return the item whose stamp is nearest.

        Args:
            stamp_ns: the stamp wanted.
            slop_ns: largest difference allowed.
            timeout_s: how long to wait for it to arrive.

        Returns:
            The nearest; of equally near ones the newest; None where none is near enough.
        """
        with self._changed:
            if timeout_s:
                self._changed.wait_for(lambda: self._nearest(stamp_ns, slop_ns), timeout_s)
            found = self._nearest(stamp_ns, slop_ns)
        return found[1] if found else None

    def _nearest(self, stamp_ns: int, slop_ns: int) -> tuple[int, T] | None:
        nearest = min(
            reversed(self._items), key=lambda item: abs(item[0] - stamp_ns), default=None
        )
        if nearest is None or abs(nearest[0] - stamp_ns) > slop_ns:
            return None
        return nearest
