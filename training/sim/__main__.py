"""Command line of the simulator: ``python -m training.sim --scenes N --seed S --out DIR``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from amodal_perception.command_line import run_main
from training.sim.generate import FAMILY_SETS, DatasetConfig, generate, merge


def _size_hw(text: str) -> tuple[int, int]:
    try:
        width, height = (int(part) for part in text.split("x"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not WIDTHxHEIGHT") from None
    if min(width, height) < 64 or max(width, height) > 4096:
        raise argparse.ArgumentTypeError("width and height must be 64..4096 pixels")
    return height, width


def main(argv: list[str] | None = None) -> int:
    """Run the command; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m training.sim", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder to write or continue")
    parser.add_argument("--scenes", type=int, default=100, help="number of images")
    parser.add_argument("--seed", type=int, default=0, help="0 or more; same seed, same bytes")
    parser.add_argument(
        "--families",
        choices=FAMILY_SETS,
        default="train",
        help="shapes to draw from; benchmark: a fifth of the scenes heldout, the others train",
    )
    parser.add_argument("--workers", type=int, default=0, help="processes; 0: one per core")
    parser.add_argument(
        "--size", type=_size_hw, default=(480, 640), metavar="WxH", help="pixels (640x480)"
    )
    parser.add_argument("--depth", action="store_true", help="also write 16-bit PNGs, mm")
    parser.add_argument(
        "--merge-only", action="store_true", help="only gather the finished images' annotations"
    )
    args = parser.parse_args(argv)
    if args.scenes < 1 or args.seed < 0 or args.workers < 0:
        parser.error("--scenes must be at least 1, --seed and --workers at least 0")
    goes_on = f"finished images are kept; the same command continues {args.out}"
    return run_main("training.sim", lambda: _run(args), afterwards=goes_on)


def _run(args: argparse.Namespace) -> int:
    if args.merge_only:
        print(f"{args.out}: {merge(args.out)} images")
        return 0
    config = DatasetConfig(args.seed, args.scenes, args.families, args.size, args.depth)
    generate(config, args.out, workers=args.workers)
    return 0


if __name__ == "__main__":
    sys.exit(main())
