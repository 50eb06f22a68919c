"""The ``amodal`` command: its subcommands, each a module of `amodal_perception.commands`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

from amodal_perception.command_line import run_main

COMMANDS = {
    "replay": ("replay", "run the model on every frame of bags, and report"),
    "predict": ("predict", "run the model on image files"),
    "evaluate": ("evaluate", "score predictions against truth"),
    "bench": ("bench", "measure latency by stage and throughput"),
    "build-engine": ("build_engine", "compile a model for an NVIDIA GPU"),
    "doctor": ("doctor", "say what is installed, whether it fits, and what mends it"),
    "inspect": ("inspect_file", "list what a model, bag or dataset holds"),
}
"""By name the module in `amodal_perception.commands`, and what the command does.

A module has ``add_arguments(parser)`` and ``run(arguments)``, which returns an exit code. The
chosen one alone is imported: each needs packages that the others do without.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code, 0 when all went well."""
    return run_main("amodal", lambda: _run(sys.argv[1:] if argv is None else argv))


def _run(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="amodal",
        description="Amodal perception: visible and amodal masks, occlusion and removal order.",
    )
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")
    for name, (module, help_text) in COMMANDS.items():
        subparser = subparsers.add_parser(name, help=help_text)
        if argv and argv[0] == name:
            command = import_module(f"amodal_perception.commands.{module}")
            command.add_arguments(subparser)
            subparser.set_defaults(run=command.run)
    arguments = parser.parse_args(argv)
    return int(arguments.run(arguments))


if __name__ == "__main__":
    sys.exit(main())
