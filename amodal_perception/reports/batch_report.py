"""The report over many runs: one line for each, with a picture."""

from __future__ import annotations

from html import escape
from pathlib import Path

from amodal_perception.errors import ImageError
from amodal_perception.reports.page import number, tiles_section, write_page
from amodal_perception.storage.amodal_coco import Json
from amodal_perception.storage.image_files import data_url, read_image

THUMBNAIL_WIDTH_PX = 220


def write_batch_report(out_dir: Path, summary: Json) -> None:
    """Write ``report.html`` over all runs.

    Args:
        out_dir: folder that holds the runs' folders.
        summary: as `replay.batch_summary` makes it.
    """
    rows = "".join(_report_row(out_dir, row) for row in summary["runs"])
    failed = "".join(
        f"<li><code>{escape(row['bag'])} {escape(row['topic'])}</code> {escape(row['error'])}</li>"
        for row in summary["failed"]
    )
    tiles = (
        (f"{len(summary['runs'])}", "runs", f"{len(summary['failed'])} failed"),
        (
            f"{summary['frames_processed']}<small> of {summary['frames_sent']}</small>",
            "frames processed",
            f"{summary['frames_dropped']} dropped",
        ),
        (number(summary["latency_ms"]["p50"], 1), "latency, median, ms", ""),
        (
            number(summary.get("metrics", {}).get("coco.amodal_mask.AP")),
            "AP of amodal masks (scene)",
            "",
        ),
    )
    head = "".join(
        f"<th>{name}</th>"
        for name in (
            "", "run", "frames", "dropped", "latency, ms", "objects", "edges", "kept", "IoU next",
            "AP (scene)",
        )
    )  # fmt: skip
    sections = [
        "<header><h1>Amodal perception: all runs</h1>"
        f'<p class="model">model <code>{escape(summary["model_id"])}</code></p></header>',
        tiles_section(tiles),
        f'<section><h2>Runs</h2><table class="runs"><tr>{head}</tr>{rows}</table>'
        '<p class="note">Kept: share of objects that are found again in the next frame; IoU next: '
        "of their amodal masks.</p></section>",
        f"<section><h2>Failed</h2><ul>{failed}</ul></section>" if failed else "",
    ]
    write_page(out_dir / "report.html", "Amodal perception: all runs", sections)


def _report_row(out_dir: Path, row: Json) -> str:
    folder = row["folder"]
    cells = (
        f'<a href="{escape(folder)}/report.html">{_thumbnail(out_dir / folder)}</a>',
        f'<a href="{escape(folder)}/report.html">{escape(folder)}</a><br>'
        f"<small>{escape(row['topic'])}</small>",
        f"{row['frames_processed']}",
        f"{row['frames_dropped']}",
        number(row["latency_p50_ms"], 1),
        number(row["instances_mean"], 1),
        number(row["edges_mean"], 1),
        number(row["objects_kept"], 2),
        number(row["amodal_iou"], 2),
        number(row["AP"]),
    )
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def _thumbnail(folder: Path) -> str:
    """Show the middle one of a run's overlays, small."""
    overlays = sorted((folder / "overlays").glob("*.png"))
    if not overlays:
        return ""
    try:
        picture = read_image(overlays[len(overlays) // 2])
    except ImageError:  # a run that was kept, and touched since
        return ""
    return f'<img alt="" src="{data_url(picture, max_width_px=THUMBNAIL_WIDTH_PX)}">'
