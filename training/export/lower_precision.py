"""Convert a model to fp16, or quantize it to int8.

    python -m training.export.lower_precision M.onnx --to int8 --data DIR --out OUT.onnx

Features are computed in the lower precision; box decoding and NMS stay in float32. The file is
written only if it passes the parity gate (`training.export.parity`) beside the file that it comes
from, on the images of an amodal COCO folder; the loss of average precision is part of the gate.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import onnx

from amodal_perception import files
from amodal_perception.command_line import run_main
from amodal_perception.errors import ConfigError, ModelFileError
from amodal_perception.preprocess import letterbox
from amodal_perception.runtime import load_runtime
from amodal_perception.runtime.onnx_runtime import OnnxRuntime
from amodal_perception.storage.predictions_file import RAW
from amodal_perception.structures import UInt8Array
from training.export.fp16 import to_fp16
from training.export.int8 import ENGINES, to_int8
from training.export.parity import AP, ParityResult, average_precision, describe, gate, images_of

PRECISIONS = ("fp16", "int8")
CALIBRATION_IMAGES = 32


def write_lower_precision(
    model: Path,
    out: Path,
    precision: str,
    data: Path,
    *,
    calibration: Path | None = None,
    calibration_images: int = CALIBRATION_IMAGES,
    engine: str = "cpu",
    num_threads: int = 0,
) -> ParityResult:
    """Write a model in a lower precision, if it passes the parity gate.

    Args:
        model: exported in float32.
        out: ONNX file to write.
        precision: ``fp16`` or ``int8``.
        data: amodal COCO folder on which the two are compared.
        calibration: of int8: another such folder, of images like those the model will see.
        calibration_images: most of them used; the ranges that features take are found on them.
        engine: of int8: ``cpu`` or ``tensorrt``; see `to_int8`.
        num_threads: CPU threads of both; 0 lets them choose.

    Returns:
        How the two differ.

    Raises:
        ConfigError: int8 without calibration images, or with those that it is compared on.
        ModelFileError: the model is missing, damaged, or not in float32; or its converted version
            fails the gate, and nothing was written.
    """
    reference = load_runtime(model, num_threads=num_threads)
    if reference.metadata.precision != "fp32":
        raise ModelFileError(
            f"{model}: is in {reference.metadata.precision}; start from the file in float32"
        )
    graph = onnx.load(model)
    if precision == "int8":
        if calibration is None:
            raise ConfigError("int8 needs --calibration, a folder of images like those to be seen")
        if calibration.resolve() == data.resolve():
            raise ConfigError("--calibration and --data are the same images; compare on others")
        converted = to_int8(
            graph,
            _inputs(calibration, calibration_images, reference.metadata.input_hw),
            engine=engine,
        )
    else:
        converted = to_fp16(graph)
    properties = {item.key: item.value for item in graph.metadata_props}
    with files.atomic_write(out) as temporary:
        _save(converted, temporary, {**properties, "precision": precision, "metrics": "{}"})
        parity, failures = gate(
            reference,
            OnnxRuntime(temporary, num_threads),
            data,
            reference_ap=average_precision(reference, data),
        )
        if failures:
            raise ModelFileError(f"{out}: not written: {'; '.join(failures)}")
        assert parity.ap is not None
        assert parity.ap_loss is not None
        figures = {"predictions": RAW, AP: parity.ap, f"{AP}_loss": parity.ap_loss}
        metrics = json.dumps(figures)
        _save(converted, temporary, {**properties, "precision": precision, "metrics": metrics})
    return parity


def _inputs(folder: Path, limit: int, input_hw: tuple[int, int]) -> list[UInt8Array]:
    return [letterbox(image, input_hw)[0] for image in images_of(folder, limit)]


def _save(model: onnx.ModelProto, path: Path, properties: dict[str, str]) -> None:
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, properties)
    onnx.save(model, path)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m training.export.lower_precision", description=__doc__.split("\n\n")[0]
    )
    parser.add_argument("model", type=Path, help="ONNX file in float32")
    parser.add_argument("--to", choices=PRECISIONS, required=True)
    parser.add_argument("--out", type=Path, required=True, help="ONNX file to write")
    add_options(parser)
    options = parser.parse_args(arguments)
    return run_main("training.export.lower_precision", lambda: _run(options))


def _run(options: argparse.Namespace) -> None:
    if options.data is None:
        raise ConfigError("--data is missing: a folder of images and truth to compare on")
    parity = write_lower_precision(
        options.model,
        options.out,
        options.to,
        options.data,
        calibration=options.calibration,
        calibration_images=options.calibration_images,
        engine=options.engine,
        num_threads=options.threads,
    )
    print(f"{options.out}: {options.out.stat().st_size / 1e6:.1f} MB, passes the parity gate")
    print(describe(parity))


def add_options(parser: argparse.ArgumentParser) -> None:
    """Describe the options of lower precision; `training.export` has them, too."""
    parser.add_argument("--data", type=Path, help="amodal COCO folder to compare on")
    parser.add_argument(
        "--calibration", type=Path, help="int8: amodal COCO folder to calibrate on"
    )
    parser.add_argument(
        "--calibration-images",
        type=int,
        default=CALIBRATION_IMAGES,
        metavar="N",
        help="most images to calibrate on (default %(default)s)",
    )
    parser.add_argument(
        "--engine", choices=ENGINES, default="cpu", help="int8: what it is for (default cpu)"
    )
    parser.add_argument("--threads", type=int, default=0, help="CPU threads (0: all cores)")


if __name__ == "__main__":
    sys.exit(main())
