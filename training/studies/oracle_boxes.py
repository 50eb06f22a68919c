"""Oracle boxes: how good are a network's masks when its detector is perfect?

    python -m training.studies.oracle_boxes RUN --data DIR --out DIR

Average precision measures the detector as much as the masks, and objects that are not detected
have no occlusion order. Here oracle boxes, the true amodal boxes and classes, replace the
detector; masks, and the order from them, are the network's. For systems that learn masks inside
amodal boxes: ORCNN, BCNet, PGExp, ASN and AmodalMRCNN. BLADE and BoxInst have
`training.studies.box_prompts`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from amodal_perception.boxes import xywh_to_xyxy
from amodal_perception.command_line import run_main
from amodal_perception.errors import ConfigError
from amodal_perception.evaluation.evaluate import QUICK, evaluate
from amodal_perception.pipeline import Pipeline, PipelineConfig
from amodal_perception.postprocess import PostprocessConfig
from amodal_perception.preprocess import letterbox
from amodal_perception.runtime import RawDetections, Runtime
from amodal_perception.storage import amodal_coco
from amodal_perception.storage.amodal_coco import AmodalCoco
from amodal_perception.storage.image_files import read_image
from amodal_perception.storage.predictions_file import SCENE
from amodal_perception.structures import Frame, Scene, UInt8Array
from training.evaluate import TorchRuntime, labels_of, load, merged, write_figures
from training.models.blade.blade import Blade
from training.models.detector_protocol import Proposals

PROTOCOLS = (*QUICK, "orcnn", "bayesian_amodal")


class OracleDetector(nn.Module):
    """A detector that returns oracle boxes."""

    proposals: Proposals

    def detect(self, levels: list[Tensor], size_hw: tuple[int, int]) -> Proposals:
        """Return the oracle boxes, whatever the image."""
        return self.proposals


class _UnitScores:
    """A runtime with all scores set to 1: those of oracle boxes."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.metadata = runtime.metadata
        self.hardware = runtime.hardware

    def __call__(self, image: UInt8Array) -> RawDetections:
        raw = self.runtime(image)
        return replace(raw, scores=np.ones_like(raw.scores))


@contextmanager
def oracle_detector(runtime: Runtime) -> Iterator[OracleDetector]:
    """Replace the network's detector by oracle boxes within a context.

    Raises:
        ConfigError: a network that takes no oracle boxes.
    """
    if not isinstance(runtime, TorchRuntime) or isinstance(runtime.model, Blade):
        raise ConfigError(
            f"{runtime.metadata.model_id}: oracle boxes need a run folder or checkpoint "
            "of a system with mask heads; blade and boxinst have training.studies.box_prompts"
        )
    model = runtime.model
    own, detector = model.detector, OracleDetector()
    model.detector = detector
    try:
        yield detector
    finally:
        model.detector = own


def scenes_with_oracle_boxes(runtime: Runtime, truth: AmodalCoco) -> Iterator[tuple[int, Scene]]:
    """Run inference with oracle boxes: the true ones in place of detected ones, of score 1.

    Args:
        runtime: a `TorchRuntime`.
        truth: images, and the boxes and classes of their objects; no mask is used.

    Raises:
        AmodalError: a network that takes no oracle boxes; an image that is missing or damaged.
    """
    label_of = labels_of(truth, runtime.metadata)
    pipeline = Pipeline(
        _UnitScores(runtime),
        PipelineConfig(
            postprocess=PostprocessConfig(overlap_threshold=1.0, max_instances=sys.maxsize)
        ),
    )
    with oracle_detector(runtime) as detector:
        assert isinstance(runtime, TorchRuntime)
        for image_id in tqdm(
            sorted(truth.images), "predicting", unit="image", delay=2, leave=False
        ):
            image = read_image(truth.path.parent / truth.images[image_id]["file_name"])
            rows = [row for row in truth.annotations_of(image_id) if not row.get("iscrowd")]
            camera = np.array([row["bbox"] for row in rows], np.float32).reshape(-1, 4)
            _, view = letterbox(image, runtime.metadata.input_hw)
            boxes = torch.from_numpy(view.boxes_to_input(xywh_to_xyxy(camera)))
            labels = torch.tensor(
                [label_of[row["category_id"]] for row in rows], dtype=torch.int64
            )
            index = torch.arange(len(rows))
            oracle = Proposals(boxes, torch.ones(len(rows)), labels, index)
            detector.proposals = Proposals(*(x[None].to(runtime.device) for x in oracle))
            yield image_id, pipeline(Frame(image))


def predict_with_oracle_boxes(runtime: Runtime, truth: AmodalCoco) -> AmodalCoco:
    """Return the scenes of `scenes_with_oracle_boxes` as predictions, with the truth's ids."""
    scenes = [
        amodal_coco.scene_to_annotations(scene, image_id=image_id, first_id=0)
        for image_id, scene in scenes_with_oracle_boxes(runtime, truth)
    ]
    return merged(scenes, truth, runtime.metadata, SCENE)


def figures(runtime: Runtime, truth: AmodalCoco) -> dict[str, float]:
    """Evaluate a network with oracle boxes."""
    return evaluate(truth, predict_with_oracle_boxes(runtime, truth), PROTOCOLS)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m training.studies.oracle_boxes", description=__doc__.split("\n\n")[0]
    )
    parser.add_argument("run", type=Path, help="run folder or checkpoint")
    parser.add_argument("--data", type=Path, required=True, help="amodal COCO folder")
    parser.add_argument("--out", type=Path, required=True, help="folder for the results")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads (0: all cores)")
    options = parser.parse_args(arguments)
    return run_main("training.studies.oracle_boxes", lambda: _run(options))


def _run(options: argparse.Namespace) -> None:
    if options.threads:
        torch.set_num_threads(options.threads)
    truth = amodal_coco.read(options.data)
    runtime = load(options.run, torch.device("cpu"), options.threads)
    write_figures(options.out, truth, predict_with_oracle_boxes(runtime, truth), PROTOCOLS)


if __name__ == "__main__":
    sys.exit(main())
