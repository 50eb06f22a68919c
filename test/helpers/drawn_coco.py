"""Small modal data sets of coloured ellipses on noise, in COCO's format."""

import json
from pathlib import Path

import cv2
import numpy as np
from pycocotools import mask as coco_mask

SIZE_HW = (96, 128)


def ellipse(centre_xy: tuple[int, int], half_xy: tuple[int, int]) -> np.ndarray:
    mask = np.zeros(SIZE_HW, np.uint8)
    cv2.ellipse(mask, centre_xy, half_xy, 0, 0, 360, 1, -1)
    return mask.astype(np.bool_)


def write_coco(folder: Path, images: list[list[tuple[np.ndarray, int, dict]]]) -> Path:
    """Write noise pictures with coloured objects: lists of (mask, category, other keys)."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    rows, records = [], []
    for number, objects in enumerate(images, 1):
        picture = rng.integers(0, 60, (*SIZE_HW, 3), np.uint8)
        for mask, category, extra in objects:
            picture[mask] = rng.integers(100, 256, 3)
            rle = coco_mask.encode(np.asfortranarray(mask.view(np.uint8)))
            rle["counts"] = rle["counts"].decode()
            row = {"id": len(rows) + 11, "image_id": number, "category_id": category, "iscrowd": 0}
            rows.append({**row, "segmentation": rle, **extra})
        name = f"{number:04d}.png"
        cv2.imwrite(str(folder / name), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        height, width = SIZE_HW
        records.append({"id": number, "file_name": name, "height": height, "width": width})
    categories = [{"id": 5, "name": "disc"}, {"id": 9, "name": "plate"}, {"id": 7, "name": "bar"}]
    path = folder / "instances.json"
    content = {"images": records, "annotations": rows, "categories": categories}
    path.write_text(json.dumps(content))
    return path
