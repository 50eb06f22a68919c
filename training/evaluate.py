"""Evaluate a network: ``python -m training.evaluate RUN|M.onnx --data DIR --out DIR``.

RUN is a run folder (its newest averaged weights), one of its checkpoints, or its
``best.safetensors``. Every image goes through `amodal_perception.pipeline`, as on a robot; what is
measured is what the network gives, as the papers do, or with ``--scene`` what the robot is told.
``torchrun --nproc_per_node=N -m training.evaluate ...`` shares the images among N processes; the
figures are the same.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn
from tqdm import tqdm

from amodal_perception.command_line import run_main
from amodal_perception.drawing.overlay import draw_scene
from amodal_perception.errors import ConfigError
from amodal_perception.evaluation import protocols
from amodal_perception.evaluation.evaluate import QUICK
from amodal_perception.evaluation.evaluate import evaluate as evaluate_predictions
from amodal_perception.pipeline import Pipeline, PipelineConfig
from amodal_perception.postprocess import PostprocessConfig
from amodal_perception.raw_masks import paste_detections
from amodal_perception.reports.evaluation_folder import evaluate_files, headline_text
from amodal_perception.runtime import ModelMetadata, RawDetections, Runtime, load_runtime
from amodal_perception.storage import amodal_coco
from amodal_perception.storage.amodal_coco import AmodalCoco, Json
from amodal_perception.storage.image_files import read_image
from amodal_perception.storage.predictions_file import (
    RAW,
    SCENE,
    predictions_info,
    raw_to_annotations,
)
from amodal_perception.structures import Frame, UInt8Array
from training import distributed
from training.loop import checkpoints
from training.loop.config import TrainConfig, model_name

SHOWN_IMAGES = 4


class TorchRuntime:
    """A PyTorch network as the pipeline's inference runtime."""

    def __init__(self, model: nn.Module, metadata: ModelMetadata, device: torch.device) -> None:
        """Take a network in evaluation mode, on `device`."""
        self.model = model
        self.metadata = metadata
        self.device = device
        self.hardware = str(device)

    def __call__(self, image: UInt8Array) -> RawDetections:
        """Run the network on [1, H, W, 3] uint8 RGB."""
        with torch.inference_mode():
            outputs = self.model(torch.from_numpy(image).to(self.device))
        found = {name: values.cpu().numpy() for name, values in outputs.of_image(0).items()}
        return RawDetections(boxes_xyxy=found.pop("boxes"), **found)


def torch_runtime(
    model: nn.Module,
    config: TrainConfig,
    class_names: tuple[str, ...],
    device: torch.device,
    sha256: str = "",
) -> TorchRuntime:
    """Wrap a PyTorch network as a `TorchRuntime`; `sha256` is that of its weights' file."""
    metadata = ModelMetadata(
        name=model_name(config),
        sha256=sha256,
        class_names=class_names,
        input_hw=config.input_hw,
        max_instances=0,  # of interest to engines with fixed shapes only
        mask_size=0,
        one_mask=config.model.one_mask,
    )
    return TorchRuntime(model, metadata, device)


def load(path: Path, device: torch.device, num_threads: int = 0) -> Runtime:
    """Load a run, a checkpoint or a model file.

    Raises:
        ModelFileError: it is neither, or damaged.
    """
    if path.is_file() and path.suffix != ".safetensors":
        return load_runtime(path, num_threads=num_threads)
    config, facts = checkpoints.read_config(path)
    model = config.model.build(len(facts["class_names"]))
    weights = checkpoints.averaged_weights(path)
    model.load_state_dict(weights)
    digest = hashlib.sha256()
    for tensor in weights.values():
        digest.update(tensor.numpy().tobytes())
    model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    model.eval()
    return torch_runtime(
        model, config, tuple(facts["class_names"]), device, sha256=digest.hexdigest()
    )


@dataclass(frozen=True)
class Predicted:
    """Predictions for a data set, with the truth's image ids.

    Attributes:
        raw: what the network gives.
        scene: what the robot is told.
        overlays: scenes of the first images, by file name.
    """

    raw: AmodalCoco
    scene: AmodalCoco
    overlays: dict[str, UInt8Array]


def predict(
    runtime: Runtime,
    truth: AmodalCoco,
    *,
    score_threshold: float | None = None,
) -> Predicted | None:
    """Run inference on all images of a data set, shared by the processes.

    Args:
        runtime: the network.
        truth: names the images, which lie beside its file.
        score_threshold: lowest score of a prediction; None: 0 in what the network gives, and in
            scenes the node's.

    Returns:
        The predictions; None in all processes but the first.

    Raises:
        ImageError: an image that is missing or damaged.
    """
    postprocess = PostprocessConfig()
    if score_threshold is not None:
        postprocess = replace(postprocess, score_threshold=score_threshold)
    pipeline = Pipeline(runtime, PipelineConfig(postprocess=postprocess))
    image_ids = sorted(truth.images)
    own = image_ids[distributed.rank() :: distributed.world_size()]
    silent = distributed.rank() > 0
    raw_of, scene_of, overlays = {}, {}, {}
    for image_id in tqdm(own, "predicting", unit="image", delay=2, leave=False, disable=silent):
        name = truth.images[image_id]["file_name"]
        frame = Frame(read_image(truth.path.parent / name))
        inference = pipeline.infer(frame)
        scene = pipeline.scene(frame, inference)
        pasted = paste_detections(
            inference.raw, inference.transform, score_threshold=score_threshold or 0.0
        )
        raw_of[image_id] = raw_to_annotations(pasted, image_id=image_id, first_id=0)
        scene_of[image_id] = amodal_coco.scene_to_annotations(scene, image_id=image_id, first_id=0)
        if image_id in image_ids[:SHOWN_IMAGES]:
            overlays[name] = draw_scene(frame.image, scene)
    shares = distributed.gather((raw_of, scene_of, overlays))
    if not shares:
        return None
    raw_by_image, scene_by_image, pictures = (
        {key: value for share in shares for key, value in share[part].items()} for part in range(3)
    )
    return Predicted(
        merged([(raw_by_image[i], []) for i in image_ids], truth, runtime.metadata, RAW),
        merged([scene_by_image[i] for i in image_ids], truth, runtime.metadata, SCENE),
        dict(sorted(pictures.items())),
    )


def merged(
    images: list[tuple[list[Json], list[Json]]],
    truth: AmodalCoco,
    metadata: ModelMetadata,
    kind: str,
) -> AmodalCoco:
    """Merge the annotations and edges of images into one data set, with consecutive ids."""
    annotations: dict[int, Json] = {}
    occlusions: list[Json] = []
    for rows, edges in images:
        first = len(annotations) + 1
        annotations |= {first + row["id"]: {**row, "id": first + row["id"]} for row in rows}
        ends = ("occluder_id", "occludee_id")
        occlusions += [{**edge, **{end: first + edge[end] for end in ends}} for edge in edges]
    categories = amodal_coco.categories_of(metadata.class_names)
    return AmodalCoco(
        path=Path(metadata.model_id),
        images=truth.images,
        categories={row["id"]: row for row in categories},
        annotations=annotations,
        occlusions=tuple(occlusions),
        info=predictions_info(kind, metadata),
    )


def labels_of(truth: AmodalCoco, metadata: ModelMetadata) -> dict[int, int]:
    """Return the network's label of every category of a data set, by their names.

    Raises:
        ConfigError: the network has no such class.
    """
    names = list(metadata.class_names)
    for row in truth.categories.values():
        if row["name"] not in names:
            raise ConfigError(
                f"{truth.path}: class '{row['name']}' is unknown to {metadata.model_id}, whose "
                f"classes are {', '.join(names)}"
            )
    return {number: names.index(row["name"]) for number, row in truth.categories.items()}


def write_figures(
    out: Path, truth: AmodalCoco, predictions: AmodalCoco, names: Sequence[str] | None = None
) -> None:
    """Write ``predictions.json`` and `amodal evaluate`'s results for it into a folder.

    Args:
        out: the folder, made where it is missing.
        truth: of the same images.
        predictions: of the network.
        names: protocols; None takes all that are possible.
    """
    path = out / "predictions.json"
    amodal_coco.write(
        path,
        images=list(predictions.images.values()),
        annotations=list(predictions.annotations.values()),
        categories=list(predictions.categories.values()),
        occlusions=predictions.occlusions,
        info=predictions.info,
    )
    evaluation = evaluate_files(truth.path, path, out, names=names)
    print(headline_text(evaluation, out))


def measure(predicted: Predicted, truth: AmodalCoco, names: Sequence[str]) -> dict[str, float]:
    """Measure predictions by protocols, each on the kind of predictions that it is defined on.

    Raises:
        ConfigError: there is no such protocol.
    """
    protocols.check_names(names)
    of_scene = [name for name in names if protocols.PROTOCOLS[name].of_scene]
    of_raw = [name for name in names if name not in of_scene]
    figures = evaluate_predictions(truth, predicted.scene, of_scene)
    return figures | evaluate_predictions(truth, predicted.raw, of_raw)


def validate(
    model: nn.Module,
    truth: AmodalCoco,
    config: TrainConfig,
    class_names: tuple[str, ...],
    device: torch.device,
) -> tuple[dict[str, float], dict[str, UInt8Array]] | None:
    """Evaluate a network during training, on the validation data.

    Args:
        model: in evaluation mode.
        truth: names the images, which lie beside its file.
        config: of the run.
        class_names: by label.
        device: of the network.

    Returns:
        Figures by name, of the quick protocols and that of `best_metric` (see `measure`), and
        overlays of the first images by file name; None in all processes but the first.
    """
    predicted = predict(torch_runtime(model, config, class_names, device), truth)
    if predicted is None:
        return None
    names = dict.fromkeys([*QUICK, config.best_metric.split(".")[0]])
    return measure(predicted, truth, list(names)), predicted.overlays


def evaluate(
    path: Path,
    data: Path,
    out: Path,
    *,
    device: torch.device,
    num_threads: int = 0,
    score_threshold: float | None = None,
    scene: bool = False,
) -> None:
    """Write ``predictions.json``, and what `amodal evaluate` writes: all figures and a report.

    Args:
        path: run folder, checkpoint, ``best.safetensors`` or model file.
        data: folder with ``annotations.json`` and the images it names.
        out: folder, made where it is missing.
        device: of a PyTorch network; a model file has its own engine.
        num_threads: CPU threads of the network in each process; 0 lets it choose.
        score_threshold: lowest score of a prediction, see `predict`.
        scene: measure what the robot is told instead of what the network gives.

    Raises:
        AmodalError: a file that is missing or damaged, or classes that the truth does not have.
    """
    if num_threads:
        torch.set_num_threads(num_threads)
    truth = amodal_coco.read(data)
    found = predict(load(path, device, num_threads), truth, score_threshold=score_threshold)
    if found is not None:
        write_figures(out, truth, found.scene if scene else found.raw)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m training.evaluate", description=__doc__.split("\n\n")[0]
    )
    parser.add_argument("model", type=Path, help="run folder, checkpoint or .onnx file")
    parser.add_argument("--data", type=Path, required=True, help="amodal COCO folder, or file")
    parser.add_argument("--out", type=Path, required=True, help="folder for the results")
    parser.add_argument(
        "--scene",
        action="store_true",
        help="measure what the robot is told (a pixel is visible of one instance, repetitions are "
        "gone, scores are 0.5 at least) instead of what the network gives",
    )
    parser.add_argument(
        "--score-threshold",
        type=float,
        help="lowest score of a prediction, 0..1 (default: 0; with --scene that of the node)",
    )
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
    parser.add_argument(
        "--threads", type=int, default=0, help="CPU threads of each process (0: all cores)"
    )
    options = parser.parse_args(arguments)
    return run_main("training.evaluate", lambda: _run(options))


def _run(options: argparse.Namespace) -> None:
    with distributed.process_group(options.device) as device:
        evaluate(
            options.model,
            options.data,
            options.out,
            device=device,
            num_threads=options.threads,
            score_threshold=options.score_threshold,
            scene=options.scene,
        )


if __name__ == "__main__":
    sys.exit(main())
