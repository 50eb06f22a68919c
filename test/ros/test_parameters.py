from __future__ import annotations

from dataclasses import asdict, fields

import pytest
import yaml
from helpers.paths import ROOT

from amodal_perception.errors import ConfigError
from amodal_perception.ordering import OrderingConfig
from amodal_perception.postprocess import PostprocessConfig
from amodal_perception.ros.parameters import NodeParameters


def test_yaml_and_dataclass_agree():
    document = yaml.safe_load((ROOT / "config" / "node.yaml").read_text())
    assert document["/**"]["ros__parameters"] == asdict(NodeParameters())


def test_defaults_are_those_of_the_pipeline():
    config = NodeParameters().pipeline_config
    assert (config.postprocess, config.ordering) == (PostprocessConfig(), OrderingConfig())


def test_overrides():
    parameters = NodeParameters.from_overrides(
        {"score_threshold": 1, "max_instances": 3, "use_sim_time": True, "qos_overrides./a.b": 1}
    )
    assert parameters.score_threshold == 1.0
    assert isinstance(parameters.score_threshold, float)
    assert parameters.pipeline_config.postprocess.max_instances == 3


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            {"scor": 1, "thresh": 2},
            "unknown parameter scor, thresh; valid are ",
        ),
        ({"score_threshold": -0.1}, "must lie between 0 and 1"),
        ({"mask_threshold": float("nan")}, "mask_threshold is nan"),
        ({"min_hidden_fraction": float("inf")}, "min_hidden_fraction is inf"),
        ({"max_instances": 1.0}, "of type float; it must be of type int"),
        ({"max_instances": True}, "of type bool; it must be of type int"),
        ({"model_file_path": 3}, "of type int; it must be of type str"),
        ({"image_reliability": "best"}, "'best'; valid are auto, reliable, best_effort"),
    ],
)
def test_refuses(overrides, message):
    with pytest.raises(ConfigError, match=message):
        NodeParameters.from_overrides(overrides)


def test_descriptors_say_what_ros_may_refuse():
    pytest.importorskip("rcl_interfaces", reason="needs ROS 2")
    from amodal_perception.ros.parameters import descriptor

    described = {item.name: descriptor(item) for item in fields(NodeParameters)}
    assert all(d.description for d in described.values())
    (limits,) = described["score_threshold"].floating_point_range
    assert (limits.from_value, limits.to_value) == (0.0, 1.0)
    (limits,) = described["max_instances"].integer_range
    assert (limits.from_value, limits.to_value) == (1, 1000)
    assert described["model_file_path"].read_only
    assert described["image_transport"].additional_constraints == "raw | compressed"


def test_a_gpu_is_named_by_index_or_uuid():
    assert NodeParameters.from_overrides({"device": 1}).device == "1"
    assert NodeParameters.from_overrides({"device": "GPU-1b2c"}).device == "GPU-1b2c"
    with pytest.raises(ConfigError, match="of type int; it must be of type str"):
        NodeParameters.from_overrides({"provider": 1})
