"""Occlusion order: accuracy, precision, recall, F1 (PCNet, InstaOrder), and WHDR of depth order.

Predicted instances are first matched to true ones (score and amodal IoU of 0.5 at least, same
class). ``matched_pairs`` is over pairs of true objects that were both found: with true masks as
predictions, that is all of them, and the figures are the papers' own. ``end_to_end`` is over all
pairs: one with a missed object counts as wrong, an edge at a false alarm as a wrong edge.
Objects that are ignored, and edges that name them, take no part.

- ``order``: edges of all images together, and the share of pairs with exactly the true edges;
- ``pcnet`` (Zhan et al., CVPR 2020): accuracy over all pairs and over those occluded in truth.
  It has no mutual occlusion: of two that hide each other, the one that covers more is in front.
- ``instaorder`` (Lee and Park, CVPR 2022): precision, recall and F1 of each image's order
  matrix, 1 where there is nothing to divide by, then the mean over images; mutual occlusion is
  two entries, and left out in ``*_no_mutual``. WHDR is the weighted share of depth orders that
  disagree, by image and then averaged, for pairs whose depth ranges are apart (``distinct``),
  that overlap, or all.

Depth orders are rows ``{closer_id, farther_id, equal, overlap, count}`` of the list
``depth_orders`` of either file; `equal` depth, `overlap` of the ranges, and `count`, the number
of annotators' tries, which weighs 2 / count, may be left out (false, false, 2).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from amodal_perception.evaluation.comparison import Comparison, Float64, Int64, Objects, shared_px
from amodal_perception.evaluation.one_to_one_matching import OneToOneMatches, match_one_to_one
from amodal_perception.evaluation.weighted_metrics import Ratio, WeightedMetrics, mean_over_images
from amodal_perception.storage.amodal_coco import Json
from amodal_perception.structures import BoolArray

SCOPES = ("matched_pairs", "end_to_end")
FORTH, BACK, MUTUAL = 1, 2, 3
"""States of a pair (i, j), i < j: i hides j, j hides i, both."""


def order(comparison: Comparison) -> WeightedMetrics:
    """Measure precision, recall, F1 and accuracy of the edges of all images together."""
    figures: WeightedMetrics = {}
    for scope in SCOPES:
        pairs = _Pairs.of(comparison, scope)
        hits, predicted, true = pairs.edge_counts()
        right = pairs.true_state == pairs.predicted_state
        occluded = pairs.true_state > 0
        figures |= {
            f"{scope}.accuracy": pairs.share(right & occluded, occluded),
            f"{scope}.matrix_accuracy": Ratio(
                2 * pairs.judged - pairs.by_image(pairs.wrong_entries()), 2 * pairs.all
            ),
            f"{scope}.precision": Ratio(hits, predicted),
            f"{scope}.recall": Ratio(hits, true),
            f"{scope}.F1": Ratio(2 * hits, predicted + true),
        }
        if true.any() and not predicted.any():
            figures[f"{scope}.precision"] = Ratio(hits, true)  # no edge is no right edge: 0
    return figures


def pcnet(comparison: Comparison) -> WeightedMetrics:
    """Measure PCNet's order accuracies."""
    figures: WeightedMetrics = {}
    for scope in SCOPES:
        pairs = _Pairs.of(comparison, scope)
        true_state = _one_way(pairs, pairs.true_state, comparison.truth, None)
        predicted_state = _one_way(
            pairs, pairs.predicted_state, comparison.predictions, pairs.prediction_of
        )
        right = true_state == predicted_state
        occluded = true_state > 0
        wrong = pairs.by_image(~right & pairs.is_judged)
        figures |= {
            f"{scope}.accuracy_all": Ratio(pairs.judged - wrong, pairs.all),
            f"{scope}.accuracy_occluded": pairs.share(right & occluded, occluded),
        }
    return figures


def instaorder(comparison: Comparison) -> WeightedMetrics:
    """Measure InstaOrder's precision, recall and F1 of occlusion order, and WHDR."""
    figures: WeightedMetrics = {}
    for scope in SCOPES:
        pairs = _Pairs.of(comparison, scope)
        if len(comparison.true_edges):
            for suffix, kept in (("", None), ("_no_mutual", pairs.true_state != MUTUAL)):
                hits, predicted, true = pairs.edge_counts(kept)
                judged = pairs.objects > 0
                for name, top, bottom in (
                    ("precision", hits, predicted),
                    ("recall", hits, true),
                    ("F1", 2 * hits, predicted + true),
                ):
                    values = np.where(bottom > 0, top / np.maximum(bottom, 1), 1.0)
                    values[~judged] = np.nan
                    figures[f"{scope}.{name}{suffix}"] = mean_over_images(values)
        figures |= {f"{scope}.{name}": value for name, value in _whdr(comparison, pairs).items()}
    return figures


@dataclass(frozen=True, eq=False)
class _Pairs:
    """The K pairs of true objects with an edge in truth or prediction.

    Attributes:
        first, second: [K] int64 true objects, first < second.
        true_state, predicted_state: [K] 0, `FORTH`, `BACK` or `MUTUAL`.
        is_judged: [K] bool, both were found; the others are wrong whatever their states.
        image: [K] image of each pair.
        objects: [I] number of true objects in scope.
        all: [I] number of their pairs.
        judged: [I] number of the pairs that were both found.
        stray_edges: [I] number of predicted edges at a false alarm.
        in_scope: [T] bool, true objects in scope.
        prediction_of: [T] the prediction of each true object, or -1.
    """

    first: Int64
    second: Int64
    true_state: Int64
    predicted_state: Int64
    is_judged: BoolArray
    image: Int64
    objects: Float64
    all: Float64
    judged: Float64
    stray_edges: Float64
    in_scope: BoolArray
    prediction_of: Int64

    @classmethod
    def of(cls, comparison: Comparison, scope: str) -> _Pairs:
        truth, predictions = comparison.truth, comparison.predictions
        matches = match_one_to_one(comparison)
        counts = ~comparison.ignored
        prediction_of = np.full(len(truth), -1, np.int64)
        matched = np.flatnonzero(matches.true_of >= 0)
        prediction_of[matches.true_of[matched]] = matched
        found = counts & (prediction_of >= 0)
        in_scope = found if scope == "matched_pairs" else counts

        true_edges = comparison.true_edges
        true_edges = true_edges[in_scope[true_edges].all(axis=1)]
        edges = comparison.predicted_edges
        edges = edges[matches.is_sure[edges].all(axis=1)]
        ends = matches.true_of[edges]
        of_ignored = (np.append(comparison.ignored, False)[ends]).any(axis=1)
        stray = (ends < 0).any(axis=1) & ~of_ignored
        translated = ends[~stray & ~of_ignored]

        num_true = len(truth)
        keys, states = [], []
        for which in (true_edges, translated):
            forward = which[:, 0] < which[:, 1]
            keys.append(which.min(axis=1) * num_true + which.max(axis=1))
            states.append(np.where(forward, FORTH, BACK))
        known = np.unique(np.concatenate(keys))
        state = np.zeros((2, len(known)), np.int64)
        for row, key, value in zip(state, keys, states):
            np.bitwise_or.at(row, np.searchsorted(known, key), value)
        first, second = known // max(num_true, 1), known % max(num_true, 1)
        objects = comparison.sum_by_image(truth.image[in_scope])
        judged = comparison.sum_by_image(truth.image[found])
        strays = predictions.image[edges[stray, 0]]
        return cls(
            first=first,
            second=second,
            true_state=state[0],
            predicted_state=state[1],
            is_judged=found[first] & found[second],
            image=truth.image[first].astype(np.int64),
            objects=objects,
            all=objects * (objects - 1) / 2,
            judged=judged * (judged - 1) / 2,
            stray_edges=comparison.sum_by_image(strays) * (scope == "end_to_end"),
            in_scope=in_scope,
            prediction_of=prediction_of,
        )

    def by_image(self, values: np.ndarray) -> Float64:
        """Sum [K] values by image."""
        return np.bincount(self.image, values, minlength=len(self.objects)).astype(np.float64)

    def share(self, right: BoolArray, of: BoolArray) -> Ratio:
        """Divide the pairs that are right, and were judged, by the number of `of`."""
        return Ratio(self.by_image(right & self.is_judged), self.by_image(of))

    def wrong_entries(self) -> Int64:
        """[K] count of entries of the order matrices that differ, of pairs that were judged."""
        return _edges(self.true_state ^ self.predicted_state) * self.is_judged

    def edge_counts(self, kept: BoolArray | None = None) -> tuple[Float64, Float64, Float64]:
        """Count, by image, edges in both, in the prediction and in truth."""
        kept = np.ones(len(self.first), np.bool_) if kept is None else kept
        both = self.true_state & self.predicted_state
        hits, predicted, true = (
            self.by_image(_edges(state) * kept)
            for state in (both, self.predicted_state, self.true_state)
        )
        return hits, predicted + self.stray_edges, true


def edges_found(comparison: Comparison, matches: OneToOneMatches) -> BoolArray:
    """Return for each true edge, [E] bool, whether its ends and an edge between were found."""
    ends = matches.true_of[comparison.predicted_edges]
    ends = ends[(ends >= 0).all(axis=1)]
    num_true = len(comparison.truth)
    true, found = (edges[:, 0] * num_true + edges[:, 1] for edges in (comparison.true_edges, ends))
    return np.isin(true, found)


def _edges(state: Int64) -> Int64:
    """Count the edges of states of pairs."""
    return (state & FORTH) // FORTH + (state & BACK) // BACK


def _one_way(pairs: _Pairs, state: Int64, objects: Objects, index_of: Int64 | None) -> Int64:
    """Replace mutual occlusion by that of the object which covers more of the other."""
    state = state.copy()
    for k in np.flatnonzero(state == MUTUAL):
        i, j = (
            end if index_of is None else index_of[end] for end in (pairs.first[k], pairs.second[k])
        )
        i_over_j = shared_px(objects.visible[i], objects.amodal[j])
        j_over_i = shared_px(objects.visible[j], objects.amodal[i])
        state[k] = FORTH if i_over_j >= j_over_i else BACK
    return state


def _whdr(comparison: Comparison, pairs: _Pairs) -> WeightedMetrics:
    """Measure the weighted human disagreement rate of depth orders."""
    true_rows, predicted_rows = comparison.depth_orders
    true_index = {int(number): i for i, number in enumerate(comparison.truth.ids)}
    said = _relations(predicted_rows)
    table = []  # image, disagrees, weight, ranges overlap, equal depth
    for row in true_rows:
        ends = [true_index[row[key]] for key in ("closer_id", "farther_id")]
        if not pairs.in_scope[ends].all():
            continue
        found = pairs.prediction_of[ends]
        a, b = comparison.predictions.ids[found].tolist() if (found >= 0).all() else (-1, -1)
        equal = bool(row.get("equal", False))
        wrong = said.get((a, b)) != ("equal" if equal else "closer")
        overlap = bool(row.get("overlap", False))
        image_of = comparison.truth.image[ends[0]]
        table.append((image_of, wrong, 2 / row.get("count", 2), overlap, equal))
    if not table:
        return {}
    image, disagrees, weight, overlaps, is_equal = (np.array(column) for column in zip(*table))
    figures: WeightedMetrics = {}
    anything = np.ones(len(table), np.bool_)
    for ranges, of_ranges in (("distinct", ~overlaps), ("overlap", overlaps), ("all", anything)):
        for kind, of_kind in (("_eq", is_equal), ("_neq", ~is_equal), ("", anything)):
            chosen = of_ranges & of_kind
            if chosen.any():
                total = comparison.sum_by_image(image[chosen], weight[chosen])
                against = comparison.sum_by_image(image[chosen], (weight * disagrees)[chosen])
                rates = np.where(total > 0, against / np.where(total > 0, total, 1), np.nan)
                figures[f"WHDR_{ranges}{kind}"] = mean_over_images(rates)
    return figures


def _relations(rows: list[Json]) -> dict[tuple[int, int], str]:
    """Return the relation of the first of two ids to the second, for both orders of the two."""
    said = {}
    for row in rows:
        a, b = row["closer_id"], row["farther_id"]
        is_equal = bool(row.get("equal", False))
        said[a, b] = "equal" if is_equal else "closer"
        said[b, a] = "equal" if is_equal else "farther"
    return said
