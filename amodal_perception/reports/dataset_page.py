"""A browser of a data set: one page of images with masks and edges, with filters."""

from __future__ import annotations

import json
from dataclasses import asdict
from html import escape
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from amodal_perception import files
from amodal_perception.drawing.overlay import instance_colors, text_color
from amodal_perception.errors import ImageError
from amodal_perception.reports.dataset_statistics import (
    RATE_BINS,
    DatasetStatistics,
    occlusion_rate,
)
from amodal_perception.reports.page import tiles_section, write_page
from amodal_perception.storage.amodal_coco import AmodalCoco, Json
from amodal_perception.storage.image_files import read_image, write_image
from amodal_perception.structures import BoolArray

PICTURE_WIDTH_PX = 480
PICTURES = "pictures"


def write_dataset_page(
    data: AmodalCoco, statistics: DatasetStatistics, out_dir: Path, *, limit: int = 500
) -> Path:
    """Write ``index.html``, ``statistics.json`` and small pictures.

    Masks are drawn over the pictures as vectors, so that the page can show visible, hidden and
    amodal regions and edges each on its own. An image that cannot be read, or is of another size
    than its masks, is shown grey.

    Args:
        data: the data set.
        statistics: its numbers.
        out_dir: made if it is not there.
        limit: most images shown, an even choice of all; at least 1.

    Returns:
        The page.
    """
    ids = sorted(data.images)
    if len(ids) > limit:
        ids = [ids[int(i)] for i in np.linspace(0, len(ids) - 1, limit)]
    images = [_image(data, image_id, out_dir) for image_id in tqdm(ids, unit="image", delay=2)]
    content = {"classes": data.class_names, "images": images}
    files.write_json(out_dir / "statistics.json", asdict(statistics), indent=2)
    page = out_dir / "index.html"
    title = f"{data.path.parent.name}/{data.path.name}"
    header = f"<header><h1>{escape(title)}</h1><p>{_summary(data, statistics)}</p></header>"
    gallery = _gallery(statistics, content)
    write_page(
        page,
        title,
        [header, _tiles(statistics), _distributions(statistics), gallery],
        style=(files.ASSETS / "browser.css").read_text(),
        scripts=_scripts(content),
    )
    return page


def _image(data: AmodalCoco, image_id: int, out_dir: Path) -> Json:
    """Describe one image for the page, and write its picture."""
    record = data.images[image_id]
    size_hw = int(record["height"]), int(record["width"])
    scale = min(PICTURE_WIDTH_PX / size_hw[1], 1.0)
    rows, instances = data.annotations_of(image_id), data.instances_of(image_id)
    labels = {number: i for i, number in enumerate(sorted(data.categories))}
    colors = instance_colors(len(rows))
    objects = []
    for i, row in enumerate(rows):
        rows_px, columns_px = instances.window(i)
        amodal, visible = instances.amodal_crops[i], instances.visible_crops[i]
        offset_xy = columns_px.start, rows_px.start
        where = visible if visible.any() else amodal
        ys, xs = np.nonzero(where)
        centre = [
            round(float(axis.mean() + start + 0.5) * scale, 1) if len(axis) else 0.0
            for axis, start in ((xs, columns_px.start), (ys, rows_px.start))
        ]
        objects.append(
            {
                "id": row["id"],
                "class": labels[row["category_id"]],
                "name": str(row.get("name", "")),
                "rate": round(occlusion_rate(data, row), 4),
                "score": row.get("score"),
                "crowd": bool(row.get("iscrowd")),
                "color": "#{:02x}{:02x}{:02x}".format(*colors[i].tolist()),
                "ink": text_color(colors[i]),
                "at": centre,
                "visible": outline(visible, offset_xy, scale),
                "hidden": outline(amodal & ~visible, offset_xy, scale),
                "amodal": outline(amodal, offset_xy, scale),
            }
        )
    return {
        "id": image_id,
        "file": str(record["file_name"]),
        "size": [round(size_hw[1] * scale), round(size_hw[0] * scale)],
        "picture": _picture(data.path.parent / record["file_name"], size_hw, image_id, out_dir),
        "objects": objects,
        "edges": data.occlusions_of(image_id).tolist(),
    }


def outline(mask: BoolArray, offset_xy: tuple[int, int], scale: float) -> str:
    """Draw a mask as the data of an SVG path, to be filled even-odd.

    The path runs along the borders of pixels: contours are found on the mask at double size, of
    which the odd rows and columns lie between pixels.

    Args:
        mask: [h, w] bool.
        offset_xy: of its first pixel in the image.
        scale: of the drawing to the image.

    Returns:
        Path data; empty for an empty mask.
    """
    if not mask.any():
        return ""
    # Pixel (y, x) becomes the points (2y..2y+2, 2x..2x+2) of a grid of half pixels.
    height, width = mask.shape
    grid = np.zeros((2 * height + 1, 2 * width + 1), np.uint8)
    doubled = mask.repeat(2, axis=0).repeat(2, axis=1)
    for dy in (0, 1):
        for dx in (0, 1):
            grid[dy : dy + 2 * height, dx : dx + 2 * width] |= doubled
    contours, _ = cv2.findContours(grid, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    parts = []
    for contour in contours:
        simple = cv2.approxPolyDP(contour, 1.2 / scale, True)
        if len(simple) < 3:
            simple = contour
        points = (simple.reshape(-1, 2) / 2 + offset_xy) * scale
        parts.append("M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points) + "Z")
    return "".join(parts)


def _picture(path: Path, size_hw: tuple[int, int], image_id: int, out_dir: Path) -> str | None:
    """Write a small picture; return its name as the page has it, or None if there is none."""
    try:
        image = read_image(path)
    except ImageError:
        return None
    if image.shape[:2] != size_hw:
        return None
    if size_hw[1] > PICTURE_WIDTH_PX:
        size_wh = PICTURE_WIDTH_PX, max(round(size_hw[0] * PICTURE_WIDTH_PX / size_hw[1]), 1)
        image = cv2.resize(image, size_wh, interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
    name = f"{PICTURES}/{image_id}.jpg"
    write_image(out_dir / name, image)
    return name


def _scripts(content: Json) -> str:
    # "</" would end the script element.
    data = json.dumps(content, separators=(",", ":"), allow_nan=False).replace("</", r"<\/")
    script = (files.ASSETS / "browser.js").read_text()
    return f'<script type="application/json" id="data">{data}</script><script>{script}</script>'


def _summary(data: AmodalCoco, statistics: DatasetStatistics) -> str:
    words = [str(data.info.get("description", "")) or "A data set of visible and amodal masks"]
    if "converted_from" in data.info:
        words.append(f"converted from {data.info['converted_from']}")
    if not statistics.amodal:
        words.append("visible masks only: what is hidden is not known")
    return escape("; ".join(words)) + "."


def _tiles(statistics: DatasetStatistics) -> str:
    order = statistics.order
    tiles = [
        (
            statistics.images,
            "images",
            f"{statistics.occluded_image_share:.0%} with an occluded object",
        ),
        (
            statistics.objects,
            "objects",
            f"{statistics.objects / max(statistics.images, 1):.1f} an image",
        ),
        (
            f"{statistics.occluded_object_share:.0%}",
            "of the objects are occluded",
            f"on average {statistics.mean_rate_occluded:.0%} of them is hidden",
        ),
        (
            order.edges,
            "occlusions",
            f"longest chain {order.longest_chain}, {order.cyclic_images} images with cycles",
        ),
    ]
    if not statistics.amodal:
        tiles = tiles[:2]
        tiles[0] = (statistics.images, "images", "")
    return tiles_section(tiles)


def _distributions(statistics: DatasetStatistics) -> str:
    """Show objects by occlusion and by class as rows of bars; a click on one filters by it."""
    rates = [
        (name, count, "", f'data-bin="{i}"')
        for i, (name, count) in enumerate(zip(RATE_BINS, statistics.histogram))
    ]
    classes: list[tuple[str, int, str, str]] = [
        (
            c.name,
            c.objects,
            f"{c.occluded} occluded, {c.mean_rate:.0%} hidden",
            f'data-class="{i}"',
        )
        for i, c in enumerate(statistics.classes)
        if c.objects
    ]
    classes.sort(key=lambda row: -row[1])
    hidden = f"<div><h2>How much is hidden</h2>{_bars(rates)}</div>" if statistics.amodal else ""
    return (
        f'<section class="charts">{hidden}<div><h2>Classes <small>{len(classes)} of '
        f'{len(statistics.classes)} have objects</small></h2><div class="scroll">'
        f"{_bars(classes)}</div></div></section>"
    )


def _bars(rows: list[tuple[str, int, str, str]]) -> str:
    most = max((count for _, count, _, _ in rows), default=0) or 1
    return "".join(
        f'<div class="bar" {attribute} title="{escape(detail)}"><span>{escape(name)}</span>'
        f'<i style="width:{count / most:.1%}"></i><b>{count}</b><em>{escape(detail)}</em></div>'
        for name, count, detail, attribute in rows
    )


def _gallery(statistics: DatasetStatistics, content: Json) -> str:
    shown = len(content["images"])
    some = "" if shown == statistics.images else f" &middot; an even choice of {statistics.images}"
    layers = "".join(
        f'<label><input type="checkbox" data-layer="{name}" checked> {words}</label>'
        for name, words in (
            ("photo", "photograph"),
            ("visible", "visible"),
            ("hidden", "hidden"),
            ("amodal", "amodal outline"),
            ("edges", "who hides whom"),
        )
    )
    return (
        f"<section><h2>Images <small>{shown} images{some}</small></h2>"
        '<div class="controls"><label>class <select id="class"><option value="">all</option>'
        "</select></label>"
        '<label>hidden from <input id="low" type="number" min="0" max="100" value="0"> to '
        '<input id="high" type="number" min="0" max="100" value="100"> %</label>'
        '<label>images <select id="order"><option value="">all</option>'
        '<option value="edges">with occlusions</option><option value="cycles">'
        "with objects that hide each other</option></select></label>"
        '<label>sort <select id="sort"><option value="file">as in the file</option>'
        '<option value="rate">most hidden first</option>'
        '<option value="count">most objects first</option></select></label>'
        f'<button id="reset">show all</button></div><div class="controls">{layers}</div>'
        '<p class="note" id="found"></p><div id="cards"></div><div id="more"></div></section>'
    )
