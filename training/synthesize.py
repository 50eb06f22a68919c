"""Make data sets with amodal truth from photographs: ``python -m training.synthesize RECIPE``."""

from __future__ import annotations

import argparse
import hashlib
import sys
from pathlib import Path

from amodal_perception.errors import AmodalError
from training.datasets.objects import read_objects
from training.synthesis import numbered
from training.synthesis.occlusion import OcclusionRecipe, OcclusionSettings, complete_objects


def occlusion(options: argparse.Namespace) -> None:
    """BCNet's Synthetic Occlusion Dataset: one complete object in front of another."""
    objects = read_objects(options.source, options.images)
    settings = OcclusionSettings()
    complete = complete_objects(objects, settings)
    for name, left in complete.left.items():
        print(f"{left:9,} {name}", file=sys.stderr)
    recipe = OcclusionRecipe(objects, complete.indices, options.seed, settings)
    numbered.make(
        options.out,
        recipe.draw,
        options.count,
        settings={"recipe": "occlusion", **_origin(options.source), **recipe.facts()},
        class_names=objects.class_names,
        workers=options.workers,
    )


def _origin(source: Path) -> dict[str, str]:
    """Name the file of a data set's pieces, so that another one is not taken for it."""
    return {
        "source": source.name,
        "source_sha256": hashlib.sha256(source.read_bytes()).hexdigest(),
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
    options = parser.parse_args(arguments)
    if getattr(options, "count", 1) < 1 or getattr(options, "seed", 0) < 0:
        parser.error("--count must be at least 1, --seed at least 0")
    try:
        options.run(options)
    except AmodalError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"error: {error}; finished images are kept", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"stopped; run the same command again to continue {options.out}", file=sys.stderr)
        return 130
    return 0


def _common(parser: argparse.ArgumentParser, count: int) -> None:
    parser.add_argument("source", type=Path, help="JSON file in COCO's or the amodal COCO format")
    parser.add_argument("--images", type=Path, help="folder of its photographs (beside the file)")
    parser.add_argument("--out", type=Path, required=True, help="folder to write or continue")
    parser.add_argument("--count", type=int, default=count, help=f"number of images ({count})")
    parser.add_argument("--seed", type=int, default=0, help="0 or more; same seed, same bytes")
    parser.add_argument("--workers", type=int, default=0, help="processes; 0: one per core")


if __name__ == "__main__":
    sys.exit(main())
