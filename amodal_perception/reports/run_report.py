"""The report of a run, one HTML file: pictures, graphs, figures."""

from __future__ import annotations

import base64
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np

from amodal_perception.drawing.graph_svg import draw_graph
from amodal_perception.drawing.overlay import text_color
from amodal_perception.drawing.svg_charts import Axes, Series, plot, stage_bars
from amodal_perception.evaluation.evaluate import Evaluation
from amodal_perception.evaluation.frame_table import FrameRow, mean
from amodal_perception.reports.page import number, percent, tiles_section, write_page
from amodal_perception.storage.amodal_coco import Json
from amodal_perception.storage.image_files import data_url
from amodal_perception.structures import Frame, Scene, UInt8Array

GALLERY_FRAMES = 12
PICTURE_WIDTH_PX = 640
MAX_LINE_POINTS = 2000
MAX_EMBEDDED_VIDEO_BYTES = 12_000_000
STABILITY_WORDS = {
    "objects_kept": "objects in both frames, share of all",
    "amodal_iou": "IoU of their amodal masks",
    "visible_iou": "IoU of their visible masks",
    "hidden_iou": "IoU of their hidden parts",
    "edges_kept": "edges between them in both frames, share of all",
    "edges_reversed": "edges that turned round",
    "labels_changed": "changes of class",
    "tracks_changed": "changes of track id",
}


class Gallery:
    """An even choice of frames from a run of unknown length, kept as finished HTML."""

    def __init__(self) -> None:
        self._cards: list[str] = []
        self._stride = 1
        self._seen = 0
        self._first_stamp_ns = 0

    def add(
        self, index: int, frame: Frame, scene: Scene, overlay: UInt8Array, colors: UInt8Array
    ) -> None:
        """Keep every n-th frame; n doubles, and half the kept go, when too many are kept."""
        if self._seen == 0:
            self._first_stamp_ns = frame.stamp_ns
        if self._seen % self._stride == 0:
            elapsed_s = (frame.stamp_ns - self._first_stamp_ns) / 1e9
            title = f"Frame {index} <small>{elapsed_s:.3f} s"
            self._cards.append(_card(title, frame.image, scene, overlay, colors))
        self._seen += 1
        if len(self._cards) > GALLERY_FRAMES:
            self._cards = self._cards[::2]
            self._stride *= 2

    @property
    def cards(self) -> list[str]:
        """The frames kept, as HTML."""
        return self._cards


@dataclass(frozen=True, eq=False)
class RunReport:
    """The content of a report.

    Attributes:
        summary: the content of ``summary.json``.
        rows: every frame in numbers.
        gallery: frames to show.
        evaluation: figures against truth, where there is truth.
        video: a ``.webm`` file; it may be missing.
    """

    summary: Json
    rows: Sequence[FrameRow]
    gallery: Gallery
    evaluation: Evaluation | None = None
    video: Path | None = None


def write_run_report(path: Path, report: RunReport) -> None:
    """Write the report to an ``.html`` file."""
    summary = report.summary
    sections = [
        _header(summary),
        _tiles(summary),
        _video_section(report.video),
        _gallery_section(report.gallery, summary),
        _time_section(summary, report.rows),
        _change_section(summary, report.rows),
        _quality_section(report.evaluation, report.rows),
        _footer(summary),
    ]
    write_page(path, "Amodal perception report", sections)


def _header(summary: Json) -> str:
    source = ""
    if "bag" in summary:
        topic, bag = escape(summary["topic"]), escape(summary["bag"])
        source = f" &middot; camera <code>{topic}</code> of <code>{bag}</code>"
    return (
        "<header><h1>Amodal perception</h1>"
        "<p>What the camera sees of every object, what is hidden of it, and by whom.</p>"
        f'<p class="model">model <code>{escape(summary["model_id"])}</code>{source}</p></header>'
    )


def _tiles(summary: Json) -> str:
    latency = summary["latency_ms"]
    metrics, changes = summary.get("metrics", {}), summary["temporal_stability"]
    tiles = [
        (
            f"{summary['frames_processed']}<small> of {summary['frames_sent']}</small>",
            "frames processed",
            f"{summary['frames_dropped']} dropped",
        ),
        (
            number(latency["p50"], 1, " ms"),
            "latency, median",
            f"p95 {number(latency['p95'], 1)}, p99 {number(latency['p99'], 1)}",
        ),
        (
            number(summary["instances_mean"], 1),
            "objects per frame",
            f"{number(summary['edges_mean'], 1)} occlusions",
        ),
        (
            number(changes.get("amodal_iou"), 2),
            "IoU with the next frame",
            f"{percent(changes.get('objects_kept'))} of objects kept",
        ),
    ]
    if "age_ms" in summary:
        age, in_use = summary["age_ms"], summary["age_in_use_ms"]
        tiles += [
            (
                number(age["p50"], 1, " ms"),
                "age on arrival, median",
                f"p95 {number(age['p95'], 1)}, p99 {number(age['p99'], 1)}",
            ),
            (
                number(in_use["p50"], 1, " ms"),
                "age of the newest scene, median",
                f"p95 {number(in_use['p95'], 1)}, p99 {number(in_use['p99'], 1)}",
            ),
            (
                percent(summary["frames_processed"] / max(summary["frames_sent"], 1)),
                "of the frames seen",
                "",
            ),
            (number(summary["scenes_per_s"], 1), "scenes a second", ""),
        ]
    if "metrics" in summary:
        tiles += [
            _metric_tile(metrics, "coco.amodal_mask.AP", "AP of amodal masks (scene)"),
            _metric_tile(metrics, "coco.visible_mask.AP", "AP of visible masks (scene)"),
            _metric_tile(metrics, "order.matched_pairs.accuracy", "accuracy of the order"),
            _metric_tile(metrics, "order.end_to_end.F1", "F1 of occlusion edges"),
        ]
    return tiles_section(tiles)


def _metric_tile(metrics: dict[str, float], name: str, label: str) -> tuple[str, str, str]:
    details = {
        "coco.amodal_mask.AP": ("coco.amodal_mask.AP50", "AP50"),
        "coco.visible_mask.AP": ("coco.visible_mask.AP50", "AP50"),
        "order.end_to_end.F1": ("order.end_to_end.recall", "recall"),
    }
    detail = ""
    if name in details:
        other, word = details[name]
        detail = f"{word} {number(metrics.get(other), 3)}"
    return number(metrics.get(name), 3), label, detail


def _gallery_section(gallery: Gallery, summary: Json) -> str:
    if not gallery.cards:
        return "<section><h2>Frames</h2><p>No frame was processed.</p></section>"
    legend = (
        '<div class="legend">'
        '<span><i class="visible"></i>visible: measured, the camera sees it</span>'
        '<span><i class="hidden"></i>hidden: a guess</span>'
        '<span><i class="outline"></i>amodal outline: the complete object</span></div>'
        '<p class="note"><b>Hidden pixels are guesses.</b> The model infers them from what it '
        "sees; nothing measured them. Arrows point from the object in front to the one it hides. "
        "Occlusion is seen from the camera: it does not say what rests on what.</p>"
    )
    shown = f"{len(gallery.cards)} of {summary['frames_processed']} processed frames"
    cards = "".join(gallery.cards)
    return f"<section><h2>Frames <small>{shown}</small></h2>{legend}{cards}</section>"


def _video_section(video: Path | None) -> str:
    """Show the video; a long one stays a file of its own, beside the report."""
    if video is None or not video.exists() or not video.stat().st_size:
        return ""
    source = video.name
    if video.stat().st_size <= MAX_EMBEDDED_VIDEO_BYTES:
        content = base64.b64encode(video.read_bytes()).decode("ascii")
        source = f"data:video/webm;base64,{content}"
    return (
        "<section><h2>Film <small>in real time; an object keeps its colour as long as it is found "
        "again in the next frame</small></h2>"
        f'<video controls loop muted preload="metadata" src="{source}"></video></section>'
    )


def _card(
    title: str, image: UInt8Array, scene: Scene, overlay: UInt8Array, colors: UInt8Array
) -> str:
    """Show one frame: camera image, overlay, graph, removal order."""
    graph = scene.graph
    chips = "<i>&rsaquo;</i>".join(
        f'<span class="chip" style="background:rgb({",".join(map(str, colors[i]))});'
        f'color:{text_color(colors[i])}">{i}</span>'
        for i in graph.removal_order
    )
    cycles = "; ".join(", ".join(map(str, group)) for group in graph.cycles)
    words = f"{len(scene.instances)} objects, {len(graph.edges)} occlusions"
    if len(scene.instances) == 0:
        words = "no objects found"
    camera_url = data_url(image, max_width_px=PICTURE_WIDTH_PX)
    overlay_url = data_url(overlay, max_width_px=PICTURE_WIDTH_PX)
    return (
        f"<article><h3>{title} &middot; {words}</small></h3>"
        f'<div class="views"><figure><img src="{camera_url}" alt="camera image">'
        "<figcaption>camera</figcaption></figure>"
        f'<figure><img src="{overlay_url}" alt="overlay">'
        "<figcaption>visible, hidden, amodal</figcaption></figure>"
        f"<figure>{draw_graph(scene, colors)}<figcaption>who hides whom</figcaption></figure>"
        "</div>"
        + (f'<p class="order">removal order, front first {chips}</p>' if chips else "")
        + (f'<p class="cycle">hide each other: {cycles}</p>' if cycles else "")
        + "</article>"
    )


def _time_section(summary: Json, rows: Sequence[FrameRow]) -> str:
    latency = [(row.index, row.latency_ms) for row in rows if row.latency_ms is not None]
    age = [(row.index, row.age_ms) for row in rows if row.age_ms is not None]
    lines = {"latency": latency, "age on arrival": age}
    series = [_line(name, points) for name, points in lines.items() if points]
    dropped = [row.index for row in rows if row.is_dropped]
    if dropped:
        series.append(
            Series("dropped", dropped, [0.0] * len(dropped), line=False, color="#dc2626")
        )
    if not series:
        return ""
    marks = {name: value for name, value in summary["latency_ms"].items() if value is not None}
    axes = Axes("frame", "milliseconds", x_range=_frames(rows), marks=marks, whole_x=True)
    stages = {name: row for name, row in summary["stages_ms"].items() if row["p50"] is not None}
    bars = stage_bars(stages) if stages else ""
    return (
        "<section><h2>Time</h2>"
        f'<div class="charts"><div><h3>Latency of every frame</h3>{plot(series, axes)}</div>'
        + (f"<div><h3>Where the time goes</h3>{bars}</div>" if bars else "")
        + "</div></section>"
    )


def _change_section(summary: Json, rows: Sequence[FrameRow]) -> str:
    """Plot how many objects there are, and how much they change from frame to frame."""
    seen = [row for row in rows if not row.is_dropped]
    if len(seen) < 2:
        return ""
    counts = [
        _line("objects", [(row.index, row.instances or 0) for row in seen]),
        _line("a tenth or more hidden", [(row.index, row.occluded or 0) for row in seen]),
        _line("occlusion edges", [(row.index, row.edges or 0) for row in seen]),
    ]
    x_range = _frames(rows)
    count_chart = plot(counts, Axes("frame", "number", x_range=x_range, whole_x=True))
    ious = []
    for name in ("amodal_iou", "visible_iou", "hidden_iou"):
        points = [
            (row.index, value)
            for row in seen
            if row.change and (value := mean(getattr(row.change, name))) is not None
        ]
        ious.append(_line(name.replace("_iou", " masks"), points))
    iou_chart = plot(
        ious, Axes("frame", "IoU with the frame before", x_range, (0.0, 1.02), whole_x=True)
    )
    return (
        "<section><h2>Over time</h2>"
        f'<div class="charts"><div><h3>Objects in every frame</h3>{count_chart}</div>'
        f"<div><h3>Masks of objects found again</h3>{iou_chart}</div></div>"
        f"{_stability_table(summary)}</section>"
    )


def _stability_table(summary: Json) -> str:
    columns = [("model", summary["temporal_stability"])]
    if "temporal_stability_truth" in summary:
        columns.append(("truth", summary["temporal_stability_truth"]))
    rows = "".join(
        f"<tr><td>{words}</td>"
        + "".join(f"<td>{number(figures.get(name), 3)}</td>" for _, figures in columns)
        + "</tr>"
        for name, words in STABILITY_WORDS.items()
        if any(name in figures for _, figures in columns)
    )
    head = "".join(f"<th>{name}</th>" for name, _ in columns)
    note = "The camera and the objects move, so part of the change is real"
    note += (
        ": truth, measured in the same way, shows how much."
        if len(columns) > 1
        else "; change that the motion does not explain is flicker."
    )
    return (
        f'<h3>From one frame to the next</h3><table class="words"><tr><th></th>{head}</tr>{rows}'
        "</table>"
        f'<p class="note">{note} An object is found again where its visible or its amodal mask '
        "overlaps by an IoU of 0.5 or more.</p>"
    )


def _line(name: str, points: Sequence[tuple[int, float]]) -> Series:
    """Make a line of (frame, value); of a long run, every stretch keeps its extremes."""
    per_stretch = math.ceil(2 * len(points) / MAX_LINE_POINTS)
    if per_stretch > 2:
        kept: list[tuple[int, float]] = []
        for start in range(0, len(points), per_stretch):
            stretch = points[start : start + per_stretch]
            extremes = {min(stretch, key=lambda p: p[1]), max(stretch, key=lambda p: p[1])}
            kept += sorted(extremes)
        points = kept
    return Series(name, [x for x, _ in points], [y for _, y in points])


def _frames(rows: Sequence[FrameRow]) -> tuple[float, float]:
    return -0.5, max(len(rows), 2) - 0.5


def _quality_section(evaluation: Evaluation | None, frames: Sequence[FrameRow]) -> str:
    if evaluation is None:
        return ""
    curves = [
        Series(
            target.replace("_", " "), result.recall_points.tolist(), result.curve(iou=0.5).tolist()
        )
        for target, result in evaluation.coco.items()
        if target.endswith("mask")
    ]
    unit = (0.0, 1.02)
    recall_chart = plot(curves, Axes("recall", "precision at IoU 0.5", unit, unit))
    rows = "".join(
        f"<tr><td>{escape(name)}</td><td>{value:.3f}</td></tr>"
        for name, value in evaluation.metrics.items()
    )
    return (
        "<section><h2>Quality against truth "
        f"<small>{len(evaluation.matches)} frames</small></h2>"
        f'<div class="charts"><div><h3>Precision and recall</h3>{recall_chart}</div>'
        f"<div><h3>Agreement of matched objects</h3>{_occlusion_chart(evaluation)}</div>"
        f"<div><h3>Every frame</h3>{_quality_chart(frames)}</div></div>"
        f"<details><summary>All figures</summary><table>{rows}</table>"
        '<p class="note">Objects of which nothing is visible are not counted. Precision and '
        "recall are those of the instances that the run kept: its score threshold cuts the "
        "curve.</p></details></section>"
    )


def _quality_chart(frames: Sequence[FrameRow]) -> str:
    """Plot how much of the truth each frame found, and how well."""
    found, quality = [], []
    for row in frames:
        if row.matches and row.matches.num_true:
            found.append((row.index, len(row.matches.amodal_iou) / row.matches.num_true))
            quality.append((row.index, row.matches.quality))
    lines = [_line("objects found", found), _line("panoptic quality", quality)]
    return plot(lines, Axes("frame", "share, 0..1", _frames(frames), (0.0, 1.02), whole_x=True))


def _occlusion_chart(evaluation: Evaluation) -> str:
    """Plot the IoU of matched objects against how much of them is hidden."""
    rate = np.concatenate([image.occlusion_rate for image in evaluation.matches])
    ious = {
        "amodal mask": np.concatenate([image.amodal_iou for image in evaluation.matches]),
        "visible mask": np.concatenate([image.visible_iou for image in evaluation.matches]),
        "hidden part": np.concatenate([image.hidden_iou for image in evaluation.matches]),
    }
    if len(rate) == 0:
        return "<p>No object was matched.</p>"
    edges = np.array([0.0, 0.01, 0.2, 0.4, 0.6, 0.8, 1.0])
    series = []
    for name, iou in ious.items():
        xs, ys = [], []
        for low, high in itertools.pairwise(edges):
            inside = iou[(rate >= low) & (rate < high) & ~np.isnan(iou)]
            if len(inside):
                xs.append(0.0 if high <= 0.01 else float(low + high) / 2)
                ys.append(float(inside.mean()))
        series.append(Series(name, xs, ys))
    return plot(
        series, Axes("hidden part of the object, 0..1", "mean IoU", (-0.03, 1.0), (0.0, 1.02))
    )


def _footer(summary: Json) -> str:
    return (
        "<footer>Latency is wall time from the frame to its scene. The same frames and model "
        f"give the same scenes, sha256 <code>{summary['scenes_sha256'][:16]}</code>.</footer>"
    )
