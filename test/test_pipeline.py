"""From a frame to a scene."""

import numpy as np
from helpers.onnx_models import write_constant_model

from amodal_perception.pipeline import Pipeline
from amodal_perception.runtime import load_runtime
from amodal_perception.structures import Frame


def test_the_pipeline_gives_a_scene_of_the_frame(tmp_path):
    frame = Frame(np.zeros((96, 128, 3), np.uint8), stamp_ns=12, frame_id="camera")
    model = write_constant_model(tmp_path / "model.onnx")
    scene = Pipeline(load_runtime(model))(frame)
    assert (scene.stamp_ns, scene.frame_id) == (12, "camera")
    assert scene.instances.amodal.shape == (2, 96, 128)
    assert scene.graph.edges.tolist() == [[0, 1]]
    assert list(scene.stages_ms) == ["preprocess", "engine", "postprocess", "ordering"]
