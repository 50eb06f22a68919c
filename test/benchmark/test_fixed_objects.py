"""The objects that every model is timed with."""

from __future__ import annotations

import numpy as np
from helpers.onnx_models import write_model

from amodal_perception.benchmark.benchmark import OBJECTS
from amodal_perception.benchmark.fixed_objects import make_objects
from amodal_perception.ordering import occlusion_graph
from amodal_perception.postprocess import postprocess
from amodal_perception.preprocess import letterbox
from amodal_perception.runtime import load_runtime


def test_crowd_is_a_cluttered_scene(tmp_path):
    metadata = load_runtime(write_model(tmp_path / "m.onnx"), num_threads=1).metadata
    crowd = make_objects(metadata, OBJECTS)
    _, transform = letterbox(np.zeros((480, 640, 3), np.uint8), metadata.input_hw)
    instances = postprocess(crowd, transform)
    assert len(instances) == OBJECTS
    assert 0.15 < instances.occlusion_rate.mean() < 0.5
    assert len(occlusion_graph(instances).edges) >= OBJECTS
    assert len(crowd.scores) == metadata.max_instances
