"""Description and page of PGExp's memory bank, like Figure 5 of Chen et al. (AAAI 2023)."""

from __future__ import annotations

from html import escape
from pathlib import Path

import cv2
import numpy as np

from amodal_perception.reports.page import write_page
from amodal_perception.storage.image_files import data_url
from amodal_perception.storage.memory_bank import TENSORS, MemoryBank, read_bank, unpack_masks
from amodal_perception.structures import BoolArray, FloatArray, UInt8Array

TILE_PX = 168
FRAME_PX = 112
"""Side of the slot's frame, the amodal box, in the middle of a tile: boxes may leave it."""
MARGIN_PX = (TILE_PX - FRAME_PX) // 2
GAP_PX = 6
BLUE, RED, GREEN = (45, 100, 220), (215, 45, 40), (60, 160, 80)
LIGHT_BLUE, GREY = (190, 212, 245), (150, 150, 150)


def describe_bank(folder: Path) -> dict[str, object]:
    """List what a bank holds, as values by name.

    Raises:
        DatasetError: damaged.
    """
    bank = read_bank(folder)
    C, S, D = bank.codes.shape
    packed = bank.codes.nbytes + bank.amodal.nbytes + C * S * 16  # and what moves the boxes
    text: dict[str, object] = {
        "kind": "expansion prior memory bank (PGExp)",
        "slots": f"{C} classes of {S}",
        "keys": f"visible masks of 28 x 28 cells, searched by codes of {D} numbers",
        "size": f"{(folder / TENSORS).stat().st_size / 1e6:.1f} MB; {packed / 1e6:.1f} MB of it "
        "in an exported network",
    }
    for c, name in enumerate(bank.class_names):
        if not bank.objects[c]:
            text[f"class {name}"] = "no objects: nothing expands"
            continue
        moved = int(bank.moved[c].sum())
        hidden = (bank.visible[c] != bank.amodal[c]).any(1)
        growth = _areas(bank.amodal_xyxy[c]) / np.maximum(_areas(bank.visible_xyxy[c]), 1e-6)
        typical = f", half of their boxes grow by over {np.median(growth[hidden]) - 1:.0%}"
        chosen = f"{S} medoids" if bank.objects[c] > S else f"{S - moved} and {moved} moved copies"
        text[f"class {name}"] = (
            f"{bank.objects[c]} objects, of these {chosen}; {hidden.mean():.0%} occluded"
            f"{typical if hidden.any() else ''}"
        )
    return text | {f"made from {key}": value for key, value in bank.made_from.items()}


def write_bank_page(folder: Path, out_dir: Path, *, limit: int) -> Path:
    """Write ``index.html`` with slots and the expansions by their nearest slots.

    Args:
        folder: of the bank.
        out_dir: made if it is not there.
        limit: most slots shown in all.

    Raises:
        DatasetError: damaged.
    """
    bank = read_bank(folder)
    sections = [
        "<header><h1>Expansion prior</h1><p>Each row: a slot (seen dark, hidden light); the boxes "
        "that its nearest slots would make of its visible box (blue; red: expanded; green: the "
        "truth); the flows from what is seen of it (blue) to their amodal masks (red).</p>"
        "</header>"
    ]
    left = limit
    for c, name in enumerate(bank.class_names):
        rows = [m for m in range(bank.shown.shape[1]) if bank.shown[c, m] >= 0][:left]
        left -= len(rows)
        figures = "".join(
            f'<figure><img src="{data_url(draw_slot(bank, c, m))}" alt="a slot and its nearest">'
            f"<figcaption>annotation {bank.ids[c, bank.shown[c, m]]}; nearest: annotations "
            f"{', '.join(str(bank.ids[c, near]) for near in _near(bank, c, m))}</figcaption>"
            "</figure>"
            for m in rows
        )
        sections.append(
            f"<section><h2>{escape(name)}</h2>{figures or '<p>No occluded slot to show.</p>'}"
            "</section>"
        )
    path = out_dir / "index.html"
    write_page(path, "Expansion prior", sections)
    return path


def draw_slot(bank: MemoryBank, c: int, m: int) -> UInt8Array:
    """Draw the slot, then the regression and then the flow of each of its nearest slots.

    Args:
        bank: the bank.
        c: the class.
        m: which of the shown slots of the class.
    """
    slot = int(bank.shown[c, m])
    visible, amodal = (unpack_masks(a[c, slot]) for a in (bank.visible, bank.amodal))
    seen = _in_frame(bank.visible_xyxy[c, slot], bank.amodal_xyxy[c, slot])
    tiles = [_masks_tile(visible, amodal)]
    for near in _near(bank, c, m):
        tile = _masks_tile(visible, visible)
        whole = np.array([0, 0, 1, 1], np.float32)
        _box(tile, whole, GREEN)
        _box(tile, seen, BLUE)
        _box(tile, expanded(seen, bank.visible_xyxy[c, near], bank.amodal_xyxy[c, near]), RED)
        tiles.append(tile)
    for k, near in enumerate(_near(bank, c, m)):
        flow = bank.shown_flow[c, m, k].astype(np.float32)
        tiles.append(_flow_tile(visible, unpack_masks(bank.amodal[c, near]), flow))
    gap = np.full((TILE_PX, GAP_PX, 3), 255, np.uint8)
    return np.concatenate([part for tile in tiles for part in (tile, gap)][:-1], 1)


def expanded(
    box_xyxy: FloatArray, visible_xyxy: FloatArray, amodal_xyxy: FloatArray
) -> FloatArray:
    """Apply to a box the regression from a slot's visible to its amodal box (equations 2, 4)."""
    scale = (box_xyxy[2:] - box_xyxy[:2]) / (visible_xyxy[2:] - visible_xyxy[:2])
    return np.concatenate(
        [
            box_xyxy[:2] + (amodal_xyxy[:2] - visible_xyxy[:2]) * scale,
            box_xyxy[2:] + (amodal_xyxy[2:] - visible_xyxy[2:]) * scale,
        ]
    )


def _near(bank: MemoryBank, c: int, m: int) -> list[int]:
    return [int(near) for near in bank.shown_near[c, m] if near >= 0]


def _areas(boxes_xyxy: FloatArray) -> FloatArray:
    size = boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]
    return np.asarray(size[:, 0] * size[:, 1])


def _in_frame(box_xyxy: FloatArray, frame_xyxy: FloatArray) -> FloatArray:
    """Express a box in units of a frame: the frame itself is 0, 0, 1, 1."""
    low, size = frame_xyxy[:2], frame_xyxy[2:] - frame_xyxy[:2]
    return np.asarray((box_xyxy - np.tile(low, 2)) / np.tile(size, 2))


def _masks_tile(visible: BoolArray, amodal: BoolArray) -> UInt8Array:
    cells = np.full((*visible.shape, 3), 255, np.uint8)
    cells[amodal] = LIGHT_BLUE
    cells[visible] = (110, 150, 225)
    frame = cv2.resize(cells, (FRAME_PX, FRAME_PX), interpolation=cv2.INTER_NEAREST)
    tile = np.full((TILE_PX, TILE_PX, 3), 255, np.uint8)
    tile[MARGIN_PX : MARGIN_PX + FRAME_PX, MARGIN_PX : MARGIN_PX + FRAME_PX] = frame
    return tile


def _box(tile: UInt8Array, box: FloatArray, color: tuple[int, int, int]) -> None:
    x0, y0, x1, y1 = (MARGIN_PX + np.round(box * FRAME_PX)).astype(int).tolist()
    cv2.rectangle(tile, (x0, y0), (x1 - 1, y1 - 1), color, 1, cv2.LINE_AA)


def _flow_tile(visible: BoolArray, amodal: BoolArray, flow: FloatArray) -> UInt8Array:
    """Draw points for both masks at 14 x 14, and where the content of the amodal cells is from."""
    tile = np.full((TILE_PX, TILE_PX, 3), 255, np.uint8)
    cells = flow.shape[1]
    centres = MARGIN_PX + (np.arange(cells) + 0.5) * FRAME_PX / cells
    seen, whole = (m.reshape(cells, 2, cells, 2).mean((1, 3)) >= 0.5 for m in (visible, amodal))
    for y, x in np.argwhere(whole):
        end = (round(centres[x]), round(centres[y]))
        offset = flow[:, y, x] * FRAME_PX / 2
        start = (round(centres[x] + offset[0]), round(centres[y] + offset[1]))
        if start != end:
            cv2.arrowedLine(tile, start, end, GREY, 1, cv2.LINE_AA, tipLength=0.3)
    for mask, color, radius in ((whole, RED, 2), (seen, BLUE, 1)):
        for y, x in np.argwhere(mask):
            cv2.circle(
                tile, (round(centres[x]), round(centres[y])), radius, color, -1, cv2.LINE_AA
            )
    return tile
