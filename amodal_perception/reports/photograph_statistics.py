"""What a folder of photographs holds, for who looks before running a model on it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from tqdm import tqdm

from amodal_perception.errors import ImageError
from amodal_perception.storage.image_files import read_image
from amodal_perception.storage.image_listing import list_images

SIZES_SHOWN = 8
SHOWN = 3


def describe_photographs(folder: Path) -> dict[str, object]:
    """List how many photographs there are, their sizes, and which cannot be read, by name.

    Every one is decoded, as ``amodal predict`` would do it.

    Raises:
        ImageError: there is none, or the folder cannot be read.
    """
    images = list_images([folder])
    sizes: Counter[tuple[int, int]] = Counter()
    wrong = []
    for image in tqdm(images, unit="image", delay=2):
        try:
            height, width = read_image(image.path).shape[:2]
        except ImageError as error:
            wrong.append(str(error))
            continue
        sizes[height, width] += 1
    shown = [f"{w} x {h} ({count})" for (h, w), count in sizes.most_common(SIZES_SHOWN)]
    if len(sizes) > SIZES_SHOWN:
        shown.append(f"{len(sizes) - SIZES_SHOWN} other sizes")
    text: dict[str, object] = {"photographs": len(images)}
    if shown:
        text["pixels"] = f"{', '.join(shown)} (width x height, upright)"
    if wrong:
        more = f"; and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
        text["not readable"] = f"{len(wrong)}: {'; '.join(wrong[:SHOWN])}{more}"
    return text | {"what is in them": f"amodal predict {folder} --out RESULTS"}
