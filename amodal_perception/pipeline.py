"""The inference pipeline, from a camera frame to a scene: the only way through this package."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from amodal_perception.ordering import OrderingConfig, occlusion_graph
from amodal_perception.postprocess import PostprocessConfig, postprocess
from amodal_perception.preprocess import letterbox
from amodal_perception.runtime.contract import Runtime
from amodal_perception.structures import FloatArray, Frame, Scene

DepthSource = Callable[[], "FloatArray | None"]
"""Gives the depth of a frame, [H, W] float32 metres, NaN where unknown; None without depth."""


@dataclass(frozen=True)
class PipelineConfig:
    """The thresholds of postprocessing and of occlusion ordering."""

    postprocess: PostprocessConfig = field(default_factory=PostprocessConfig)
    ordering: OrderingConfig = field(default_factory=OrderingConfig)


class Pipeline:
    """A loaded model and its configuration; call it with a frame to get a scene."""

    def __init__(self, runtime: Runtime, config: PipelineConfig = PipelineConfig()) -> None:
        """Keep the loaded model; it does not run before the first call."""
        self.runtime = runtime
        self.config = config

    def __call__(self, frame: Frame, depth: DepthSource | None = None) -> Scene:
        """Infer the scene of one frame; no state is kept between frames.

        Args:
            frame: the image.
            depth: asked after inference for what a depth camera measured, aligned with the image;
                objects are then ordered by it too.
        """
        started = time.perf_counter()
        inputs, transform = letterbox(frame.image, self.runtime.metadata.input_hw)
        preprocessed = time.perf_counter()
        raw = self.runtime(inputs)
        inferred = time.perf_counter()
        instances = postprocess(raw, transform, self.config.postprocess)
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
                "preprocess": (preprocessed - started) * 1e3,
                "engine": (inferred - preprocessed) * 1e3,
                "postprocess": (postprocessed - inferred) * 1e3,
                **depth_ms,
                "ordering": (ordered - waited) * 1e3,
            },
        )
