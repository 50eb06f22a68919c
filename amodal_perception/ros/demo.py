"""The sample bag played to the node over DDS, as on a robot, and a report on it.

    python -m amodal_perception.ros.demo --out out/demo

It is ``amodal replay --live`` with the bag, the truth and the model that come with the package.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from amodal_perception.errors import AmodalError
from amodal_perception.files import ASSETS
from amodal_perception.replay import batch_summary
from amodal_perception.replay.executors import run_in_turn
from amodal_perception.replay.jobs import ModelSettings, plan
from amodal_perception.replay.run_folder import print_table
from amodal_perception.ros.live_replay import replay_live, ros
from amodal_perception.runtime import DEFAULT_MODEL


def run(bag: Path, truth_path: Path | None, model: Path, out_dir: Path) -> None:
    """Play, record, measure, and write the report to `out_dir`.

    Raises:
        AmodalError: the bag, the truth or the model is not there, or the node failed.
    """
    jobs, _ = plan([bag], out_dir, ModelSettings(model), truth_path=truth_path)
    with ros(is_alone=True):
        outcomes = list(run_in_turn(jobs, replay_live))
    summary, failures = batch_summary.finish(out_dir, outcomes, {})
    if failures:
        raise AmodalError(failures[0].error)
    assert summary is not None
    print_table(summary)
    print(f"\n{out_dir / 'report.html'}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demonstration; return 0, or 1 where something failed."""
    arguments = _parse_arguments(argv)
    logging.basicConfig(level=logging.INFO, format="demo: %(message)s")
    try:
        run(arguments.bag, arguments.truth, arguments.model, arguments.out)
    except (AmodalError, OSError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="demo", description=__doc__.splitlines()[0])
    parser.add_argument("--bag", type=Path, default=ASSETS / "sample_bag", help="bag to play")
    parser.add_argument(
        "--truth", type=Path, help="amodal COCO file with stamp_ns (default: the sample bag's)"
    )
    parser.add_argument("--model", type=Path, default=DEFAULT_MODEL)
    parser.add_argument("--out", type=Path, required=True, help="folder for the report")
    arguments = parser.parse_args(argv)
    if arguments.truth is None and arguments.bag == ASSETS / "sample_bag":
        arguments.truth = ASSETS / "sample_truth.json"
    return arguments


if __name__ == "__main__":
    sys.exit(main())
