"""What happened to the images: counted and timed by any thread, summed up once a second."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

REMEMBERED = 100
"""Scenes whose times are remembered."""


@dataclass(frozen=True)
class Percentiles:
    """Of the last scenes, milliseconds."""

    p50: float
    p95: float
    largest: float

    @classmethod
    def of(cls, values_ms: list[float]) -> Percentiles:
        """Sum up; not a number where there is nothing."""
        if not values_ms:
            return cls(float("nan"), float("nan"), float("nan"))
        p50, p95, largest = np.percentile(values_ms, [50, 95, 100])
        return cls(float(p50), float(p95), float(largest))

    def __str__(self) -> str:
        return f"{self.p50:.1f} (p95 {self.p95:.1f}, max {self.largest:.1f})"


@dataclass(frozen=True)
class Report:
    """Sums since the node began, and since the report before.

    Attributes:
        total: images by what happened to them.
        recent: the same, since the report before.
        period_s: how long that was.
        stages_ms: times by stage.
        processing_ms: from an image's arrival to its scene's departure.
        cycle_ms: from one scene to the next.
        age_ms: from exposure, by the image's stamp, to the scene's departure.
        reasons: the last reason by cause of dropping.
    """

    total: Counter[str]
    recent: Counter[str]
    period_s: float
    stages_ms: Mapping[str, Percentiles]
    processing_ms: Percentiles
    cycle_ms: Percentiles
    age_ms: Percentiles
    reasons: Mapping[str, str] = field(default_factory=dict)

    def rate_hz(self, event: str) -> float:
        """How often something happened, lately."""
        return self.recent[event] / self.period_s if self.period_s > 0 else 0.0


DROPS = {
    "overtaken": "overtaken by a newer one",
    "too_old": "older than max_frame_age",
    "undecodable": "undecodable",
    "failed": "failed",
}
"""Why images are dropped, and how to say it."""


class Health:
    """Counters and stopwatches."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._total: Counter[str] = Counter()
        self._before: Counter[str] = Counter()
        self._reported_s = time.monotonic()
        self._reasons: dict[str, str] = {}
        self._stages_ms: dict[str, deque[float]] = {}
        self._processing_ms: deque[float] = deque(maxlen=REMEMBERED)
        self._cycle_ms: deque[float] = deque(maxlen=REMEMBERED)
        self._age_ms: deque[float] = deque(maxlen=REMEMBERED)
        self._published_s: float | None = None

    def count(self, event: str, reason: str = "") -> None:
        """Count an event, and keep the reason why."""
        with self._lock:
            self._total[event] += 1
            if reason:
                self._reasons[event] = reason

    def count_scene(self, stages_ms: Mapping[str, float], received_s: float, age_s: float) -> None:
        """Count a published scene.

        Args:
            stages_ms: what took how long.
            received_s: ``time.monotonic()`` at the image's arrival.
            age_s: ROS time now minus the image's stamp.
        """
        now_s = time.monotonic()
        with self._lock:
            self._total["published"] += 1
            for name, ms in stages_ms.items():
                self._stages_ms.setdefault(name, deque(maxlen=REMEMBERED)).append(ms)
            self._processing_ms.append((now_s - received_s) * 1e3)
            self._age_ms.append(age_s * 1e3)
            if self._published_s is not None:
                self._cycle_ms.append((now_s - self._published_s) * 1e3)
            self._published_s = now_s

    def report(self) -> Report:
        """Sum up, and begin a new period."""
        with self._lock:
            now_s = time.monotonic()
            recent = self._total - self._before
            period_s = now_s - self._reported_s
            self._before, self._reported_s = self._total.copy(), now_s
            return Report(
                total=self._total.copy(),
                recent=recent,
                period_s=period_s,
                stages_ms={n: Percentiles.of(list(v)) for n, v in self._stages_ms.items()},
                processing_ms=Percentiles.of(list(self._processing_ms)),
                cycle_ms=Percentiles.of(list(self._cycle_ms)),
                age_ms=Percentiles.of(list(self._age_ms)),
                reasons=dict(self._reasons),
            )

    def tally(self) -> str:
        """Say in one line what happened to all images so far."""
        with self._lock:
            dropped = ", ".join(f"{self._total[cause]} {text}" for cause, text in DROPS.items())
            return (
                f"{self._total['received']} images received, "
                f"{self._total['published']} scenes published; dropped: {dropped}"
            )
