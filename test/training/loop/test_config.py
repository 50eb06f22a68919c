from pathlib import Path

import pytest
from helpers.paths import ROOT

from amodal_perception.errors import ConfigError
from training.loop.config import TrainConfig, from_mapping, load, model_name, to_mapping
from training.models import MODELS


def test_yaml_goes_over_defaults_and_words_over_yaml(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("iterations: 7\nbatch_size: 4\ninput_hw: [64, 96]\n")
    config = load(path, ["batch_size=2", "learning_rate=1e-3", "augment=false"])
    assert config.iterations == 7
    assert config.batch_size == 2
    assert config.input_hw == (64, 96)
    assert config.learning_rate == 0.001
    assert config.augment is False
    assert config.weight_decay == TrainConfig().weight_decay


def test_settings_of_the_network_are_a_mapping_of_their_own(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("model: {name: orcnn_light, hidden_weight: 4}\n")
    config = load(path, ["model.occluded_weight=0.5"])
    assert (config.model.hidden_weight, config.model.occluded_weight) == (4.0, 0.5)
    assert from_mapping(to_mapping(config), source="json") == config
    with pytest.raises(ConfigError, match=r"unknown key 'model\.width'.*model\.hidden_weight"):
        load(path, ["model.width=3"])


def test_unknown_key_lists_the_valid_ones():
    with pytest.raises(ConfigError, match=r"c\.yaml: unknown key 'batchsize'.*batch_size"):
        from_mapping({"batchsize": 3}, source="c.yaml")


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("iterations", "not of the form key=value"),
        ("iterations=many", "iterations must be int, but is 'many'"),
        ("iterations=1.5", "iterations must be int"),
        ("iterations=-1", "iterations must be at least 0"),
        ("augment=3", "augment must be bool"),
        ("iterations=true", "iterations must be int, but is True"),
        ("iterations=.inf", "iterations must be int, but is inf"),
        ("input_hw=[64.5, 96]", r"input_hw must be a list of int, but is \[64\.5, 96\]"),
        ("scale_jitter=[a, b]", "scale_jitter must be a list of float"),
        ("model.hidden_weight=[1]", r"model\.hidden_weight must be float, but is \[1\]"),
        ("input_hw=[100, 96]", "multiples of 32"),
        ("input_hw=96", "input_hw must be a list of int, but is 96"),
        ("keep_checkpoints=0", "keep_checkpoints must be at least 1"),
        ("learning_rate=.nan", "learning_rate must be at least 0"),
        ("precision=int8", "precision must be one of auto, fp32, bf16, fp16, but is 'int8'"),
        ("optimizer=lion", "optimizer must be one of adamw, sgd, muon"),
        ("schedule=step", r"schedule=step needs steps=\[ITERATION"),
    ],
)
def test_wrong_values_are_named(tmp_path, word, message):
    path = tmp_path / "c.yaml"
    path.write_text("")
    with pytest.raises(ConfigError, match=message):
        load(path, [word])


@pytest.mark.parametrize(("text", "message"), [("- 1", "key: value"), ("a: [", "is not YAML")])
def test_file_that_is_no_mapping(tmp_path, text, message):
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        load(path, [])


def test_missing_file():
    with pytest.raises(ConfigError, match="cannot be read"):
        load(Path("none.yaml"), [])


@pytest.mark.parametrize("path", sorted((ROOT / "config/train").glob("*.yaml")))
def test_every_recipe_is_valid_and_says_how_it_is_run(path):
    assert model_name(load(path, [])) in MODELS
    assert path.read_text().startswith("#")
