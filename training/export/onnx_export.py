"""Export a run to ONNX: ``python -m training.export RUN --out MODEL.onnx``.

One static file without plugins; normalisation, box decoding and NMS are in the graph.
The file is written only if ONNX Runtime computes with it what PyTorch computes with the run; with
``--data``, also if both predict the same on that folder's images (`training.export.parity`).
``--precision`` goes on to `training.export.lower_precision`.
"""

from __future__ import annotations

import argparse
import copy
import json
import tempfile
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
import torch
import yaml
from onnx_ir.passes import common
from onnxscript import ir
from onnxscript.optimizer import fold_constants_ir
from torch import Tensor, nn

from amodal_perception import files
from amodal_perception.benchmark.flops import count_flops
from amodal_perception.command_line import run_main
from amodal_perception.errors import ConfigError, ModelFileError
from amodal_perception.runtime import ModelMetadata, RawDetections
from amodal_perception.runtime.onnx_runtime import OnnxRuntime
from amodal_perception.structures import UInt8Array
from training.export import lower_precision, parity
from training.loop import checkpoints
from training.loop.config import from_mapping, model_name, to_mapping
from training.structures import Detections

OPSET = 18
FORMAT_VERSION = "1"
INPUT_NAME = "image"
MASKS = ("amodal", "visible", "occluder", "occluded")
TOLERANCE = {"boxes": 0.05, "scores": 1e-3, **dict.fromkeys(MASKS, 5e-3)}
"""Largest difference between PyTorch and ONNX Runtime: pixels for boxes, else probability."""
PARAMETER_PREFIX = "model."
"""Before the PyTorch names of parameters in the file."""
LARGEST_CONSTANT = 1 << 24
"""Bytes of a constant that may be computed while exporting."""
TIDYING = (
    common.CommonSubexpressionEliminationPass(),
    common.IdentityEliminationPass(),
    common.RemoveUnusedNodesPass(),
    common.RemoveUnusedFunctionsPass(),
    common.RemoveUnusedOpsetsPass(),
    common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
)
COMPARED_SCORE = 0.05
"""Below, instances are noise."""
TIE = 1e-6
"""Scores that differ by less are equal but for rounding."""
ROUNDING = 1e-6
"""Relative change of weights that changes outputs by about as much as rounding does."""


class SingleImage(nn.Module):
    """The network as it is exported: no batch dimension in its outputs, scores recalibrated.

    Args:
        model: the network.
        operating_point: the network's score, in (0, 1), that becomes 0.5. A network's scores are
            probabilities of this or that, so the best threshold is not 0.5 by itself. All scores
            keep their order, and 0 stays 0.
    """

    def __init__(self, model: nn.Module, operating_point: float = 0.5) -> None:
        super().__init__()
        self.model = model
        self.operating_point = operating_point

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Map [1, H, W, 3] uint8 RGB to the outputs of the contract, those of `names`."""
        found = Detections(**self.model(image).of_image(0))
        if self.operating_point != 0.5:
            # The odds are divided by those of the operating point.
            yes = found.scores * (1 - self.operating_point)
            no = (1 - found.scores) * self.operating_point
            found = found._replace(scores=yes / (yes + no))
        return tuple(output for output in found if output is not None)

    def names(self, input_hw: tuple[int, int]) -> list[str]:
        """Return the names of the outputs, in order."""
        with torch.inference_mode():
            return list(self.model(_grey(input_hw)).of_image(0))


def _grey(input_hw: tuple[int, int]) -> Tensor:
    return torch.full((1, *input_hw, 3), 114, dtype=torch.uint8)


def build(
    run: Path, overrides: Sequence[str] = (), operating_point: float = 0.5
) -> tuple[SingleImage, dict[str, str], tuple[int, int]]:
    """Rebuild a run's model with its averaged weights, its metadata and its input size.

    Args:
        run: run folder, checkpoint or ``best.safetensors``.
        overrides: ``key=value`` words over the run's settings: ``input_hw``, or settings of the
            network that leave its weights as they are, such as ``model.instances``.
        operating_point: see `SingleImage`.

    Raises:
        ModelFileError: no run.
        ConfigError: an override that is none of these.
    """
    config, facts = checkpoints.read_config(run)
    values = to_mapping(config)
    for word in overrides:
        key, _, text = word.partition("=")
        if key == "input_hw":
            values[key] = yaml.safe_load(text)
        elif key.startswith("model.") and key != "model.name":
            values["model"][key.removeprefix("model.")] = yaml.safe_load(text)
        else:
            raise ConfigError(f"'{word}': only input_hw= and model.KEY= can change on export")
    config = from_mapping(values, source=str(run))
    model = config.model.build(len(facts["class_names"]))
    try:
        model.load_state_dict(checkpoints.averaged_weights(run))
    except RuntimeError as error:
        raise ConfigError(
            f"{run}: its weights do not fit {', '.join(overrides) or 'its settings'} "
            f"({str(error).splitlines()[-1].strip()})"
        ) from None
    metadata = {
        "format_version": FORMAT_VERSION,
        "model_id": model_name(config),
        "class_names": json.dumps(facts["class_names"]),
        "input_hw": json.dumps(config.input_hw),
        "one_mask": json.dumps(config.model.one_mask),
        "training_data": Path(config.data).name,
        "git_commit": facts["commit"],
    }
    return SingleImage(model, operating_point).eval(), metadata, config.input_hw


def to_onnx(model: SingleImage, path: Path, input_hw: tuple[int, int]) -> None:
    """Trace the model on a grey image and write it as ONNX.

    Every parameter stays in the file under its PyTorch name, normalisation included, so that
    training can go on from the file. (The exporter's own optimisation would fold normalisation
    into convolutions, which engines do themselves when they load the file.)
    """
    image = _grey(input_hw)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about the exporter's own dependencies
        program = torch.onnx.export(
            model,
            (image,),
            input_names=[INPUT_NAME],
            output_names=model.names(input_hw),
            opset_version=OPSET,
            dynamo=True,
            optimize=False,
            verbose=False,
        )
    assert program is not None
    common.InlinePass()(program.model)
    fold_constants_ir(
        program.model,
        onnx_shape_inference=True,
        input_size_limit=LARGEST_CONSTANT,
        output_size_limit=LARGEST_CONSTANT,
        should_fold=lambda node: False if _reads_parameter(node) else None,
    )
    for tidy in TIDYING:
        tidy(program.model)
    program.save(path)


def _reads_parameter(node: ir.Node) -> bool:
    return any(value and (value.name or "").startswith(PARAMETER_PREFIX) for value in node.inputs)


def store_metadata(path: Path, metadata: dict[str, str]) -> None:
    """Store the metadata in an ONNX file, and check it by ONNX's own rules."""
    graph = onnx.load(path)
    onnx.helper.set_model_props(graph, metadata)
    onnx.checker.check_model(graph, full_check=True)
    onnx.save(graph, path)


def largest_differences(
    model: SingleImage, path: Path, images: list[np.ndarray], *, with_ties: bool = True
) -> dict[str, float]:
    """Compare PyTorch with ONNX Runtime, instance by instance.

    Args:
        model: what was exported, in evaluation mode.
        path: the ONNX file.
        images: [H, W, 3] uint8 RGB, at the network's input size.
        with_ties: compare instances of equal scores, too, between which engines choose freely.

    Returns:
        The largest absolute difference of every float output over the instances that count.
    """
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    pairs = (
        (_outputs(model, image), session.run(names, {INPUT_NAME: image[None]})) for image in images
    )
    return _largest(names, pairs, with_ties=with_ties)


def rounding_differences(model: SingleImage, images: list[np.ndarray]) -> dict[str, float]:
    """Compare the network with itself, its weights changed by as much as rounding changes them.

    Where scores are nearly equal, rounding decides which box comes first and which of two that
    overlap is suppressed. No engine can then compute what another computes.

    Args:
        model: in evaluation mode.
        images: [H, W, 3] uint8 RGB, at the network's input size.

    Returns:
        As `largest_differences`.
    """
    rounded = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in rounded.parameters():
            noise = torch.rand(weight.shape, generator=generator) - 0.5
            weight.mul_(1 + 2 * ROUNDING * noise)
    names = model.names((images[0].shape[0], images[0].shape[1]))
    return _largest(
        names, ((_outputs(model, image), _outputs(rounded, image)) for image in images)
    )


def _outputs(model: SingleImage, image: UInt8Array) -> list[np.ndarray]:
    with torch.inference_mode():
        return [output.numpy() for output in model(torch.from_numpy(image[None]))]


def _largest(
    names: list[str],
    pairs: Iterable[tuple[Sequence[np.ndarray], Sequence[np.ndarray]]],
    *,
    with_ties: bool = True,
) -> dict[str, float]:
    """Return the largest differences of the outputs that have a tolerance, over images.

    Instances are compared as sets: each that counts with the one whose box is nearest, wherever it
    stands in the list. Scores are compared by their place, too, so none can be missing.
    """
    worst = {name: 0.0 for name in names if name in TOLERANCE}
    for expected, found in pairs:
        a, b = dict(zip(names, expected)), dict(zip(names, found))
        is_compared = a["scores"] >= COMPARED_SCORE
        if not with_ties:
            is_tied = np.abs(a["scores"][:, None] - a["scores"]) <= TIE
            is_compared &= is_tied.sum(1) == 1  # with itself
        counts = np.flatnonzero(is_compared)
        if not len(counts):
            continue
        distance = np.abs(a["boxes"][counts, None] - b["boxes"]).max(2)  # [n, N]
        distance[a["labels"][counts, None] != b["labels"]] = np.inf
        # Of boxes that are equally near, the one in the same place.
        distance[np.arange(len(counts)), counts] -= 1e-6
        partner = distance.argmin(1)
        for name in worst:
            difference = np.abs(a[name][counts] - b[name][partner]).max()
            worst[name] = float(np.maximum(worst[name], difference))  # NaN stays NaN
        count = (np.maximum(a["scores"], b["scores"]) >= COMPARED_SCORE).sum()
        by_place = np.abs(a["scores"] - b["scores"])[:count].max()
        worst["scores"] = float(np.maximum(worst["scores"], by_place))
    return worst


def _beyond_tolerance(differences: dict[str, float]) -> list[str]:
    """Describe the differences that are too large."""
    return [
        f"{name} by {value:.4g} (allowed: {TOLERANCE[name]})"
        for name, value in differences.items()
        if not value <= TOLERANCE[name]
    ]


class TracedRuntime:
    """The traced PyTorch network as an inference runtime: the reference for the file.

    Args:
        model: in evaluation mode.
        metadata: of the file.
    """

    def __init__(self, model: SingleImage, metadata: ModelMetadata) -> None:
        self.model = model
        self.metadata = metadata
        self.hardware = "cpu"
        self._names = model.names(metadata.input_hw)

    def __call__(self, image: UInt8Array) -> RawDetections:
        """Run the network on [1, H, W, 3] uint8 RGB."""
        with torch.inference_mode():
            outputs = self.model(torch.from_numpy(image))
        found = {name: values.numpy() for name, values in zip(self._names, outputs)}
        return RawDetections(boxes_xyxy=found.pop("boxes"), **found)


def drawn_images(input_hw: tuple[int, int], count: int = 4) -> list[np.ndarray]:
    """Draw pictures of blobs on which to compare; the model was traced on a grey one."""
    rng = np.random.default_rng(0)
    height, width = input_hw
    images = []
    for _ in range(count):
        image = np.full((height, width, 3), rng.integers(0, 256, 3), np.uint8)
        for _ in range(8):
            centre = (int(rng.integers(width)), int(rng.integers(height)))
            axes = (int(rng.integers(10, width // 5)), int(rng.integers(10, height // 5)))
            colour = tuple(int(c) for c in rng.integers(0, 256, 3))
            cv2.ellipse(image, centre, axes, float(rng.uniform(0, 180)), 0, 360, colour, -1)
        images.append(image)
    return images


def export(
    run: Path,
    out: Path,
    overrides: Sequence[str] = (),
    *,
    operating_point: float = 0.5,
    metrics: dict[str, float] | None = None,
    data: Path | None = None,
) -> dict[str, float]:
    """Write the ONNX file, if it passes; return the largest differences found.

    Args:
        run: run folder, checkpoint or ``best.safetensors``.
        out: ONNX file to write.
        overrides: see `build`.
        operating_point: see `SingleImage`.
        metrics: figures to store in the file.
        data: amodal COCO folder on whose images scenes are compared, too; None: none are.

    Where boxes of nearly equal score change places on drawn pictures, the data alone decides.

    Raises:
        ModelFileError: no such run, the exported graph computes something else, or rounding
            decides what the network finds and there is no data to compare on.
    """
    model, metadata, input_hw = build(run, overrides, operating_point)
    with files.atomic_write(out) as temporary:
        to_onnx(model, temporary, input_hw)
        store_metadata(temporary, {**metadata, "metrics": json.dumps(metrics or {})})
        images = drawn_images(input_hw)
        worst = largest_differences(model, temporary, images)
        failures = _beyond_tolerance(worst)
        if failures:
            differing = f"on drawn pictures it differs from PyTorch, {', '.join(failures)}"
            untied = largest_differences(model, temporary, images, with_ties=False)
            rounding = rounding_differences(model, images)
            if _beyond_tolerance(untied) and not _beyond_tolerance(rounding):
                raise ModelFileError(f"{out}: not written: {differing}; export with another opset")
            if not data:
                raise ModelFileError(
                    f"{out}: not written: {differing}, because boxes of nearly equal score "
                    "changed places, as rounding alone makes them do in a network that has hardly "
                    "learned; train longer, or compare with --data on images it was trained for"
                )
        if data:
            _compare_scenes(model, temporary, out, data)
    return worst


def _compare_scenes(model: SingleImage, path: Path, out: Path, data: Path) -> None:
    """Run the parity gate between PyTorch and the file at `path`, which is to become `out`."""
    candidate = OnnxRuntime(path)
    _, failures = parity.gate(TracedRuntime(model, candidate.metadata), candidate, data)
    if failures:
        raise ModelFileError(f"{out}: not written, it differs: {'; '.join(failures)}")


def main(arguments: list[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m training.export", description=__doc__.split("\n\n")[0]
    )
    parser.add_argument("run", type=Path, help="run folder; its newest averaged weights are used")
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="key=value",
        help="input_hw=[H,W] or model.instances=N and the like, instead of the run's",
    )
    parser.add_argument("--out", type=Path, required=True, help="ONNX file to write")
    parser.add_argument(
        "--metrics", type=Path, help="metrics.json of an evaluation, stored in the file"
    )
    parser.add_argument(
        "--operating-point",
        type=float,
        default=0.5,
        metavar="SCORE",
        help="trained score, 0 to 1, that becomes 0.5 in the file: where F1 is best (0.5)",
    )
    parser.add_argument(
        "--precision",
        choices=("fp32", *lower_precision.PRECISIONS),
        default="fp32",
        help="of the features; below fp32 needs --data, int8 --calibration too (%(default)s)",
    )
    lower_precision.add_options(parser)
    options = parser.parse_intermixed_args(arguments)
    return run_main("training.export", lambda: _run(options))


def _run(options: argparse.Namespace) -> None:
    if not 0 < options.operating_point < 1:
        raise ConfigError(f"--operating-point {options.operating_point} is not between 0 and 1")
    worst = _export_with(options)
    size_mb = options.out.stat().st_size / 1e6
    gflop = count_flops(onnx.load(options.out)) / 1e9
    agreement = ", ".join(f"{name} {value:.1e}" for name, value in worst.items())
    print(f"{options.out}: {size_mb:.1f} MB, {gflop:.2f} GFLOP an image")
    if _beyond_tolerance(worst):
        print(f"agrees with PyTorch on {options.data}; on drawn pictures rounding chooses boxes")
    else:
        print(f"agrees with PyTorch within {agreement}")


def _export_with(options: argparse.Namespace) -> dict[str, float]:
    """Export, and go on to a lower precision where it is wanted."""
    if options.out.suffix != ".onnx":
        raise ConfigError(
            f"--out {options.out}: an ONNX file is written; name it .onnx (engines: amodal "
            "build-engine)"
        )
    with tempfile.TemporaryDirectory() as folder:
        is_final = options.precision == "fp32"
        if not is_final and options.data is None:
            raise ConfigError(f"--precision {options.precision} needs --data to compare on")
        full = options.out if is_final else Path(folder, options.out.name)
        worst = export(
            options.run,
            full,
            options.overrides,
            operating_point=options.operating_point,
            metrics=_read_metrics(options.metrics),
            data=options.data,
        )
        if not is_final:
            lower_precision.write_lower_precision(
                full,
                options.out,
                options.precision,
                options.data,
                calibration=options.calibration,
                calibration_images=options.calibration_images,
                engine=options.engine,
                num_threads=options.threads,
            )
    return worst


def _read_metrics(path: Path | None) -> dict[str, float]:
    if path is None:
        return {}
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read as JSON ({error})") from None
