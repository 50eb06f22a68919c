"""The report of an evaluation, one HTML file: tables, curves, the worst images."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np

from amodal_perception.drawing.overlay import draw_scene, instance_colors
from amodal_perception.drawing.svg_charts import Axes, Series, plot
from amodal_perception.errors import ImageError
from amodal_perception.evaluation import protocols
from amodal_perception.evaluation.comparison import Comparison
from amodal_perception.evaluation.evaluate import HEADLINES, KINDS, Evaluation
from amodal_perception.evaluation.one_to_one_matching import (
    MIN_SCORE,
    ImagePairs,
    match_one_to_one,
)
from amodal_perception.evaluation.protocols.breakdowns import HIDDEN_RANGES, class_key
from amodal_perception.evaluation.protocols.calibration import reliability
from amodal_perception.reports.page import number, tiles_section, write_page
from amodal_perception.storage.amodal_coco import AmodalCoco
from amodal_perception.storage.image_files import data_url, read_image
from amodal_perception.structures import Instances, OcclusionGraph, Scene, UInt8Array

WORST_IMAGES = 8
PICTURE_WIDTH_PX = 640
UNIT = (0.0, 1.02)
GRAY = 128

MEANINGS = {
    "coco.amodal_mask.AP": "AP of complete masks, mean over IoU 0.50 to 0.95",
    "coco.amodal_mask.AP50": "AP of complete masks at IoU 0.50",
    "coco.visible_mask.AP": "AP of visible masks",
    "orcnn.all.AP_AV": "AP where complete and visible mask must both fit",
    "orcnn.occluded.AP_AV": "the same of objects that are partly hidden",
    "orcnn.occluded.AP_IV50": "AP of the hidden part at IoU 0.50",
    "vrsp.amodal_mask.AP_occ85": "AP of objects seen to 85 % at most, as VRSP's code counts",
    "strict.amodal_mask.AP_occ85": "the same with every false alarm counted",
    "uoais.amodal_mask.overlap_F": "F of the pixels of complete masks",
    "uoais.amodal_mask.boundary_F": "F of their boundaries",
    "uoais.occlusion.F": "F1 of classifying objects as occluded",
    "order.matched_pairs.accuracy": "pairs found that overlap: share with exactly the true order",
    "order.end_to_end.F1": "F1 of who hides whom, missed objects counted",
    "calibration.amodal_mask.ECE": "how far scores are from the share right (lower: better)",
    "matched.instances.precision": "share of sure predictions that are an object",
    "matched.instances.recall": "share of objects that are found",
}


def write_evaluation_report(
    path: Path,
    evaluation: Evaluation,
    truth: AmodalCoco,
    predictions: AmodalCoco,
    images_dir: Path,
) -> list[Path]:
    """Write the report; return the photographs that it should show but that cannot be read.

    Args:
        path: the ``.html`` file.
        evaluation: what was measured.
        truth: for the pictures.
        predictions: aligned with the truth.
        images_dir: folder from which the truth's file names lead to the photographs; masks are
            drawn on grey where they are not there.
    """
    missing: list[Path] = []
    sections = [
        _header(evaluation),
        _tiles(evaluation),
        _headline_section(evaluation),
        _curve_section(evaluation),
        _occlusion_section(evaluation),
        _class_section(evaluation),
        _worst_section(evaluation, truth, predictions, images_dir, missing),
        _all_figures_section(evaluation),
    ]
    write_page(path, "Amodal evaluation", sections)
    return missing


def _header(evaluation: Evaluation) -> str:
    comparison = evaluation.comparison
    return (
        "<header><h1>Predictions against truth</h1>"
        f"<p>All figures are of {KINDS[comparison.kind]}.</p>"
        f"<p>predictions <code>{escape(comparison.predictions_path)}</code><br>"
        f"truth <code>{escape(comparison.truth_path)}</code></p></header>"
    )


def _tiles(evaluation: Evaluation) -> str:
    counts = {
        name.removeprefix("counts."): int(value)
        for name, value in evaluation.metrics.items()
        if name.startswith("counts.")
    }
    ignored = counts["truth.crowds"] + counts["truth.ignored_fully_hidden"]
    tiles = [
        (
            counts["truth.images"],
            "images",
            f"{counts['predictions.images_without']} without predictions",
        ),
        (
            counts["truth.objects"],
            "true objects",
            f"{counts['truth.occluded_objects']} partly hidden; {ignored} ignored",
        ),
        (counts["predictions.objects"], "predictions", "of any score"),
        (
            counts["truth.occlusions"],
            "true occlusions",
            f"{counts['predictions.occlusions']} predicted",
        ),
    ]
    return tiles_section(tiles)


def _headline_section(evaluation: Evaluation) -> str:
    rows = "".join(
        f"<tr><td>{escape(name)}</td>{_value_cells(evaluation, name)}"
        f"<td>{escape(MEANINGS[name])}</td></tr>"
        for name in HEADLINES
        if name in evaluation.metrics
    )
    if not rows:
        return ""
    return (
        "<section><h2>In short</h2><table><tr><th>figure</th><th>value</th>"
        f"<th>95 % interval</th><th>what it is</th></tr>{rows}</table>"
        '<p class="note">Intervals: bootstrap over images. Objects of which nothing is visible '
        "are ignored unless the command asked to count them, as are crowds.</p></section>"
    )


def _curve_section(evaluation: Evaluation) -> str:
    charts = []
    for iou in (0.5, 0.75):
        series = [
            Series(
                target.replace("_", " "), curve.recall_points.tolist(), curve.curve(iou).tolist()
            )
            for target, curve in evaluation.coco.items()
        ]
        chart = plot(series, Axes("recall", f"precision at IoU {iou:g}", UNIT, UNIT))
        charts.append(f"<div><h3>Precision and recall at IoU {iou:g}</h3>{chart}</div>")
    charts.append(f"<div><h3>Do scores mean what they say?</h3>{_reliability(evaluation)}</div>")
    return f'<section><h2>Curves</h2><div class="charts">{"".join(charts)}</div></section>'


def _reliability(evaluation: Evaluation) -> str:
    series = [Series("right as often as said", [0.0, 1.0], [0.0, 1.0], color="#9ca3af")]
    for target in evaluation.coco:
        if target.endswith("mask"):
            count, score, right = reliability(evaluation.comparison, target).totals()
            filled = count > 0
            series.append(
                Series(
                    target.replace("_", " "),
                    (score[filled] / count[filled]).tolist(),
                    (right[filled] / count[filled]).tolist(),
                )
            )
    return plot(series, Axes("score of predictions", "share right at IoU 0.5", UNIT, UNIT))


def _occlusion_section(evaluation: Evaluation) -> str:
    if not evaluation.comparison.truth_has_visible:
        return ""
    metrics, _ = protocols.run_protocols(evaluation.comparison, ["per_occlusion"])
    values = {name: metric(None) for name, metric in metrics.items()}
    rates = evaluation.comparison.truth.occlusion_rate[~evaluation.comparison.ignored]
    middles = {name: (low + high) / 2 for name, (low, high) in HIDDEN_RANGES.items()}
    columns = ["amodal_mask_AP", "visible_mask_AP", "recall"]
    columns += ["amodal_mask_mean_IoU", "visible_mask_mean_IoU"]
    columns += ["edge_recall"] * any(name.endswith(".edge_recall") for name in values)
    table: dict[str, list[float]] = {}
    for name in HIDDEN_RANGES:
        cells = [values.get(f"per_occlusion.hidden_{name}.{c}", np.nan) for c in columns]
        if not np.isnan(cells).all():
            table[name] = cells
    xs = [middles[name] for name in table]
    series = [
        Series(columns[i].replace("_", " "), *_known(xs, [row[i] for row in table.values()]))
        for i in range(len(columns))
    ]
    chart = plot(series, Axes("hidden part of the object, 0..1", "", (-0.03, 1.0), UNIT))
    heads = "".join(f"<th>{c.replace('_', ' ')}</th>" for c in ("hidden", "objects", *columns))
    rows = ""
    for name, cells in table.items():
        low, high = HIDDEN_RANGES[name]
        inside = (rates > low) & (rates <= high) if high else rates == 0
        words = f"{low:.0%} to {high:.0%}" if high else "nothing"
        figures = "".join(f"<td>{number(value)}</td>" for value in cells)
        rows += f"<tr><td>{words}</td><td>{np.count_nonzero(inside)}</td>{figures}</tr>"
    return (
        "<section><h2>By occlusion</h2>"
        f'<div class="charts"><div>{chart}</div><div><table class="words"><tr>{heads}</tr>{rows}'
        '</table></div></div><p class="note">AP counts every prediction that matches nothing as a '
        "false alarm in every range, so it falls with the number of objects in the range, too. "
        "Recall and mean IoU, of objects found with a score and amodal IoU of 0.5 at least, do "
        "not. Edge recall is of the edges that end at such an object.</p></section>"
    )


def _known(xs: Sequence[float], ys: Sequence[float]) -> tuple[list[float], list[float]]:
    points = [(x, y) for x, y in zip(xs, ys) if not np.isnan(y)]
    return [x for x, _ in points], [y for _, y in points]


def _class_section(evaluation: Evaluation) -> str:
    comparison = evaluation.comparison
    if len(comparison.class_names) < 2:
        return ""
    truth = comparison.truth
    targets = list(evaluation.coco)
    rows = ""
    for label, name in enumerate(comparison.class_names):
        objects = np.count_nonzero((truth.label == label) & ~comparison.ignored)
        if not objects:
            continue
        predicted = np.count_nonzero(comparison.predictions.label == label)
        cells = "".join(
            f"<td>{number(evaluation.coco[target].ap(label=label)(None))}</td>"
            for target in targets
        )
        rows += (
            f'<tr><td title="{escape(class_key(name))}">{escape(name)}</td><td>{objects}</td>'
            f"<td>{predicted}</td>{cells}</tr>"
        )
    heads = "".join(f"<th>AP {target.replace('_', ' ')}</th>" for target in targets)
    return (
        '<section><h2>By class</h2><table class="words"><tr><th>class</th><th>objects</th>'
        f"<th>predictions</th>{heads}</tr>{rows}</table>"
        '<p class="note">Classes of which the truth has no object are left out of every mean, as '
        "in COCO; predictions of them count nowhere.</p></section>"
    )


def _worst_section(
    evaluation: Evaluation,
    truth: AmodalCoco,
    predictions: AmodalCoco,
    images_dir: Path,
    missing: list[Path],
) -> str:
    true_id_of = _true_ids(evaluation.comparison)
    judged = [match for match in evaluation.matches if match.num_true + match.num_predicted]
    worst = sorted(judged, key=lambda match: (match.quality, match.image_id))[:WORST_IMAGES]
    cards = ""
    for match in worst:
        row = truth.images[match.image_id]
        path, size_hw = images_dir / row["file_name"], (row["height"], row["width"])
        image = _photograph(path, size_hw)
        if image is None:
            missing.append(path)
            image = np.full((*size_hw, 3), GRAY, np.uint8)
        cards += _card(match, truth, predictions, image, true_id_of)
    if not cards:
        return ""
    return (
        f"<section><h2>Worst images <small>{len(worst)} of {len(evaluation.matches)}</small></h2>"
        f'<p class="note">By panoptic quality: the IoU of the objects found, summed, over half '
        f"of all true objects and predictions with a score of {MIN_SCORE:g} at least. Tinted: "
        f"visible. Striped: hidden. A prediction has the colour of the object it was matched to; "
        f"white ones are false alarms.</p>{cards}</section>"
    )


def _true_ids(comparison: Comparison) -> dict[int, int]:
    """Map ids of matched predictions to those of their true objects."""
    pair = match_one_to_one(comparison).pair
    predicted = comparison.predictions.ids[comparison.overlaps.predicted[pair]]
    true = comparison.truth.ids[comparison.overlaps.true[pair]]
    return dict(zip(predicted.tolist(), true.tolist()))


def _card(
    match: ImagePairs,
    truth: AmodalCoco,
    predictions: AmodalCoco,
    image: UInt8Array,
    true_id_of: dict[int, int],
) -> str:
    row = truth.images[match.image_id]
    there, found = (scenes.instances_of(match.image_id) for scenes in (truth, predictions))
    colors = instance_colors(len(there))
    color_of = {
        row["id"]: color for row, color in zip(truth.annotations_of(match.image_id), colors)
    }
    white = np.full(3, 255, np.uint8)
    found_colors = np.array(
        [
            color_of.get(true_id_of.get(row["id"], -1), white)
            for row in predictions.annotations_of(match.image_id)
        ],
        np.uint8,
    ).reshape(-1, 3)
    sure = found.scores >= MIN_SCORE
    pictures = (
        ("truth", _draw(image, there, truth.class_names, colors)),
        ("predictions", _draw(image, found[sure], predictions.class_names, found_colors[sure])),
    )
    figures = "".join(
        f'<figure><img src="{data_url(picture, max_width_px=PICTURE_WIDTH_PX)}" alt="{name}">'
        f"<figcaption>{name}</figcaption></figure>"
        for name, picture in pictures
    )
    return (
        f"<article><h3>{escape(str(row['file_name']))} <small>quality {match.quality:.2f}: "
        f"{len(match.amodal_iou)} of {match.num_true} objects found, "
        f"{match.num_predicted - len(match.amodal_iou)} false alarms</small></h3>"
        f'<div class="charts">{figures}</div></article>'
    )


def _photograph(path: Path, size_hw: tuple[int, int]) -> UInt8Array | None:
    """Read a photograph; None where it cannot be read, or is another one by its size."""
    try:
        image = read_image(path)
    except ImageError:
        return None
    return image if image.shape[:2] == size_hw else None


def _draw(
    image: UInt8Array, instances: Instances, class_names: tuple[str, ...], colors: UInt8Array
) -> UInt8Array:
    nobody = np.zeros(0, np.float32)
    graph = OcclusionGraph(
        edges=np.zeros((0, 2), np.int32),
        confidence=nobody,
        overlap_px=nobody.astype(np.int32),
        hidden_fraction=nobody,
        removal_order=np.arange(len(instances), dtype=np.int32),
    )
    return draw_scene(image, Scene(0, "", instances, graph, "", class_names), colors)


def _all_figures_section(evaluation: Evaluation) -> str:
    by_protocol: dict[str, list[str]] = {}
    for name in evaluation.metrics:
        by_protocol.setdefault(name.split(".")[0], []).append(name)
    parts = [
        f"<details><summary>{escape(protocol)} <small>{len(names)} figures</small></summary>"
        "<table>"
        + "".join(
            f"<tr><td>{escape(name)}</td>{_value_cells(evaluation, name)}</tr>" for name in names
        )
        + "</table></details>"
        for protocol, names in by_protocol.items()
    ]
    left_out = "".join(
        f"<li>{escape(name)}: {escape(obstacle)}</li>"
        for name, obstacle in evaluation.left_out.items()
    )
    if left_out:
        parts.append(f'<p class="note">Left out:</p><ul class="note">{left_out}</ul>')
    return f"<section><h2>All figures</h2>{''.join(parts)}</section>"


def _value_cells(evaluation: Evaluation, name: str) -> str:
    value = evaluation.metrics[name]
    if name.startswith("counts."):
        return f"<td>{value:g}</td><td></td>"
    bounds = evaluation.intervals.get(name)
    interval = f"{bounds[0]:.3f} to {bounds[1]:.3f}" if bounds else ""
    return f"<td>{value:.4f}</td><td>{interval}</td>"
