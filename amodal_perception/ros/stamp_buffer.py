"""Approximate time synchronisation: the message of another topic nearest to a stamp."""

from __future__ import annotations

import threading
import weakref
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")

BUFFER_SIZE = 10
# A stamp this much older than the newest one is no late message: time has started anew.
JUMP_NS = 1_000_000_000


class Match(Generic[T]):
    """The item nearest to one stamp, of those that were there and all that come.

    Made by `StampBuffer.watch`. It holds what it found however far the buffer moves on, so a slow
    model does not cost an image its depth.

    Attributes:
        offset_ns: stamp of the nearest item so far minus the one wanted, however far; None before
            any came.
    """

    def __init__(self, changed: threading.Condition, stamp_ns: int, slop_ns: int) -> None:
        self.offset_ns: int | None = None
        self._changed, self._stamp_ns, self._slop_ns = changed, stamp_ns, slop_ns
        self._item: T | None = None
        self._is_past = False

    def offer(self, stamp_ns: int, item: T) -> None:
        """Take an item where it is as near as the nearest so far; under the buffer's lock."""
        offset_ns = stamp_ns - self._stamp_ns
        if self.offset_ns is None or abs(offset_ns) <= abs(self.offset_ns):
            self.offset_ns = offset_ns
            self._item = item if abs(offset_ns) <= self._slop_ns else None
        self._is_past |= self._slop_ns < offset_ns < JUMP_NS

    def find(self, timeout_s: float = 0.0) -> T | None:
        """Return the nearest item within the slop.

        Args:
            timeout_s: how long to wait for one; the wait ends when a later one has come.

        Returns:
            The nearest; of equally near ones the newest; None where none is near enough.
        """
        with self._changed:
            if timeout_s:
                self._changed.wait_for(lambda: self._item is not None or self._is_past, timeout_s)
            return self._item


class StampBuffer(Generic[T]):
    """The newest few items of one topic, found by the nearest stamp; thread-safe.

    Unlike in message_filters' cache, what is old is decided by arrival and never by stamps, so a
    clock that jumps, forward or back, costs at most the items that were kept.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._items: deque[tuple[int, T]] = deque(maxlen=BUFFER_SIZE)
        # Weak: an image that a newer one overtakes takes its match along.
        self._matches: weakref.WeakSet[Match[T]] = weakref.WeakSet()

    def __len__(self) -> int:
        return len(self._items)

    def put(self, stamp_ns: int, item: T) -> None:
        """Keep an item; the oldest makes room."""
        with self._changed:
            if self._items and stamp_ns < max(s for s, _ in self._items) - JUMP_NS:
                self._items.clear()
            self._items.append((stamp_ns, item))
            for match in self._matches:
                match.offer(stamp_ns, item)
            self._changed.notify_all()

    def clear(self) -> None:
        """Drop all items."""
        with self._changed:
            self._items.clear()

    def newest(self) -> T | None:
        """Return the item received last."""
        with self._changed:
            return self._items[-1][1] if self._items else None

    def watch(self, stamp_ns: int, slop_ns: int) -> Match[T]:
        """Look for the item nearest to a stamp, from now on.

        Args:
            stamp_ns: the stamp wanted.
            slop_ns: largest difference allowed.
        """
        match: Match[T] = Match(self._changed, stamp_ns, slop_ns)
        with self._changed:
            for item_stamp_ns, item in self._items:
                match.offer(item_stamp_ns, item)
            self._matches.add(match)
        return match
