from dataclasses import replace
from pathlib import Path

import pytest
from helpers.paths import ASSETS
from helpers.scenes import write_scenes

from amodal_perception.errors import ConfigError
from amodal_perception.evaluation.evaluate import evaluate
from amodal_perception.evaluation.figure_names import figure_names
from amodal_perception.evaluation.protocols import PROTOCOLS
from amodal_perception.storage import amodal_coco
from amodal_perception.storage.amodal_coco import AmodalCoco


def drawn(folder: Path) -> AmodalCoco:
    """Objects that all kinds of protocols can sort."""
    write_scenes(folder, count=2, size_hw=(120, 160), objects=5)
    truth = amodal_coco.read(folder / "annotations.json")
    cells = [(f, b) for f in range(3) for b in range(2)]
    rows = {
        number: {**row, "isstuff": i % 2, "foreground_level": f, "background_level": b}
        for i, (number, row) in enumerate(truth.annotations.items())
        for f, b in [cells[i % len(cells)]]
    }
    depth_orders = tuple(
        {"closer_id": edge["occluder_id"], "farther_id": edge["occludee_id"], "equal": i % 2 > 0}
        for i, edge in enumerate(truth.occlusions)
    )
    return replace(truth, annotations=rows, depth_orders=depth_orders)


@pytest.mark.parametrize("kind", ["drawn", "sample", "without_visible"])
def test_names_are_those_that_the_data_set_gives(tmp_path, kind):
    truth = amodal_coco.read(ASSETS / "sample_truth.json") if kind == "sample" else drawn(tmp_path)
    if kind == "without_visible":
        rows = {
            number: {k: v for k, v in row.items() if not k.startswith("visible")}
            for number, row in truth.annotations.items()
        }
        truth = replace(truth, annotations=rows, occlusions=(), depth_orders=())
    scored = {number: {**row, "score": 1.0} for number, row in truth.annotations.items()}
    measured = evaluate(truth, replace(truth, annotations=scored), None)
    named = {name: figure_names(truth, name) for name in PROTOCOLS}
    for figure in measured:
        protocol = figure.split(".")[0]
        assert protocol == "counts" or figure in named[protocol][0], figure
    for protocol, (names, obstacle) in named.items():
        assert bool(obstacle) == (not any(f.startswith(f"{protocol}.") for f in measured)), names


def test_unknown_protocol_lists_those_there_are(tmp_path):
    with pytest.raises(ConfigError, match="unknown protocol AP; there are coco, orcnn"):
        figure_names(drawn(tmp_path), "AP")
