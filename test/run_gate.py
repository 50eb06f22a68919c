"""Long runs that the node must pass; each prints its figures and writes them as JSON.

    scripts/with_ros python test/run_gate.py fuzz --count 100000
    scripts/with_ros python test/run_gate.py soak --seconds 600
    scripts/with_ros python test/run_gate.py interrupts --count 100
    scripts/with_ros python test/run_gate.py kills --count 20
    scripts/with_ros python test/run_gate.py delivery --count 900

The exit code is 0 if every figure is within its limit, else 1.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

from gates import delivery, fuzz, restarts, soak
from gates.watch import conclude
from helpers.onnx_models import write_model, write_moody_model


def main() -> int:
    """Run one gate and return its exit code."""
    arguments = _parse_arguments()
    # Nobody else's nodes: a domain of its own (101 is the last whose ports Linux does not use
    # otherwise), on this machine alone.
    os.environ["ROS_DOMAIN_ID"] = str(1 + os.getpid() % 50)
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    settings = {name: value for name, value in vars(arguments).items() if name != "out"}
    with tempfile.TemporaryDirectory() as folder:
        models = SimpleNamespace(
            folder=Path(folder),
            quick=write_model(Path(folder) / "quick.onnx"),
            moody=write_moody_model(Path(folder) / "moody.onnx"),
        )
        figures = _run(arguments, models)
    return conclude(arguments.gate, settings, figures, arguments.out)


def _run(arguments: argparse.Namespace, models: SimpleNamespace) -> list:
    if arguments.gate == "delivery":  # each case has a process and a middleware of its own
        return delivery.run(models, arguments.count)
    if arguments.gate == "soak":
        # As documented for raw images: else a lost part of one may hold it up for a second.
        os.environ.update(delivery.LARGE_SEGMENT)
    import rclpy

    rclpy.init(args=[])
    try:
        if arguments.gate == "fuzz":
            return fuzz.run(rclpy, models, arguments.count, arguments.seed)
        if arguments.gate == "soak":
            return soak.run(rclpy, models, arguments.seconds)
        if arguments.gate == "interrupts":
            return restarts.run_interrupts(rclpy, models, arguments.count)
        return restarts.run_kills(rclpy, models, arguments.count)
    finally:
        rclpy.try_shutdown()


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    gates = parser.add_subparsers(dest="gate", required=True)
    for name, count, unit in (
        ("fuzz", 100_000, "messages"),
        ("interrupts", 100, "SIGINTs in the middle of an inference"),
        ("kills", 20, "SIGKILLs, each followed by a new start"),
        ("delivery", 900, "frames of each case, at 30 a second"),
    ):
        gate = gates.add_parser(name, help=f"--count {unit}")
        gate.add_argument("--count", type=int, default=count, help=unit)
        if name == "fuzz":
            gate.add_argument("--seed", type=int, default=0, help="of the mutations")
    gate = gates.add_parser("soak", help="30 images a second at a model that sees 5")
    gate.add_argument("--seconds", type=float, default=600, help="how long")
    for gate in gates.choices.values():
        gate.add_argument(
            "--out", type=Path, default=Path("out/reliability"), help="folder for the figures"
        )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
