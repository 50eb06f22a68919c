"""HTML pages: one self-contained file in one style, and the pieces that several pages share."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from amodal_perception import files

DASH = "&ndash;"
"""Stands where there is no value."""


def write_page(
    path: Path, title: str, sections: Sequence[str], *, style: str = "", scripts: str = ""
) -> None:
    """Write sections of HTML as one page in the style of all reports, whole or not at all.

    Args:
        path: the ``.html`` file; its folder is made where it is missing.
        title: plain text.
        sections: HTML, in order.
        style: CSS of this page alone, after the common one.
        scripts: HTML of script elements, at the end.
    """
    css = (files.ASSETS / "report.css").read_text() + style
    page = (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{css}</style></head>"
        f"<body><main>{''.join(sections)}</main>{scripts}</body></html>\n"
    )
    with files.atomic_write(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def tiles_section(tiles: Iterable[tuple[object, str, str]]) -> str:
    """Return the row of large figures at the top of a page.

    Args:
        tiles: of each its value (HTML), what it is, and a detail in small print.
    """
    cells = "".join(
        f'<div class="tile"><b>{value}</b><span>{label}</span><em>{detail}</em></div>'
        for value, label, detail in tiles
    )
    return f'<section class="tiles">{cells}</section>'


def number(value: float | None, digits: int = 3, unit: str = "") -> str:
    """Return a number as HTML; a dash for None and NaN."""
    if value is None or math.isnan(value):
        return DASH
    return f"{value:.{digits}f}" + (f"<small>{unit}</small>" if unit else "")


def percent(value: float | None) -> str:
    """Return a share, 0..1, as HTML in whole percent; a dash for None."""
    return DASH if value is None else f"{value:.0%}"
