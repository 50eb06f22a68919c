"""Compare systems of one size on one data set: ``python -m training.ablation data=DIR val=DIR``.

Trains the rows of ORCNN's Table 6 (and the baselines) one after the other, from the same seed and
for the same budget, evaluates each, and prints the table, which also goes to ``OUT/table.md``.
Running it again goes on where it stopped. Words ``key=value`` are settings over
``config/train/orcnn_light.yaml`` for all rows.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from amodal_perception import amodal_coco, files
from amodal_perception.errors import AmodalError, ConfigError
from training import checkpoints, distributed, evaluate
from training.config import load
from training.train import train

RECIPE = Path(__file__).parents[1] / "config/train/orcnn_light.yaml"
ROWS = {
    "mask_rcnn": ["model={name: mask_rcnn_light}"],
    "amodal_mask_rcnn": ["model={name: amodal_mask_rcnn_light}"],
    "orcnn_without_L_IV": ["model={name: orcnn_light, occluded_weight: 0}"],
    "orcnn_without_L_V": ["model={name: orcnn_light, visible_weight: 0}"],
    "orcnn_independent": ["model={name: orcnn_light, independent: true}"],
    "orcnn_class_specific": ["model={name: orcnn_light, class_agnostic: false}"],
    "orcnn": ["model={name: orcnn_light}"],
    "asn": ["model={name: asn_light}"],
}
"""Light systems have one mask for all classes; where the data has one class, the class-specific
row is the same network as `orcnn`."""
COLUMNS = {
    "AP_AV": "orcnn.all.AP_AV",
    "AP_A": "orcnn.all.AP_A",
    "AP_V": "orcnn.all.AP_V",
    "occluded AP_AV": "orcnn.occluded.AP_AV",
    "occluded AP_A": "orcnn.occluded.AP_A",
    "occluded AP_V": "orcnn.occluded.AP_V",
    "AP_IV50": "orcnn.occluded.AP_IV50",
}


def run_row(name: str, out: Path, words: Sequence[str]) -> dict[str, float]:
    """Train and evaluate one row, unless that is done; return its figures.

    Args:
        name: of `ROWS`.
        out: folder of all rows.
        words: ``key=value`` settings over the recipe.

    Raises:
        AmodalError: settings or data of no use.
    """
    run = out / name
    config = load(RECIPE, [*ROWS[name], *words, f"out={run}", "processes=1"])
    if not config.data or not config.val:
        raise ConfigError("data= and val= are needed: folders of training and validation data")
    newest = checkpoints.newest(run)
    if newest is None or int(newest.name) < config.iterations:
        train(config)
    path = run / "metrics.json"
    if not path.exists():
        truth = amodal_coco.read(Path(config.val) / evaluate.ANNOTATIONS)
        with distributed.joined(config.device) as device:
            found = evaluate.predict(evaluate.load(run, device, config.threads), truth)
        assert found is not None
        files.write_json(path, evaluate.figures(truth, found[0], "orcnn.all.AP_AV"), indent=2)
    return json.loads(path.read_text())


def table(rows: dict[str, dict[str, float]]) -> str:
    """Write figures as a Markdown table, in per cent; ``-`` where there is none."""
    lines = ["| system | " + " | ".join(COLUMNS) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
    for name, figures in rows.items():
        cells = [
            f"{100 * figures[key]:.1f}" if figures.get(key) is not None else "-"
            for key in COLUMNS.values()
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m training.ablation", description=__doc__.split("\n\n")[0]
    )
    parser.add_argument("--out", type=Path, default=Path("runs/ablation"), help="folder")
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), default=list(ROWS))
    parser.add_argument("words", nargs="*", metavar="key=value", help="settings of every row")
    options = parser.parse_intermixed_args(arguments)
    rows = {}
    try:
        for name in options.rows:
            rows[name] = run_row(name, options.out, options.words)
            options.out.mkdir(parents=True, exist_ok=True)
            with files.replacing(options.out / "table.md") as temporary:
                temporary.write_text(table(rows))
    except AmodalError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(table(rows), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
