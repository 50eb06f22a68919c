"""Data sets of masks stacked in rows of two pixels, for statistics and pages of data sets."""

import numpy as np

from amodal_perception.ordering import OrderingConfig
from amodal_perception.storage import amodal_coco
from amodal_perception.storage.image_files import write_image
from helpers.scenes import mask, scene_of, stacked, truth_content

WIDE = mask("####....", "####....")
MIDDLE = mask("..####..", "..####..")
RIGHT = mask("....####", "....####")


def write_stacks(folder, *layers_of_images, labels=None, change=None):
    """Write a data set; each image is a stack of masks, the first on top."""
    scenes = [scene_of(stacked(*layers), OrderingConfig(1, 0.0)) for layers in layers_of_images]
    content = truth_content(scenes, ("cup", "box"), "images/{}.png")
    content["info"] = {"description": "stacks </script><b>bold"}
    for row, label in zip(content["annotations"], labels or ()):
        row["category_id"] = label + 1
    if change:
        change(content)
    path = folder / "annotations.json"
    amodal_coco.write(path, **content)
    return path


def write_chain(folder):
    """Write two images: a chain of three, each half hidden by the one before; one cup alone."""
    path = write_stacks(folder, [WIDE, MIDDLE, RIGHT], [WIDE], labels=[0, 1, 1, 0])
    write_image(path.parent / "images" / "1.png", np.full((2, 8, 3), 200, np.uint8))
    return path
