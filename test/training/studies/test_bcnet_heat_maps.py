import re

import numpy as np
import pytest
import torch
from helpers.scenes import write_scenes
from helpers.small_networks import SIZE_HW, train_briefly

from training.models.bcnet.bcnet import BcnetLightSettings
from training.studies.bcnet_heat_maps import main, strips
from training.studies.object_strips import GAP_PX, TILE_PX


def test_page_shows_every_layer_of_every_object(tmp_path, capsys):
    write_scenes(tmp_path / "drawn", count=2, size_hw=SIZE_HW)
    train_briefly(tmp_path, {"name": "bcnet_light"})
    words = [str(tmp_path / "run"), "--data", str(tmp_path / "drawn"), "--out", str(tmp_path)]
    assert main([*words, "--objects", "3", "--score-threshold", "0"]) == 0
    page = (tmp_path / "heat_maps.html").read_text()
    assert str(tmp_path / "heat_maps.html") in capsys.readouterr().out
    assert page.count("<figure>") == 2 * 3
    assert page.count("<h2>") == 2
    assert not re.search(r'src="(?!data:)', page)


@pytest.mark.parametrize(
    ("changes", "tiles"),
    [({}, 5), ({"occluder_contour_weight": 0.0}, 4), ({"bilayer": False}, 3)],
)
def test_strip_has_the_layers_that_were_trained(changes, tiles):
    torch.manual_seed(0)
    model = BcnetLightSettings(**changes).build(1).eval()
    image = np.full((1, *SIZE_HW, 3), 90, np.uint8)
    drawn = strips(model, image, count=2, score_threshold=0.0)
    assert len(drawn) == 2
    for score, picture in drawn:
        assert 0 <= score <= 1
        assert picture.shape == (TILE_PX, tiles * (TILE_PX + GAP_PX) - GAP_PX, 3)


def test_other_systems_have_no_layers_to_show(tmp_path, capsys):
    write_scenes(tmp_path / "drawn", count=2, size_hw=SIZE_HW)
    train_briefly(tmp_path, {"name": "orcnn_light"})
    words = [str(tmp_path / "run"), "--data", str(tmp_path / "drawn"), "--out", str(tmp_path)]
    assert main(words) == 1
    assert "has no two layers to show" in capsys.readouterr().err
    assert not (tmp_path / "heat_maps.html").exists()
