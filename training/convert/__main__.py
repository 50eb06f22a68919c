"""Convert a data set to amodal COCO: ``python -m training.convert FORMAT SOURCE --out T.json``.

Everything that follows from the masks is recomputed; every repair is counted and printed, and
kept in the file's ``info``. What cannot be understood stops the conversion with the annotation's
id and key, before anything is written.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

from amodal_perception.command_line import run_main
from training.convert import FORMATS, Format
from training.convert.repair_log import RepairLog
from training.convert.source import Source
from training.convert.source_folder import annotation_file, photographs_folder
from training.convert.write_amodal_coco import Tables, convert

SHOWN_LEFT_OUT = 20


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return the exit code."""
    arguments = _parser().parse_args(argv)
    return run_main("training.convert", lambda: _run(arguments), afterwards="nothing was written")


def _run(arguments: argparse.Namespace) -> None:
    chosen = FORMATS[arguments.format]
    log = RepairLog(leave_out=arguments.leave_out)
    given = arguments.sources if chosen.many else [arguments.source]
    files = _files_meant(arguments, chosen, given)
    source = chosen.read(arguments, log)
    images_dir = arguments.images
    if files != given and images_dir is None:
        source, images_dir = _with_photographs(source, given)
    if arguments.one_class:
        source = source.of_one_class(arguments.one_class)
    tables = convert(
        source,
        log,
        arguments.out,
        images_dir=images_dir,
        edges=arguments.edges,
        info={"converted_from": arguments.format, "source": [path.name for path in files]},
    )
    _report(source, log, tables, arguments.out)


def _files_meant(arguments: argparse.Namespace, chosen: Format, given: list[Path]) -> list[Path]:
    """Put the files in the place of folders that were given, and return them."""
    if not chosen.files:
        return given
    files = [annotation_file(path, chosen.files) for path in given]
    for folder, file in zip(given, files):
        if file != folder:
            print(f"{folder}: {file.relative_to(folder)} is read")
    if chosen.many:
        arguments.sources = files
    else:
        arguments.source = files[0]
    return files


def _with_photographs(source: Source, given: list[Path]) -> tuple[Source, Path | None]:
    """Look for the photographs in the folders that were given, by the name of the first image."""
    images = iter(source.images)
    first = next(images, None)
    if first is None:
        return source, None
    source = replace(source, images=chain([first], images))
    for folder in filter(Path.is_dir, given):
        found = photographs_folder(folder, first.file_name)
        if found is not None:
            print(f"{folder}: photographs are in {found.relative_to(folder)}")
            return source, found
    print(f"{given[0]}: holds no {first.file_name}; point --images at the photographs")
    return source, None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training.convert",
        description="Convert a data set to amodal COCO, the format that everything here reads.",
    )
    formats = parser.add_subparsers(dest="format", required=True, metavar="FORMAT")
    for name, chosen in FORMATS.items():
        one = formats.add_parser(name, help=chosen.help, description=chosen.help)
        if chosen.many:
            one.add_argument(
                "sources", type=Path, nargs="+", metavar="SOURCE", help="JSON files, or a folder"
            )
        else:
            one.add_argument("source", type=Path, metavar="SOURCE", help="JSON file, or folder")
        one.add_argument(
            "--out",
            type=Path,
            required=True,
            help="file to write; training reads annotations.json",
        )
        one.add_argument(
            "--images",
            type=Path,
            help="folder of the photographs (default: looked for in a folder that is SOURCE); "
            "their names are then written relative to --out",
        )
        one.add_argument(
            "--edges",
            choices=["given", "masks"],
            default="given",
            help="occlusions from the order the data gives, where it does, or from masks alone",
        )
        one.add_argument(
            "--one-class", metavar="NAME", help="make all objects of one class, of this name"
        )
        one.add_argument(
            "--leave-out",
            action="store_true",
            help="leave out what cannot be understood, and list it, instead of stopping",
        )
        if chosen.add_options:
            chosen.add_options(one)
    return parser


def _report(source: Source, log: RepairLog, tables: Tables, out: Path) -> None:
    """Print what was written, what was repaired, and what was left out."""
    print(
        f"{out}: {len(tables.images)} images, {len(tables.annotations)} annotations, "
        f"{len(source.categories)} categories, {len(tables.occlusions)} occlusions"
    )
    for origin, count in tables.occlusions_from.most_common():
        print(f"  occlusions from {origin}: {count} images")
    for remark in source.remarks:
        print(f"  {remark}")
    repairs = +log.repairs
    print(f"  repairs: {sum(repairs.values()) or 'none'}")
    for what, count in repairs.most_common():
        print(f"    {count:8} {what}")
    if log.left_out:
        print(f"  left out: {len(log.left_out)}")
        for line in log.left_out[:SHOWN_LEFT_OUT]:
            print(f"    {line}")
        if len(log.left_out) > SHOWN_LEFT_OUT:
            print(f"    ... all are in info.left_out of {out}")


if __name__ == "__main__":
    sys.exit(main())
