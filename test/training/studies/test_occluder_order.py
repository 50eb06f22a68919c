import numpy as np
import pytest
from helpers.scenes import write_scenes
from helpers.small_networks import SIZE_HW, train_briefly

from amodal_perception.ordering import occlusion_graph
from amodal_perception.structures import Instances
from training.studies.occluder_order import RULES, hidden_by, main


@pytest.fixture
def pair():
    """A tall object, hidden from row 6 on, behind a wide one; the layers differ by a row."""
    amodal = np.zeros((2, 20, 20), bool)
    amodal[0, 2:12, 4:16] = True
    amodal[1, 6:18, 2:18] = True
    visible = amodal.copy()
    visible[0, 7:] = False  # one row too much is taken for visible
    occluder = np.zeros_like(amodal)
    occluder[0, 6:11, 4:16] = True  # one row is missing at the lower end
    window = np.array([[0, 0, 20, 20]] * 2, np.int32)
    return Instances(
        boxes_xyxy=window.astype(np.float32),
        scores=np.ones(2, np.float32),
        labels=np.zeros(2, np.int32),
        size_hw=(20, 20),
        windows_xyxy=window,
        amodal_crops=tuple(amodal),
        visible_crops=tuple(visible),
        occluder_crops=tuple(occluder),
    )


def test_rules_differ_by_what_is_hidden(pair):
    hidden_rows = {
        rule: np.flatnonzero(hidden_by(rule, pair).hidden_crops[0].any(1)) for rule in RULES
    }
    assert {rule: (rows.min(), rows.max()) for rule, rows in hidden_rows.items()} == {
        "masks": (7, 11),
        "occluder": (6, 10),
        "both": (7, 10),
        "either": (6, 11),
    }


def test_edges_follow(pair):
    pixels = {rule: occlusion_graph(hidden_by(rule, pair)).overlap_px.tolist() for rule in RULES}
    assert pixels == {"masks": [60], "occluder": [60], "both": [48], "either": [72]}


@pytest.mark.parametrize("words", [[], ["--oracle-boxes"]])
def test_prints_a_table(tmp_path, capsys, words):
    write_scenes(tmp_path / "drawn", count=2, size_hw=SIZE_HW)
    train_briefly(tmp_path, {"name": "bcnet_light", "visible_mask": "tail"})
    assert main([str(tmp_path / "run"), "--data", str(tmp_path / "drawn"), *words]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "| hidden is | precision | recall | F1 |"
    assert len(lines) == 2 + len(RULES)


def test_needs_an_occluder(tmp_path, capsys):
    write_scenes(tmp_path / "drawn", count=2, size_hw=SIZE_HW)
    train_briefly(tmp_path, {"name": "orcnn_light"})
    assert main([str(tmp_path / "run"), "--data", str(tmp_path / "drawn")]) == 1
    assert "predicts no occluder's mask" in capsys.readouterr().err
