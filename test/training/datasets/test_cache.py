import multiprocessing

import numpy as np

from training.datasets.cache import SharedCache


def test_what_was_put_comes_back_until_the_room_is_taken():
    cache = SharedCache(entries=4, budget_bytes=100)
    assert cache.get(1) is None
    cache.put(1, [np.arange(5, dtype=np.int64), np.array([7], np.uint8)])
    assert cache.get(1)[:40].view(np.int64).tolist() == [0, 1, 2, 3, 4]
    assert cache.get(1)[40:].tolist() == [7]
    cache.put(2, [np.zeros(60, np.uint8)])  # one byte too many
    assert cache.get(2) is None
    cache.put(3, [np.ones(59, np.uint8)])
    assert cache.get(3).sum() == 59
    assert cache.used_bytes == 100


def test_first_writer_wins():
    cache = SharedCache(entries=1, budget_bytes=10)
    cache.put(0, [np.array([1], np.uint8)])
    cache.put(0, [np.array([2], np.uint8)])
    assert cache.get(0).tolist() == [1]
    assert cache.used_bytes == 1


def test_no_room_is_no_error():
    cache = SharedCache(entries=1, budget_bytes=0)
    cache.put(0, [np.array([1], np.uint8)])
    assert cache.get(0) is None


def _write(cache: SharedCache, first: int) -> None:
    for index in range(first, 200, 3):
        cache.put(index, [np.full(10, index, np.uint8)])


def test_forked_processes_share_entries():
    cache = SharedCache(entries=200, budget_bytes=1500)
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_write, args=(cache, first)) for first in (0, 1, 2, 2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    entries = {i: cache.get(i) for i in range(200)}
    found = {i: entry for i, entry in entries.items() if entry is not None}
    assert len(found) == 150
    assert cache.used_bytes == 1500
    assert all(entry.tolist() == [i] * 10 for i, entry in found.items())
