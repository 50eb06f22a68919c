"""Options that several commands share: the model, its thresholds, and checked numbers."""

from __future__ import annotations

import argparse
from pathlib import Path

from amodal_perception.ordering import OrderingConfig
from amodal_perception.pipeline import Pipeline, PipelineConfig
from amodal_perception.postprocess import PostprocessConfig
from amodal_perception.runtime import DEFAULT_MODEL, load_runtime
from amodal_perception.runtime.providers import PROVIDERS


def add_pipeline_options(parser: argparse.ArgumentParser, many_models: bool = False) -> None:
    """Describe the options of the model and of what is made of its output.

    Args:
        parser: of the command.
        many_models: whether ``--model`` takes several files.
    """
    postprocess, ordering = PostprocessConfig(), OrderingConfig()
    if many_models:
        parser.add_argument(
            "--model",
            type=Path,
            nargs="+",
            default=[DEFAULT_MODEL],
            help="model files, measured in turn (default: the one shipped)",
        )
    else:
        parser.add_argument(
            "--model",
            type=Path,
            default=DEFAULT_MODEL,
            help="model file (default: the one shipped)",
        )
    parser.add_argument(
        "--threads", type=int, default=0, help="CPU threads of the engine (0: it chooses)"
    )
    parser.add_argument(
        "--provider",
        choices=PROVIDERS,
        default="cpu",
        help="what runs an .onnx file inside ONNX Runtime (default %(default)s)",
    )
    parser.add_argument(
        "--device",
        default="",
        help="NVIDIA GPU of an .engine, or of --provider cuda or tensorrt, by index or UUID "
        "(default: the first)",
    )
    parser.add_argument(
        "--score-threshold",
        type=fraction,
        default=postprocess.score_threshold,
        help="lowest score of an instance, 0..1 (default %(default)s)",
    )
    parser.add_argument(
        "--overlap-threshold",
        type=fraction,
        default=postprocess.overlap_threshold,
        help="most of an instance's visible pixels that better ones may claim, 0..1; 1 keeps "
        "repetitions (default %(default)s)",
    )
    parser.add_argument(
        "--min-hidden-fraction",
        type=fraction,
        default=ordering.min_hidden_fraction,
        help="hidden share of an object that counts as occlusion, 0..1 (default %(default)s)",
    )


def whole_number(text: str) -> int:
    """Parse a number, 0 or more."""
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text} is below 0")
    return value


def fraction(text: str) -> float:
    """Parse a number between 0 and 1."""
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return value


def positive_number(text: str) -> float:
    """Parse a finite number above 0."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return value


def pipeline_config(arguments: argparse.Namespace) -> PipelineConfig:
    """Return the thresholds that the options give."""
    return PipelineConfig(
        postprocess=PostprocessConfig(
            score_threshold=arguments.score_threshold,
            overlap_threshold=arguments.overlap_threshold,
        ),
        ordering=OrderingConfig(min_hidden_fraction=arguments.min_hidden_fraction),
    )


def load_pipeline(arguments: argparse.Namespace) -> Pipeline:
    """Load the model that the options give.

    Raises:
        ModelFileError: it cannot be used.
    """
    runtime = load_runtime(
        arguments.model,
        num_threads=arguments.threads,
        provider=arguments.provider,
        device=arguments.device,
    )
    return Pipeline(runtime, pipeline_config(arguments))
