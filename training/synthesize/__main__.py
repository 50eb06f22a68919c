"""Make data sets with amodal truth from photographs: ``python -m training.synthesize RECIPE``."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from amodal_perception.command_line import run_main
from amodal_perception.files import sha256_of
from amodal_perception.reports.dataset_statistics import summarise
from amodal_perception.storage import amodal_coco
from training.packed_objects import read_objects
from training.synthesize import coco_occ as split
from training.synthesize import parallel
from training.synthesize.d2sa import COUNTS, D2saRecipe, table
from training.synthesize.occlusion import OcclusionRecipe, OcclusionSettings, complete_objects


def occlusion(options: argparse.Namespace) -> None:
    """BCNet's Synthetic Occlusion Dataset: one complete object in front of another."""
    objects = read_objects(options.source, options.images)
    settings = OcclusionSettings()
    complete = complete_objects(objects, settings)
    for name, count in complete.remaining.items():
        print(f"{count:9,} {name}", file=sys.stderr)
    recipe = OcclusionRecipe(objects, complete.indices, options.seed, settings)
    parallel.make(
        options.out,
        recipe.draw,
        options.count,
        settings={"recipe": "occlusion", **_origin(options.source), **recipe.facts()},
        class_names=objects.class_names,
        workers=options.workers,
    )


def d2sa(options: argparse.Namespace) -> None:
    """ORCNN's augmentation of D2S amodal: products pasted over each other."""
    objects = read_objects(options.source, options.images)
    print("fitting the layout to the published figures", file=sys.stderr)
    recipe = D2saRecipe(objects, options.variant, options.seed)
    parallel.make(
        options.out,
        recipe.draw,
        options.count or COUNTS[options.variant],
        settings={
            "recipe": f"d2sa {options.variant}",
            **_origin(options.source),
            **recipe.facts(),
        },
        class_names=objects.class_names,
        workers=options.workers,
    )
    truth = amodal_coco.read(options.out / "annotations.json")
    print(table(options.variant, summarise(truth)))


def coco_occ(options: argparse.Namespace) -> None:
    """BCNet's COCO-OCC split: the images of COCO whose objects overlap."""
    data = amodal_coco.read(options.source)
    chosen = split.images_by_rule(data)
    rule = options.rule or split.nearest(chosen, len(data.images))
    kept = split.subset(data, chosen[rule])
    photographs = options.images or options.source.parent
    amodal_coco.write(
        options.out,
        images=[
            {**row, "file_name": _seen_from(options.out, photographs / row["file_name"])}
            for row in kept.images.values()
        ],
        annotations=list(kept.annotations.values()),
        categories=list(kept.categories.values()),
        occlusions=kept.occlusions,
        info={**kept.info, "coco_occ_rule": rule, **_origin(options.source)},
    )
    print(split.table(chosen, len(data.images), rule))


def _seen_from(file: Path, path: Path) -> str:
    """Name a path relative to the folder of a file."""
    return Path(os.path.relpath(path.resolve(), file.resolve().parent)).as_posix()


def _origin(source: Path) -> dict[str, str]:
    """Name the file of a data set's pieces, so that another one is not taken for it."""
    return {
        "source": source.name,
        "source_sha256": sha256_of(source),
    }


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m training.synthesize", description=__doc__.split(":")[0] + "."
    )
    recipes = parser.add_subparsers(metavar="RECIPE", required=True)
    add = recipes.add_parser("occlusion", help=occlusion.__doc__, description=occlusion.__doc__)
    _common(add, count=100_000)
    add.set_defaults(run=occlusion)
    add = recipes.add_parser("d2sa", help=d2sa.__doc__, description=d2sa.__doc__)
    add.add_argument("variant", choices=COUNTS, help="complete or modal masks of the products")
    _common(add, count=None)
    add.set_defaults(run=d2sa)
    add = recipes.add_parser("coco-occ", help=coco_occ.__doc__, description=coco_occ.__doc__)
    add.add_argument("source", type=Path, help="instances_val2017.json")
    add.add_argument("--images", type=Path, help="folder of its photographs (beside the file)")
    add.add_argument("--out", type=Path, required=True, help="JSON file to write")
    add.add_argument(
        "--rule", choices=split.RULES, help="meaning of overlap (the one nearest to the paper)"
    )
    add.set_defaults(run=coco_occ)
    options = parser.parse_args(arguments)
    if (getattr(options, "count", 1) or 1) < 1 or getattr(options, "seed", 0) < 0:
        parser.error("--count must be at least 1, --seed at least 0")
    goes_on = f"finished images are kept; the same command continues {options.out}"
    return run_main("training.synthesize", lambda: options.run(options), afterwards=goes_on)


def _common(parser: argparse.ArgumentParser, count: int | None) -> None:
    parser.add_argument("source", type=Path, help="JSON file in COCO's or the amodal COCO format")
    parser.add_argument("--images", type=Path, help="folder of its photographs (beside the file)")
    parser.add_argument("--out", type=Path, required=True, help="folder to write or continue")
    known = f"{count:,}" if count else "as published"
    parser.add_argument("--count", type=int, default=count, help=f"number of images ({known})")
    parser.add_argument("--seed", type=int, default=0, help="0 or more; same seed, same bytes")
    parser.add_argument("--workers", type=int, default=0, help="processes; 0: one per core")


if __name__ == "__main__":
    sys.exit(main())
