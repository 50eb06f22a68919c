"""The inference pipeline, from a camera frame to a scene: the only way through this package."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from amodal_perception.ordering import OrderingConfig, occlusion_graph
from amodal_perception.postprocess import PostprocessConfig, postprocess
from amodal_perception.preprocess import letterbox
from amodal_perception.runtime.contract import RawDetections, Runtime
from amodal_perception.structures import FloatArray, Frame, LetterboxTransform, Scene

DepthSource = Callable[[], "FloatArray | None"]
"""Gives the depth of a frame, [H, W] float32 metres, NaN where unknown; None without depth."""


@dataclass(frozen=True)
class PipelineConfig:
    """The thresholds of postprocessing and of occlusion ordering."""

    postprocess: PostprocessConfig = field(default_factory=PostprocessConfig)
    ordering: OrderingConfig = field(default_factory=OrderingConfig)


@dataclass(frozen=True, eq=False)
class Inference:
    """The network's outputs for one frame.

    Attributes:
        raw: in input pixels.
        transform: where the camera image lies in the input.
        stages_ms: milliseconds of what led here.
    """

    raw: RawDetections
    transform: LetterboxTransform
    stages_ms: dict[str, float]


class Pipeline:
    """A loaded model and its configuration; call it with a frame to get a scene."""

    def __init__(self, runtime: Runtime, config: PipelineConfig = PipelineConfig()) -> None:
        """Keep the loaded model; it does not run before the first call."""
        self.runtime = runtime
        self.config = config

    def __call__(self, frame: Frame, depth: DepthSource | None = None) -> Scene:
        """Infer the scene of one frame; no state is kept between frames. See `scene`."""
        return self.scene(frame, self.infer(frame), depth)

    def infer(self, frame: Frame) -> Inference:
        """Run the network on a frame."""
        started = time.perf_counter()
        inputs, transform = letterbox(frame.image, self.runtime.metadata.input_hw)
        preprocessed = time.perf_counter()
        raw = self.runtime(inputs)
        inferred = time.perf_counter()
        stages_ms = {
            "preprocess": (preprocessed - started) * 1e3,
            "engine": (inferred - preprocessed) * 1e3,
        }
        return Inference(raw, transform, stages_ms)

    def scene(self, frame: Frame, inference: Inference, depth: DepthSource | None = None) -> Scene:
        """Make the scene of what the network gave for the frame: what the robot is told.

        Args:
            frame: the image.
            inference: of the image.
            depth: asked for what a depth camera measured, aligned with the image; objects are
                then ordered by it too.
        """
        started = time.perf_counter()
        instances = postprocess(inference.raw, inference.transform, self.config.postprocess)
        postprocessed = time.perf_counter()
        depth_m = None if depth is None else depth()
        waited = time.perf_counter()
        graph = occlusion_graph(instances, self.config.ordering, depth_m)
        ordered = time.perf_counter()
        depth_ms = {"depth": (waited - postprocessed) * 1e3} if depth_m is not None else {}
        return Scene(
            stamp_ns=frame.stamp_ns,
            frame_id=frame.frame_id,
            instances=instances,
            graph=graph,
            model_id=self.runtime.metadata.model_id,
            class_names=self.runtime.metadata.class_names,
            stages_ms={
                **inference.stages_ms,
                "postprocess": (postprocessed - started) * 1e3,
                **depth_ms,
                "ordering": (ordered - waited) * 1e3,
            },
        )
