"""How well the occlusion order is recovered, given matched instances."""

from __future__ import annotations

from collections.abc import Iterable

from amodal_perception.evaluation.matching import ImageMatches


def order_metrics(matches: Iterable[ImageMatches]) -> dict[str, float]:
    """Measure the order over all images.

    ``end_to_end`` counts edges: a predicted edge is right when both its ends are matched and the
    truth has the edge between them; a true edge at an object that was missed is a missed edge.
    ``matched_pairs.accuracy`` asks only about pairs that were both found and of which, in truth,
    at least one hides the other: the share where exactly the true edges were predicted.

    Returns:
        Figures 0..1 by name; those that the truth says nothing about are left out.
    """
    hits = predicted = true = pairs_right = pairs = 0
    for image in matches:
        translated = {
            (int(image.true_of[i]), int(image.true_of[j])) for i, j in image.predicted_edges
        }
        hits += len(translated & image.true_edges)
        predicted += len(image.predicted_edges)
        true += len(image.true_edges)
        found = set(image.true_of.tolist())
        for a, b in {(min(edge), max(edge)) for edge in image.true_edges}:
            if a in found and b in found:
                pairs += 1
                both = {(a, b), (b, a)}
                pairs_right += (both & translated) == (both & image.true_edges)
    metrics: dict[str, float] = {}
    if true:
        metrics["order.end_to_end.precision"] = hits / predicted if predicted else 0.0
        metrics["order.end_to_end.recall"] = hits / true
        metrics["order.end_to_end.F1"] = 2 * hits / (predicted + true)
    if pairs:
        metrics["order.matched_pairs.accuracy"] = pairs_right / pairs
    return metrics
