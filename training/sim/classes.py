"""Classes for simulated objects: ``python -m training.sim.classes DATA --out DIR``.

The simulator makes one class, ``object``, and notes every object's family of shapes. This writes
the same data with families, or groups of families, as classes, the same ones for every data set of
the simulator. Images with a family that is held out from training are left out: it would be a
class without an object.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from amodal_perception.command_line import run_main
from amodal_perception.errors import ConfigError, DatasetError
from amodal_perception.storage import amodal_coco


def class_of_family(by: str) -> dict[str, str]:
    """Return the class of every family that is trained on; `by` is ``family`` or ``group``."""
    from training.sim.shapes import TRAIN_GROUPS

    return {
        family.__name__: family.__name__ if by == "family" else group
        for group, families in TRAIN_GROUPS.items()
        for family in families
    }


def write_with_classes(data: Path, out: Path, *, by: str) -> tuple[int, int]:
    """Write a data set with classes; its images stay where they are, behind a link.

    Args:
        data: folder of the simulator's data.
        out: folder to write.
        by: ``family`` or ``group`` (boxes, revolved, tools, toys).

    Returns:
        How many images were written, and how many left out.

    Raises:
        DatasetError: not the simulator's.
        ConfigError: `out` is `data`, or holds other images.
    """
    if out.resolve() == data.resolve():
        raise ConfigError(f"--out {out}: is the data itself; give another folder")
    truth = amodal_coco.read(data)
    class_of = class_of_family(by)
    names = list(dict.fromkeys(class_of.values()))
    for row in truth.annotations.values():
        if "family" not in row:
            raise DatasetError(f"{truth.path}: annotation {row['id']} has no 'family'")
    heldout = {r["image_id"] for r in truth.annotations.values() if r["family"] not in class_of}
    rows = [
        {**row, "category_id": 1 + names.index(class_of[row["family"]])}
        for row in truth.annotations.values()
        if row["image_id"] not in heldout
    ]
    out.mkdir(parents=True, exist_ok=True)
    link, pictures = out / "images", (data / "images").resolve()
    if not link.exists():
        os.symlink(pictures, link)
    elif link.resolve() != pictures:
        raise ConfigError(f"{link}: holds other images; give another --out")
    amodal_coco.write(
        out / amodal_coco.ANNOTATIONS,
        images=[row for id, row in truth.images.items() if id not in heldout],
        annotations=rows,
        categories=amodal_coco.categories_of(names),
        occlusions=[row for row in truth.occlusions if row["image_id"] not in heldout],
        info={**truth.info, "classes_by": by},
    )
    return len(truth.images) - len(heldout), len(heldout)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m training.sim.classes", description=__doc__.split("\n\n")[0]
    )
    parser.add_argument("data", type=Path, help="folder that training.sim wrote")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument(
        "--by",
        choices=["family", "group"],
        default="family",
        help="28 families, or 4 groups of them: boxes, revolved, tools, toys (family)",
    )
    options = parser.parse_args(arguments)
    return run_main("training.sim.classes", lambda: _run(options))


def _run(options: argparse.Namespace) -> None:
    written, left_out = write_with_classes(options.data, options.out, by=options.by)
    print(f"{options.out}: {written} images; {left_out} with held-out families left out")


if __name__ == "__main__":
    sys.exit(main())
