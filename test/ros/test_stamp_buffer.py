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
    assert items.watch(135, SLOP_NS).find() == 1
    assert items.watch(150, SLOP_NS).find() == 2
    assert items.watch(181, SLOP_NS).find() is None
    assert items.newest() == 2
    assert kept().watch(0, SLOP_NS).find() is None


def test_of_equally_near_ones_the_newest():
    assert kept(100, 100, 100).watch(100, SLOP_NS).find() == 2


def test_starts_anew_when_time_jumps_back():
    items = kept(5 * JUMP_NS, 5 * JUMP_NS + 1, 10)
    assert items.watch(5 * JUMP_NS, SLOP_NS).find() is None
    assert items.watch(10, SLOP_NS).find() == 2


def test_waits_for_what_comes_late():
    items = kept(100)
    found: list = []
    match = items.watch(200, SLOP_NS)
    asking = threading.Thread(target=lambda: found.append(match.find(30.0)))
    asking.start()
    items.put(170, 7)
    items.put(190, 8)
    asking.join(30)
    assert found == [8]


def test_a_match_outlasts_the_buffer_and_takes_what_is_nearer():
    items = kept(90)
    match = items.watch(100, SLOP_NS)
    for number, stamp_ns in enumerate(range(101, 101 + 10 * BUFFER_SIZE), start=1):
        items.put(stamp_ns, number)
    assert match.find() == 1
    assert match.offset_ns == 1
    assert items.watch(100, SLOP_NS).find() is None


def test_does_not_wait_for_what_has_gone_by():
    """The wait has no end here: it returns because a later item came."""
    items = kept(100, 300)
    match = items.watch(200, SLOP_NS)
    assert match.find(float("inf")) is None
    assert match.offset_ns == 100


@given(st.lists(st.integers(-(10**12), 10**12), min_size=1, max_size=50))
def test_the_last_is_always_found_whatever_the_clock_did(stamps_ns):
    items = kept(*stamps_ns)
    assert len(items) <= BUFFER_SIZE
    assert items.watch(stamps_ns[-1], 0).find() == len(stamps_ns) - 1
