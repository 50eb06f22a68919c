"""Build PGExp's expansion prior: ``python -m training.prior DATA --out FOLDER [key=value ...]``.

DATA is a folder in the amodal COCO format. The words are settings of ``model``, as ``slots=500``;
``model.prior=FOLDER`` lets training runs use the result.
Stages whose files are there are not repeated.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path

from amodal_perception.command_line import run_main
from amodal_perception.errors import ConfigError
from training import distributed
from training.loop.config import from_mapping
from training.models.pgexp.pgexp import PgexpSettings


def main(arguments: list[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m training.prior", description=__doc__.split("\n\n")[0]
    )
    parser.add_argument("data", type=Path, help="folder of the training data")
    parser.add_argument("words", nargs="*", metavar="key=value", help="settings: slots, code, ...")
    parser.add_argument("--out", type=Path, required=True, help="folder of the prior")
    parser.add_argument("--model", choices=["pgexp", "pgexp_light"], default="pgexp_light")
    parser.add_argument("--seed", type=int, default=0, help="of random choices (0)")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    options = parser.parse_intermixed_args(arguments)
    goes_on = "the same command goes on with the stage it was at"
    return run_main("training.prior", lambda: _run(options), afterwards=goes_on)


def _run(options: argparse.Namespace) -> None:
    settings = _settings(options.model, options.words)
    start = time.perf_counter()
    with distributed.process_group(options.device) as device:
        replace(settings, prior=str(options.out)).prepare(
            options.data, options.out, options.seed, device
        )
    _report(options.out, time.perf_counter() - start)


def _settings(name: str, words: list[str]) -> PgexpSettings:
    import yaml

    values = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals:
            raise ConfigError(f"'{word}' is not of the form key=value")
        values[key] = yaml.safe_load(text)
    config = from_mapping({"model": {"name": name, **values}}, source="command line")
    assert isinstance(config.model, PgexpSettings)
    return config.model


def _report(folder: Path, seconds: float) -> None:
    from training.models.pgexp.prior_building.prior_stages import figures

    for name, facts in figures(folder).items():
        shown = {k: v for k, v in facts.items() if isinstance(v, float)}
        print(name, ", ".join(f"{k} {v:.4g}" for k, v in shown.items()))
    print(f"{folder}: {seconds:.1f} s")


if __name__ == "__main__":
    sys.exit(main())
