"""Bootstrap confidence intervals: the figures over images resampled with replacement."""

from __future__ import annotations

import re

import numpy as np
from tqdm import tqdm

from amodal_perception.evaluation.weighted_metrics import WeightedMetrics

REPLICATES = 200
COVERAGE = 0.95
SEED = 0

_PRECISION_RECALL = re.compile(r"[._]A[PR]\w*$")
_HEADLINES = re.compile(
    r"coco\.\w+\.AP|coco\.amodal_mask\.AP50|orcnn\.(all|occluded)\.AP_\w+"
    r"|(vrsp|strict)\.amodal_mask\.AP_occ85|per_occlusion\.\w+\.amodal_mask_AP"
)


def intervals(
    metrics: WeightedMetrics, num_images: int, replicates: int = REPLICATES
) -> dict[str, tuple[float, float]]:
    """Return the lowest and highest value of each figure's 95 % interval.

    Each replicate draws as many images as there are, with replacement (percentile bootstrap).
    Objects of one image stay together, since they succeed and fail together. Of the many average
    precisions only the headlines have intervals: each of the others costs as much as these.

    Args:
        metrics: by name.
        num_images: I.
        replicates: number of draws; always the same ones.
    """
    chosen = {
        name: metric
        for name, metric in metrics.items()
        if not _PRECISION_RECALL.search(name) or _HEADLINES.fullmatch(name)
    }
    draws = np.random.default_rng(SEED).multinomial(
        num_images, np.full(num_images, 1 / num_images), size=replicates
    )
    values = np.full((replicates, len(chosen)), np.nan)
    for i, weights in enumerate(
        tqdm(draws.astype(np.float64), "confidence", unit="draw", delay=2, leave=False)
    ):
        values[i] = [metric(weights) for metric in chosen.values()]
    tail = (1 - COVERAGE) / 2
    bounds = {}
    for name, column in zip(chosen, values.T):
        known = column[~np.isnan(column)]
        if len(known):
            low, high = np.quantile(known, (tail, 1 - tail))
            bounds[name] = float(low), float(high)
    return bounds
