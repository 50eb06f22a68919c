"""COCO's average precision and recall on amodal masks, visible masks and amodal boxes.

pycocotools does the counting, so the figures are COCO's own. One thing is added: an object of
which nothing is seen cannot be asked for, so it is neither missed nor, when predicted all the
same, a false alarm. (COCO's ``iscrowd`` would do more: it would also forgive every wrong
detection inside the hidden object's outline.)
"""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from amodal_perception.amodal_coco import AmodalCoco, Json
from amodal_perception.errors import DatasetError
from amodal_perception.evaluation.regions import amodal_rle, area_px, box_xywh, visible_rle

TARGETS = ("amodal_mask", "visible_mask", "amodal_box")
MAX_DETECTIONS = 100


@dataclass(frozen=True, eq=False)
class CocoResult:
    """What COCO's protocol measured on one target, over K categories.

    Attributes:
        iou_thresholds: [T] float64, 0.50 to 0.95.
        recall_points: [R] float64, 0 to 1.
        precision: [T, R, K] float64, interpolated precision; -1 for categories without truth.
        recall: [T, K] float64, recall at `MAX_DETECTIONS` an image; -1 likewise.
    """

    iou_thresholds: NDArray[np.float64]
    recall_points: NDArray[np.float64]
    precision: NDArray[np.float64]
    recall: NDArray[np.float64]

    def curve(self, iou: float) -> NDArray[np.float64]:
        """Return the [R] precision at the recall points, mean over categories."""
        at_iou = self.precision[self._index(iou)]
        return at_iou[:, (at_iou > -1).any(axis=0)].mean(axis=1)

    def metrics(self) -> dict[str, float]:
        """Return AP (mean over IoU 0.50:0.95), AP50, AP75 and AR100, each 0..1."""
        return {
            "AP": _mean(self.precision),
            "AP50": _mean(self.precision[self._index(0.50)]),
            "AP75": _mean(self.precision[self._index(0.75)]),
            "AR100": _mean(self.recall),
        }

    def _index(self, iou: float) -> int:
        return int(np.argmin(np.abs(self.iou_thresholds - iou)))


def coco_result(truth: AmodalCoco, predictions: AmodalCoco, target: str) -> CocoResult:
    """Run COCO's protocol.

    Args:
        truth: the truth.
        predictions: predictions with the truth's ids (see `alignment.align`).
        target: one of `TARGETS`.

    Raises:
        DatasetError: the truth holds no object to find.
    """
    true_rows = [_row(truth, row, target) for row in truth.annotations.values()]
    if target == "visible_mask":  # nothing to compare with
        true_rows = [row for row in true_rows if not row["fully_hidden"]]
    if all(row["iscrowd"] or row["fully_hidden"] for row in true_rows):
        raise DatasetError(f"{truth.path}: holds no object to measure against")
    predicted_rows = [_row(predictions, row, target) for row in predictions.annotations.values()]
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress
        evaluation = _CocoEval(
            _coco(truth, true_rows),
            _coco(truth, predicted_rows),
            "bbox" if target == "amodal_box" else "segm",
        )
        evaluation.params.areaRng = [[0, 1e10]]
        evaluation.params.areaRngLbl = ["all"]
        evaluation.params.maxDets = [MAX_DETECTIONS]
        evaluation.evaluate()
        evaluation.accumulate()
    return CocoResult(
        iou_thresholds=evaluation.params.iouThrs,
        recall_points=evaluation.params.recThrs,
        precision=evaluation.eval["precision"][:, :, :, 0, 0],
        recall=evaluation.eval["recall"][:, :, 0, 0],
    )


def has_target(scenes: AmodalCoco, target: str) -> bool:
    """Tell whether a file has what a target compares; one without rows has everything."""
    if target != "visible_mask":
        return True
    return all("visible_segmentation" in row for row in scenes.annotations.values())


class _CocoEval(COCOeval):  # type: ignore[misc]
    """COCO's protocol, with fully hidden objects ignored."""

    def _prepare(self) -> None:
        super()._prepare()
        for rows in self._gts.values():
            for row in rows:
                row["ignore"] = row["ignore"] or row["fully_hidden"]


def _row(scenes: AmodalCoco, row: Json, target: str) -> Json:
    """Describe one annotation as COCO does, with the target's region as its region."""
    visible = visible_rle(scenes, row)
    rle = visible if target == "visible_mask" else amodal_rle(scenes, row)
    return {
        "id": row["id"],
        "image_id": row["image_id"],
        "category_id": row["category_id"],
        "segmentation": rle,
        "bbox": box_xywh(scenes, row),
        "area": area_px(rle),
        "iscrowd": int(row.get("iscrowd", 0)),
        "fully_hidden": area_px(visible) == 0,
        "score": row.get("score", 1.0),
    }


def _coco(truth: AmodalCoco, rows: list[Json]) -> COCO:
    coco = COCO()
    coco.dataset = {
        "images": list(truth.images.values()),
        "categories": list(truth.categories.values()),
        "annotations": rows,
    }
    coco.createIndex()
    return coco


def _mean(values: NDArray[np.float64]) -> float:
    """Average what was measured; -1 marks categories without truth."""
    return float(values[values > -1].mean())
