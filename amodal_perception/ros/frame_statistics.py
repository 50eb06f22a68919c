"""Statistics of images: received, dropped and published, with latency percentiles."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

WINDOW = 100
"""Number of the last scenes over whose times percentiles are taken."""


@dataclass(frozen=True)
class Percentiles:
    """Percentiles over the last scenes, milliseconds."""

    p50: float
    p95: float
    largest: float

    @classmethod
    def of(cls, values_ms: list[float]) -> Percentiles:
        """Compute them; NaN of no values."""
        if not values_ms:
            return cls(float("nan"), float("nan"), float("nan"))
        p50, p95, largest = np.percentile(values_ms, [50, 95, 100])
        return cls(float(p50), float(p95), float(largest))

    def __str__(self) -> str:
        return f"{self.p50:.1f} (p95 {self.p95:.1f}, max {self.largest:.1f})"


@dataclass(frozen=True)
class StatisticsReport:
    """Counts since the node began and since the last report, with times.

    Attributes:
        total: images by what happened to them.
        recent: the same, since the report before.
        period_s: how long that was.
        stages_ms: times by stage.
        processing_ms: from an image's arrival to its scene's departure.
        cycle_ms: from one scene to the next.
        age_ms: from exposure, by the image's stamp, to the scene's departure.
        reasons: the last reason by cause of dropping.
        arrival_age_s: how old the last image was when it arrived, by its stamp and the ROS clock;
            NaN before one came.
    """

    total: Counter[str]
    recent: Counter[str]
    period_s: float
    stages_ms: Mapping[str, Percentiles]
    processing_ms: Percentiles
    cycle_ms: Percentiles
    age_ms: Percentiles
    reasons: Mapping[str, str] = field(default_factory=dict)
    arrival_age_s: float = float("nan")

    def rate_hz(self, event: str) -> float:
        """Rate of an event since the last report, 1/s."""
        return self.recent[event] / self.period_s if self.period_s > 0 else 0.0


DROPS = {
    "overtaken": "overtaken by a newer one",
    "too_old": "older than max_frame_age",
    "undecodable": "undecodable",
    "failed": "failed",
}
"""Causes of dropped images, and how messages name them."""


class FrameStatistics:
    """Counters and times of images, thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._total: Counter[str] = Counter()
        self._before: Counter[str] = Counter()
        self._reported_s = time.monotonic()
        self._reasons: dict[str, str] = {}
        self._stages_ms: dict[str, deque[float]] = {}
        self._processing_ms: deque[float] = deque(maxlen=WINDOW)
        self._cycle_ms: deque[float] = deque(maxlen=WINDOW)
        self._age_ms: deque[float] = deque(maxlen=WINDOW)
        self._published_s: float | None = None
        self._arrival_age_s = float("nan")

    def count(self, event: str, reason: str = "") -> None:
        """Count an event, and keep its reason."""
        with self._lock:
            self._total[event] += 1
            if reason:
                self._reasons[event] = reason

    def note_arrival_age(self, age_s: float) -> None:
        """Keep how old an image was when it arrived."""
        self._arrival_age_s = age_s

    def count_scene(self, stages_ms: Mapping[str, float], received_s: float, age_s: float) -> None:
        """Count a published scene.

        Args:
            stages_ms: times by stage.
            received_s: ``time.monotonic()`` at the image's arrival.
            age_s: ROS time now minus the image's stamp.
        """
        now_s = time.monotonic()
        with self._lock:
            self._total["published"] += 1
            for name, ms in stages_ms.items():
                self._stages_ms.setdefault(name, deque(maxlen=WINDOW)).append(ms)
            self._processing_ms.append((now_s - received_s) * 1e3)
            self._age_ms.append(age_s * 1e3)
            if self._published_s is not None:
                self._cycle_ms.append((now_s - self._published_s) * 1e3)
            self._published_s = now_s

    def report(self) -> StatisticsReport:
        """Report, and begin a new period."""
        with self._lock:
            now_s = time.monotonic()
            recent = self._total - self._before
            period_s = now_s - self._reported_s
            self._before, self._reported_s = self._total.copy(), now_s
            return StatisticsReport(
                total=self._total.copy(),
                recent=recent,
                period_s=period_s,
                stages_ms={n: Percentiles.of(list(v)) for n, v in self._stages_ms.items()},
                processing_ms=Percentiles.of(list(self._processing_ms)),
                cycle_ms=Percentiles.of(list(self._cycle_ms)),
                age_ms=Percentiles.of(list(self._age_ms)),
                reasons=dict(self._reasons),
                arrival_age_s=self._arrival_age_s,
            )

    def summary(self) -> str:
        """Summarise all images so far in one line."""
        with self._lock:
            dropped = ", ".join(f"{self._total[cause]} {text}" for cause, text in DROPS.items())
            return (
                f"{self._total['received']} images received, "
                f"{self._total['published']} scenes published; dropped: {dropped}"
            )
