from __future__ import annotations

import json

import pytest
from helpers.paths import ASSETS

from amodal_perception.evaluation import id_switches
from amodal_perception.evaluation.id_switches import IdSwitches, count_id_switches
from amodal_perception.storage import amodal_coco


@pytest.mark.parametrize(
    ("film", "switches", "transfers"),
    [
        ([["1a", "2b"], ["1a", "2b"]], 0, 0),
        ([["1a"], [], ["1a"]], 0, 0),  # unseen for a while
        ([["1a"], ["2a"], ["2a"]], 1, 0),  # a new name for the same object
        ([["1a"], ["1b"]], 0, 1),  # an old name for a new object
        ([["1a", "2b"], ["2a", "1b"]], 2, 2),  # swapped
        ([], 0, 0),
    ],
)
def test_counts_what_went_wrong(film, switches, transfers):
    counts = count_id_switches([[(pair[0], pair[1]) for pair in frame] for frame in film])
    assert (counts.id_switches, counts.id_transfers) == (switches, transfers)
    assert counts.detections == sum(len(frame) for frame in film)


def test_command_tells_the_counts(capsys):
    pytest.importorskip("rosbags", reason="needs rosbags")
    assert id_switches.main(["--on", "truth", "--every", "8"]) == 0
    counts = IdSwitches(**json.loads(capsys.readouterr().out))
    assert counts.objects > 50


def test_truth_without_names_is_refused(tmp_path, capsys):
    pytest.importorskip("rosbags", reason="needs rosbags")
    content = json.loads((ASSETS / "sample_truth.json").read_text())
    for row in content["annotations"]:
        del row["track_id"]
    (tmp_path / "t.json").write_text(json.dumps(content))
    amodal_coco.read(tmp_path / "t.json")
    assert id_switches.main(["--truth", str(tmp_path / "t.json"), "--on", "truth"]) == 1
    assert "without 'track_id'" in capsys.readouterr().err
