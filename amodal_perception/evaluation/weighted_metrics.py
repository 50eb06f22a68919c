"""Metrics as functions of image weights, so that the bootstrap can resample images.

A `WeightedMetric` is a function of the number of times that each image counts, [I]; None counts
each once. It gives NaN where there is nothing to measure.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Weights = NDArray[np.float64]
WeightedMetric = Callable[["Weights | None"], float]
WeightedMetrics = dict[str, WeightedMetric]
"""By name, ``<target>.<metric>``."""

NAN = float("nan")


@dataclass(frozen=True, eq=False)
class Ratio:
    """A sum over images over another: [I] numerators, [I] denominators."""

    numerator: NDArray
    denominator: NDArray

    def __call__(self, weights: Weights | None = None) -> float:
        """Compute it; NaN where the denominators sum to 0."""
        top, bottom = (total(v, weights) for v in (self.numerator, self.denominator))
        return top / bottom if bottom else NAN


@dataclass(frozen=True, eq=False)
class MeanOf:
    """The unweighted mean of other metrics, of those that are not NaN."""

    parts: Sequence[WeightedMetric]

    def __call__(self, weights: Weights | None = None) -> float:
        """Compute it; NaN where all parts are."""
        values = [value for part in self.parts if not np.isnan(value := part(weights))]
        return float(np.mean(values)) if values else NAN


@dataclass(frozen=True, eq=False)
class Harmonic:
    """The harmonic mean of two metrics, such as F1 of precision and recall."""

    a: WeightedMetric
    b: WeightedMetric

    def __call__(self, weights: Weights | None = None) -> float:
        """Compute it; 0 where both are 0."""
        a, b = self.a(weights), self.b(weights)
        return 2 * a * b / (a + b) if a + b else a + b


def mean_over_images(values: NDArray) -> Ratio:
    """Average [I] values over images; NaN marks images that take no part."""
    known = ~np.isnan(values)
    return Ratio(np.where(known, values, 0), known)


def total(values: NDArray, weights: Weights | None) -> float:
    """Sum [I] values, each as often as its image counts."""
    return float(values.sum() if weights is None else values @ weights)
