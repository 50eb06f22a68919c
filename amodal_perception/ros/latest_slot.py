"""A non-blocking queue of size one between two threads: the newest item replaces the last."""

from __future__ import annotations

import threading
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")

MAX_URGENT = 2


class LatestSlot(Generic[T]):
    """A queue of size one that never blocks the producer: a newer item replaces an older.

    A longer queue would make every frame as old as it is long; here the consumer always gets the
    newest, and the producer learns what was replaced. Urgent items are never replaced and taken
    first, so there is room for a few only.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._item: T | None = None
        self._urgent: deque[T] = deque()
        self._closed = False

    def put(self, item: T) -> bool:
        """Store an item; return whether it replaced one that nobody took."""
        with self._changed:
            replaced = self._item is not None
            self._item = item
            self._changed.notify()
        return replaced

    def put_urgent(self, item: T) -> bool:
        """Store an item to be taken before all others; return False where there is no room."""
        with self._changed:
            if self._closed or len(self._urgent) >= MAX_URGENT:
                return False
            self._urgent.append(item)
            self._changed.notify()
        return True

    def clear(self) -> bool:
        """Drop the newest item; return whether there was one."""
        with self._changed:
            had, self._item = self._item is not None, None
        return had

    def take(self) -> T | None:
        """Wait for an item and remove it; None once the slot is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._urgent or self._item is not None)
            if self._closed:
                return None
            if self._urgent:
                return self._urgent.popleft()
            item, self._item = self._item, None
            return item

    def close(self) -> list[T]:
        """Wake the consumer; from now on `take` gives None. Return the urgent items left."""
        with self._changed:
            self._closed = True
            left = list(self._urgent)
            self._urgent.clear()
            self._item = None
            self._changed.notify_all()
        return left
