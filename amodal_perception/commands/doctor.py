"""``amodal doctor``: what is installed, whether it fits together, and what mends it."""

from __future__ import annotations

import argparse
from pathlib import Path

from amodal_perception import doctor


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the options of ``amodal doctor``."""
    parser.add_argument(
        "--model", type=Path, help=".onnx or .engine file to check (default: the one shipped)"
    )
    parser.add_argument(
        "--device", default="", help="NVIDIA GPU, by index or UUID (default: the first)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON, for a report")


def run(arguments: argparse.Namespace) -> int:
    """Print what was found; return 0 when all fits, 1 after a warning, 2 after an error."""
    rows = doctor.examine(arguments.model, arguments.device)
    print(doctor.as_json(rows) if arguments.json else doctor.as_table(rows))
    return doctor.EXIT_CODES[doctor.worst(rows)]
