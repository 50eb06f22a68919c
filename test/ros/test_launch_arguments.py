"""Arguments of the launch files: what is taken, what is refused, and in which words."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from helpers.paths import ROOT

from amodal_perception.ros import launch_arguments as check
from amodal_perception.runtime import RUNTIMES


@pytest.mark.parametrize("text", ["true", "True", "yes", "ON", "1", " true "])
def test_words_for_yes(text):
    assert check.flag("respawn", text) is True


@pytest.mark.parametrize("text", ["false", "No", "off", "0"])
def test_words_for_no(text):
    assert check.flag("respawn", text) is False


@pytest.mark.parametrize("text", ["", "2", "y", "maybe", "none"])
def test_other_words_are_neither(text):
    with pytest.raises(RuntimeError, match=r"respawn: .* is neither true nor false"):
        check.flag("respawn", text)


@pytest.mark.parametrize("text", ["", "image", "/a/b_1", "~/scene", "a/_hidden"])
def test_names_of_topics(text):
    assert check.topic("image", text) == text


@pytest.mark.parametrize("text", ["/", "a b", "/a/", "a//b", "/1a", "ä", "a-b", "/a\n"])
def test_no_names_of_topics(text):
    with pytest.raises(RuntimeError, match=r"image: .* is no ROS name"):
        check.topic("image", text)


@pytest.mark.parametrize(("text", "read"), [("", ""), ("/", "/"), ("/arm/", "/arm"), ("a", "a")])
def test_namespaces_may_end_in_a_slash(text, read):
    assert check.namespace("namespace", text) == read


@pytest.mark.parametrize("text", ["0", "-1", "inf", "nan", "fast", ""])
def test_no_rates(text):
    with pytest.raises(RuntimeError, match=r"rate: .* is no number above 0"):
        check.positive_number("rate", text)
    assert check.positive_number("rate", "0.5") == 0.5


def test_log_levels():
    assert check.log_level("log_level", "WARN") == "warn"
    with pytest.raises(RuntimeError, match="log_level: 'loud' is none of debug, info"):
        check.log_level("log_level", "loud")


def test_a_model_is_found_at_home_and_relative(tmp_path, monkeypatch):
    (tmp_path / "m.onnx").touch()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for text in ("~/m.onnx", "m.onnx", str(tmp_path / "m.onnx")):
        assert check.model_file("model", text) == str(tmp_path / "m.onnx")
    assert check.model_file("model", "") == ""


def test_a_model_that_cannot_be_reached_is_refused(tmp_path):
    (tmp_path / "m.pt").touch()
    for text in ("/nowhere.onnx", str(tmp_path)):
        with pytest.raises(RuntimeError, match=r"model: .*: no such file"):
            check.model_file("model", text)
    with pytest.raises(RuntimeError, match=r"model: .*m\.pt: ends in none of \.onnx, \.engine"):
        check.model_file("model", str(tmp_path / "m.pt"))
    assert set(check.MODEL_SUFFIXES) == set(RUNTIMES)


@pytest.mark.skipif(os.getuid() == 0, reason="root may read everything")
def test_a_model_that_may_not_be_read_is_refused(tmp_path):
    (tmp_path / "m.onnx").touch(mode=0)
    with pytest.raises(RuntimeError, match=r"model: .*: Permission denied"):
        check.model_file("model", str(tmp_path / "m.onnx"))


@pytest.mark.parametrize(
    "text",
    [
        "/**:\n  ros__parameters: {score_threshold: 0.5}\n",
        "arm:\n  left:\n    amodal_perception:\n      ros__parameters: {}\n",
        "amodal_perception:\n  ros__parameters:\n    score_threshold: 0.5\n",
    ],
)
def test_parameters_under_a_node_are_taken(tmp_path, text):
    (tmp_path / "p.yaml").write_text(text)
    path = check.params_file("params_file", str(tmp_path / "p.yaml"))
    assert Path(path).is_absolute()


def test_the_parameters_of_the_package_are_taken():
    assert check.params_file("params_file", str(ROOT / "config" / "node.yaml"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("score_threshold: 0.5\n", "no 'ros__parameters' under a node's name"),
        ("", "no 'ros__parameters' under a node's name"),
        ("- a\n", "no 'ros__parameters' under a node's name"),
        ("a: [\n", "is no YAML"),
        ("\x00", "is no YAML"),
    ],
)
def test_what_is_no_file_of_parameters_is_refused_in_one_line(tmp_path, text, message):
    (tmp_path / "p.yaml").write_text(text)
    with pytest.raises(RuntimeError, match=message) as caught:
        check.params_file("params_file", str(tmp_path / "p.yaml"))
    assert "\n" not in str(caught.value)


def test_a_missing_file_of_parameters_is_refused():
    with pytest.raises(RuntimeError, match=r"params_file: /nowhere\.yaml: no such file"):
        check.params_file("params_file", "/nowhere.yaml")
