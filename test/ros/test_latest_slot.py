from __future__ import annotations

import threading

from amodal_perception.ros.latest_slot import LatestSlot


def test_newer_replaces_older_and_says_so():
    slot: LatestSlot[str] = LatestSlot()
    assert not slot.put("first")
    assert slot.put("second")
    assert slot.take() == "second"
    assert not slot.put("third")


def test_take_waits_for_put():
    slot: LatestSlot[int] = LatestSlot()
    taken: list = []
    worker = threading.Thread(target=lambda: taken.append(slot.take()))
    worker.start()
    slot.put(1)
    worker.join(10)
    assert taken == [1]


def test_close_wakes_and_drops():
    slot: LatestSlot[int] = LatestSlot()
    taken: list = []
    worker = threading.Thread(target=lambda: taken.append(slot.take()))
    worker.start()
    slot.close()
    worker.join(10)
    assert taken == [None]
    slot.put(1)
    assert slot.take() is None


def test_urgent_items_come_first_and_are_few():
    slot: LatestSlot[str] = LatestSlot()
    slot.put("camera")
    assert slot.put_urgent("first")
    assert slot.put_urgent("second")
    assert not slot.put_urgent("third")
    assert [slot.take() for _ in range(3)] == ["first", "second", "camera"]


def test_clear_and_close_tell_what_they_drop():
    slot: LatestSlot[str] = LatestSlot()
    slot.put("camera")
    assert slot.clear()
    assert not slot.clear()
    slot.put_urgent("first")
    assert slot.close() == ["first"]
    assert not slot.put_urgent("late")
