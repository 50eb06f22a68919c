from __future__ import annotations

import threading

from hypothesis import given
from hypothesis import strategies as st

from amodal_perception.ros.stamp_buffer import BUFFER_SIZE, JUMP_NS, StampBuffer

SLOP_NS = 20


def kept(*stamps_ns: int) -> StampBuffer[int]:
    items: StampBuffer[int] = StampBuffer()
    for number, stamp_ns in enumerate(stamps_ns):
        items.put(stamp_ns, number)
    return items


def test_finds_the_nearest_within_the_slop():
    items = kept(100, 130, 160)
    assert items.find(135, SLOP_NS) == 1
    assert items.find(150, SLOP_NS) == 2
    assert items.find(181, SLOP_NS) is None
    assert items.newest() == 2
    assert kept().find(0, SLOP_NS) is None


def test_of_equally_near_ones_the_newest():
    assert kept(100, 100, 100).find(100, SLOP_NS) == 2


def test_starts_anew_when_time_jumps_back():
    items = kept(5 * JUMP_NS, 5 * JUMP_NS + 1, 10)
    assert items.find(5 * JUMP_NS, SLOP_NS) is None
    assert items.find(10, SLOP_NS) == 2


def test_waits_for_what_comes_late():
    items = kept(100)
    found: list = []
    asking = threading.Thread(target=lambda: found.append(items.find(200, SLOP_NS, 30.0)))
    asking.start()
    items.put(300, 7)
    items.put(190, 8)
    asking.join(30)
    assert found == [8]


@given(st.lists(st.integers(-(10**12), 10**12), min_size=1, max_size=50))
def test_the_last_is_always_found_whatever_the_clock_did(stamps_ns):
    items = kept(*stamps_ns)
    assert len(items) <= BUFFER_SIZE
    assert items.find(stamps_ns[-1], 0) == len(stamps_ns) - 1
