"""Heat maps of BCNet: where does it see the occluder and where the occludee in a RoI?

    python -m training.studies.bcnet_heat_maps RUN --data DIR --out DIR

Writes a page like the paper's figure 7: for occluded objects the RoI, and the predicted contour
and mask of occluder and occludee in it. BCNet only.
"""

from __future__ import annotations

import argparse
import sys
from html import escape
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from amodal_perception.command_line import run_main
from amodal_perception.errors import ConfigError
from amodal_perception.preprocess import letterbox
from amodal_perception.reports.page import write_page
from amodal_perception.storage import amodal_coco
from amodal_perception.storage.image_files import read_image
from amodal_perception.structures import UInt8Array
from training.evaluate import TorchRuntime, load
from training.models.bcnet.bcnet import Bcnet
from training.studies.object_strips import figure, heat, section, strip, tile

LAYERS = ("occluder_contour", "occluder_mask", "occludee_contour", "occludee_mask")


def strips(
    model: Bcnet, image: UInt8Array, *, count: int, score_threshold: float
) -> list[tuple[float, UInt8Array]]:
    """Draw the most hidden objects of an image.

    Args:
        model: in evaluation mode.
        image: [1, H, W, 3] uint8 RGB, at the network's input size.
        count: how many objects at most.
        score_threshold: lowest score of one.

    Returns:
        Score and strip of every object, those first of which the occluder covers most: the RoI,
        then the `LAYERS` the network has, each a tile.
    """
    with torch.inference_mode():
        found, logits = model.layers(torch.from_numpy(image))
    maps = {
        name: getattr(logits, name).sigmoid().numpy()
        for name in LAYERS
        if getattr(logits, name) is not None
    }
    above = next((maps[name] for name in LAYERS[:2][::-1] if name in maps), None)
    scores, boxes = found.scores[0].numpy(), found.boxes_xyxy[0].numpy()
    covered = maps["occludee_mask"] * (1.0 if above is None else above)
    order = np.argsort(-covered.mean((1, 2)), kind="stable")
    return [
        (
            float(scores[i]),
            strip([_crop(image[0], boxes[i]), *(heat(m[i]) for m in maps.values())]),
        )
        for i in order[scores[order] >= score_threshold][:count]
    ]


def _crop(image: UInt8Array, box_xyxy: np.ndarray) -> UInt8Array:
    x0, y0, x1, y1 = np.round(box_xyxy).astype(int)
    return tile(image[y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)])


def write_heat_maps(
    run: Path, data: Path, out: Path, *, images: int, objects: int, score_threshold: float
) -> Path:
    """Write ``heat_maps.html`` on the first images of a data set; return its path.

    Raises:
        ConfigError: the run is of another system.
        AmodalError: a file that is missing or damaged.
    """
    runtime = load(run, torch.device("cpu"))
    if not isinstance(runtime, TorchRuntime) or not isinstance(runtime.model, Bcnet):
        raise ConfigError(f"{run}: has no two layers to show; give a run of bcnet or bcnet_light")
    truth = amodal_coco.read(data)
    names = [truth.images[key]["file_name"] for key in sorted(truth.images)[:images]]
    shown = ", ".join(name.replace("_", "'s ") for name in ("RoI", *LAYERS))
    sections = [
        f"<header><h1>Two layers</h1><p>From left to right: {shown}. Dark is 0, light is 1; a "
        f"layer that was not trained is left out.</p><p class='model'>model "
        f"<code>{escape(runtime.metadata.model_id)}</code></p></header>"
    ]
    for name in tqdm(names, "drawing", unit="image", delay=2, leave=False):
        image, _ = letterbox(read_image(truth.path.parent / name), runtime.metadata.input_hw)
        found = strips(runtime.model, image, count=objects, score_threshold=score_threshold)
        figures = [
            figure(drawn, caption=f"score {score:.2f}", alt="layers of an object")
            for score, drawn in found
        ]
        sections.append(section(name, image[0], figures))
    path = out / "heat_maps.html"
    write_page(path, "Two layers", sections)
    return path


def main(arguments: list[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m training.studies.bcnet_heat_maps", description=__doc__.split("\n\n")[0]
    )
    parser.add_argument("run", type=Path, help="run folder or checkpoint of BCNet")
    parser.add_argument("--data", type=Path, required=True, help="amodal COCO folder")
    parser.add_argument("--out", type=Path, required=True, help="folder for heat_maps.html")
    parser.add_argument("--images", type=int, default=12, help="how many (12)")
    parser.add_argument("--objects", type=int, default=4, help="of an image, at most (4)")
    parser.add_argument(
        "--score-threshold", type=float, default=0.3, help="lowest score, 0..1 (0.3)"
    )
    options = parser.parse_args(arguments)
    return run_main("training.studies.bcnet_heat_maps", lambda: _run(options))


def _run(options: argparse.Namespace) -> None:
    path = write_heat_maps(
        options.run,
        options.data,
        options.out,
        images=options.images,
        objects=options.objects,
        score_threshold=options.score_threshold,
    )
    print(path)


if __name__ == "__main__":
    sys.exit(main())
