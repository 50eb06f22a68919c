"""Load the node's model, if its SHA-256 is allowed."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from amodal_perception.errors import ModelFileError
from amodal_perception.files import sha256_of
from amodal_perception.pipeline import Pipeline
from amodal_perception.ros.inference_thread import GuardedRuntime
from amodal_perception.ros.parameters import NodeParameters
from amodal_perception.runtime import DEFAULT_MODEL, load_runtime
from amodal_perception.structures import Frame


def model_path(parameters: NodeParameters) -> Path:
    """Return the model file to load; ``~`` is the user's home."""
    return Path(parameters.model_file_path or DEFAULT_MODEL).expanduser()


def load_pipeline(parameters: NodeParameters) -> Pipeline:
    """Load the model, if it is allowed, and warm it up.

    Raises:
        ModelFileError: not on the list of allowed ones, missing, damaged, foreign.
    """
    path = model_path(parameters)
    allowed = parameters.allowed_models
    if allowed:
        # Before an engine reads it: what is not trusted must not be parsed.
        try:
            digest = sha256_of(path)
        except OSError as error:
            raise ModelFileError(f"{path}: {error.strerror}") from None
        if digest not in allowed:
            raise ModelFileError(
                f"{path}: its SHA-256 is {digest}, which the parameter allowed_model_sha256 "
                "does not list"
            )
    runtime = GuardedRuntime(
        load_runtime(
            path,
            num_threads=parameters.num_threads,
            provider=parameters.provider,
            device=parameters.device,
        )
    )
    if allowed and path.suffix == ".onnx" and runtime.metadata.sha256 != digest:
        raise ModelFileError(f"{path}: changed while it was read")
    pipeline = Pipeline(runtime, parameters.pipeline_config)
    # The first inference takes longest; let no camera frame wait for it.
    pipeline(Frame(np.zeros((*runtime.metadata.input_hw, 3), np.uint8)))
    return pipeline
