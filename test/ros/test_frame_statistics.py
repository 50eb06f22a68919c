"""Counting and timing of frames, for the diagnostics."""

from __future__ import annotations

import time
from collections import Counter

from amodal_perception.ros.frame_statistics import FrameStatistics


def test_health_counts_times_and_forgets():
    statistics = FrameStatistics()
    statistics.count("received")
    statistics.count("failed", "why")
    statistics.count_scene({"engine": 40.0}, received_s=time.monotonic() - 1, age_s=2.0)
    first, second = statistics.report(), statistics.report()
    assert first.recent == Counter(received=1, failed=1, published=1)
    assert not +second.recent
    assert second.total == first.total
    assert first.reasons == {"failed": "why"}
    assert first.stages_ms["engine"].p50 == 40.0
    assert first.age_ms.largest == 2000.0
    assert first.processing_ms.p50 >= 1000.0
    assert statistics.summary().startswith(
        "1 images received, 1 scenes published; dropped: 0 overtaken"
    )
