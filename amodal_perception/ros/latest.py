"""A slot for the newest item between two threads."""

from __future__ import annotations

import threading
from typing import Generic, TypeVar

T = TypeVar("T")


class Latest(Generic[T]):
    """Holds one item; a newer one replaces it. One thread puts, another takes.

    A queue would make every frame as old as the queue is long; here the worker always gets the
    newest, and what it was too slow for is counted.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._item: T | None = None
        self._closed = False

    def put(self, item: T) -> bool:
        """Store an item; return whether it replaced one that nobody took."""
        with self._changed:
            replaced = self._item is not None
            self._item = item
            self._changed.notify()
        return replaced

    def take(self) -> T | None:
        """Wait for an item and remove it; None once the slot is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._item is not None)
            item, self._item = self._item, None
            return None if self._closed else item

    def close(self) -> None:
        """Wake whoever waits; from now on `take` gives None."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
