"""One-to-one matching of predicted to true instances at one IoU, for metrics of single objects.

Greedy, best score first, among predictions of a lowest score. COCO's matching at many IoUs is
`coco_matching`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from amodal_perception.evaluation.coco_matching import match_coco
from amodal_perception.evaluation.comparison import Comparison, Int64
from amodal_perception.structures import BoolArray, FloatArray, IntArray

MIN_SCORE = 0.5
MIN_IOU = 0.5


@dataclass(frozen=True, eq=False)
class ImagePairs:
    """Matched pairs of one image and how well they agree.

    Attributes:
        image_id: the image, in the truth.
        num_true: true objects that count.
        num_predicted: predictions with a score of `MIN_SCORE` at least that are not of an object
            that is ignored.
        occlusion_rate: [P] float32, 0..1, of the true object of every pair.
        amodal_iou: [P] float32, 0..1.
        visible_iou: [P] float32, 0..1.
        hidden_iou: [P] float32, 0..1; NaN where nothing of the true object is hidden.
    """

    image_id: int
    num_true: int
    num_predicted: int
    occlusion_rate: FloatArray
    amodal_iou: FloatArray
    visible_iou: FloatArray
    hidden_iou: FloatArray

    @property
    def quality(self) -> float:
        """Panoptic quality: the pairs' summed IoU over half of all objects and predictions."""
        everyone = (self.num_true + self.num_predicted) / 2
        return float(self.amodal_iou.sum()) / everyone if everyone else 1.0


@dataclass(frozen=True, eq=False)
class OneToOneMatches:
    """One-to-one matches of predictions and true objects over all images.

    By descending score, each sure prediction takes the free true object of its class with the
    highest amodal IoU, if that is `MIN_IOU` at least; ignored objects only where no other fits.

    Attributes:
        true_of: [P] int64, the true object of each prediction, or -1; may be an ignored one.
        pair: [M] int64, the place in `Comparison.overlaps` of every pair with an object that
            counts, by prediction.
        is_sure: [P] bool, score of `MIN_SCORE` at least.
    """

    true_of: Int64
    pair: Int64
    is_sure: BoolArray


def match_one_to_one(comparison: Comparison) -> OneToOneMatches:
    """Match predictions to true objects one to one; see `OneToOneMatches`."""
    is_sure = comparison.predictions.score >= MIN_SCORE
    matches = match_coco(
        comparison,
        comparison.overlaps.iou["amodal_mask"],
        ignored=comparison.ignored,
        left_out=~is_sure,
        iou_thresholds=np.array([MIN_IOU]),
    )
    true_of = matches.true_of[0]
    pairs = comparison.overlaps
    is_pair = (true_of[pairs.predicted] == pairs.true) & ~comparison.ignored[pairs.true]
    return OneToOneMatches(true_of, np.flatnonzero(is_pair), is_sure)


def pairs_by_image(comparison: Comparison, matches: OneToOneMatches) -> Iterator[ImagePairs]:
    """Yield the matched pairs of every image, and how well they agree."""
    truth, pairs = comparison.truth, comparison.overlaps
    p, t = pairs.predicted[matches.pair], pairs.true[matches.pair]
    num_true = comparison.sum_by_image(truth.image[~comparison.ignored])
    counted = matches.is_sure & ~np.append(comparison.ignored, False)[matches.true_of]
    num_predicted = comparison.sum_by_image(comparison.predictions.image[counted])
    values = {
        "occlusion_rate": truth.occlusion_rate[t],
        "amodal_iou": pairs.iou["amodal_mask"][matches.pair],
        "visible_iou": pairs.iou["visible_mask"][matches.pair],
        "hidden_iou": np.where(
            truth.hidden_px[t] > 0, pairs.iou["hidden_mask"][matches.pair], np.nan
        ),
    }
    starts = np.searchsorted(
        comparison.predictions.image[p], np.arange(len(comparison.image_ids) + 1)
    )
    for i, image_id in enumerate(comparison.image_ids):
        part = slice(starts[i], starts[i + 1])
        yield ImagePairs(
            image_id=image_id,
            num_true=int(num_true[i]),
            num_predicted=int(num_predicted[i]),
            **{name: value[part].astype(np.float32) for name, value in values.items()},
        )


def match_greedily(iou: NDArray[np.floating]) -> IntArray:
    """Match rows, in their order, to the best column that is still free.

    Args:
        iou: [N, M], 0..1.

    Returns:
        [N] int32, column of each row, or -1 where none reaches `MIN_IOU`.
    """
    free = iou.copy()
    column_of = np.full(len(iou), -1, np.int32)
    for row in range(len(free)):
        if free.shape[1] and free[row].max() >= MIN_IOU:
            column_of[row] = free[row].argmax()
            free[:, column_of[row]] = 0
    return column_of
