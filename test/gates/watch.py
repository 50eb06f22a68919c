"""What all gates need: figures with limits, memory of a process, percentiles."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Figure:
    """One measured number.

    Attributes:
        name: what was measured, with its unit.
        value: the number.
        limit: the largest that passes; None where the number only informs.
        at_least: the smallest that passes.
    """

    name: str
    value: float
    limit: float | None = None
    at_least: float | None = None

    @property
    def passes(self) -> bool:
        """Whether the number is within its limits; NaN never is."""
        return (self.limit is None or self.value <= self.limit) and (
            self.at_least is None or self.value >= self.at_least
        )


def conclude(gate: str, settings: dict, figures: Sequence[Figure], out_dir: Path) -> int:
    """Print the figures, write them as JSON, and return the exit code."""
    width = max(len(figure.name) for figure in figures)
    for figure in figures:
        limits = [f"at most {figure.limit:g}"] if figure.limit is not None else []
        limits += [f"at least {figure.at_least:g}"] if figure.at_least is not None else []
        verdict = "" if not limits else "  ok" if figure.passes else "  MISSED"
        print(f"{figure.name:<{width}}  {figure.value:>10.4g}  {', '.join(limits)}{verdict}")
    out_dir.mkdir(parents=True, exist_ok=True)
    document = {
        "gate": gate,
        "settings": settings,
        "figures": {figure.name: figure.value for figure in figures},
        "passed": all(figure.passes for figure in figures),
    }
    (out_dir / f"{gate}.json").write_text(json.dumps(document, indent=2) + "\n")
    return 0 if document["passed"] else 1


def rss_mb(pid: int) -> float:
    """Memory of a process that is in use, megabytes."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * 4096 / 1e6


def growth(samples: Sequence[float]) -> float:
    """Return the median of the last fifth minus that of the second: the first is warming up."""
    fifth = max(len(samples) // 5, 1)
    return float(np.median(samples[-fifth:]) - np.median(samples[fifth : 2 * fifth]))


def percentile(values: Sequence[float], percent: float) -> float:
    """Return a percentile; not a number where there is nothing."""
    return float(np.percentile(values, percent)) if len(values) else float("nan")
