"""Arithmetic of an engine's layers, as TensorRT's inspector names it."""

import json

from amodal_perception.runtime.tensorrt.layer_types import inspected_types


def test_types_in_an_inspectors_words():
    information = {
        "Layers": [
            {"Name": "conv", "Outputs": [{"Format/Datatype": "Row major linear FP16 format"}]},
            {"Name": "add", "Outputs": [{"Format/Datatype": "Channel major FP32"}]},
            {"Name": "none", "Outputs": []},
            "without details",
        ]
    }
    assert inspected_types(json.dumps(information)) == {"conv": "float16", "add": "float32"}
