import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.scenes import write_scenes
from helpers.small_networks import SIZE_HW, train_briefly
from torch import nn

from amodal_perception.boxes import box_iou
from amodal_perception.storage import amodal_coco
from training import evaluate
from training.models.detectors.light_detector import LightDetector
from training.models.orcnn import OrcnnMaskLogits
from training.studies import ablation
from training.studies.oracle_boxes import OracleDetector, figures, main, scenes_with_oracle_boxes

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    folder = tmp_path_factory.mktemp("oracle_boxes")
    write_scenes(folder / "drawn", count=3, size_hw=(120, 200))  # not the network's aspect
    return folder / "drawn"


@pytest.fixture(scope="module")
def run(drawn):
    train_briefly(drawn.parent, {"name": "orcnn_light"})
    return drawn.parent / "run"


class FillsTheBox(nn.Module):
    """Says, not quite sure, that every object fills its box and hides nothing."""

    def forward(self, roi_features, labels):
        full = torch.full((len(roi_features), 28, 28), 0.5)
        return OrcnnMaskLogits(full, full, -full)


@pytest.mark.parametrize("mask_scores", [False, True])
def test_masks_lie_in_the_oracle_boxes(run, drawn, mask_scores):
    truth = amodal_coco.read(drawn / amodal_coco.ANNOTATIONS)
    runtime = evaluate.load(run, CPU)
    runtime.model.mask_heads = FillsTheBox()
    runtime.model.settings = replace(runtime.model.settings, mask_scores=mask_scores)
    seen = dict(scenes_with_oracle_boxes(runtime, truth))
    assert seen.keys() == truth.images.keys()
    for image_id, scene in seen.items():
        rows = truth.annotations_of(image_id)
        boxes = np.array([row["bbox"] for row in rows], np.float32)
        boxes[:, 2:] += boxes[:, :2]
        iou = np.stack([box_iou(box[None], boxes) for box in scene.instances.boxes_xyxy])
        # What a box in front covers whole is seen nowhere; all others are there, once each.
        assert len(scene.instances) >= 2
        assert (scene.instances.scores == 1).all()
        assert (iou.max(-1) > 0.98).all()
        assert len(np.unique(iou.argmax(-1))) == len(scene.instances)
        for box, mask in zip(scene.instances.boxes_xyxy, scene.instances.amodal):
            area = (box[2] - box[0]) * (box[3] - box[1])
            assert abs(mask.sum() - area) < 0.05 * area + 2 * sum(SIZE_HW)


def test_oracle_boxes_replace_the_detector_for_that_time_only(run, drawn):
    truth = amodal_coco.read(drawn / amodal_coco.ANNOTATIONS)
    runtime = evaluate.load(run, CPU)
    scenes = scenes_with_oracle_boxes(runtime, truth)
    next(scenes)
    assert isinstance(runtime.model.detector, OracleDetector)
    scenes.close()
    assert isinstance(runtime.model.detector, LightDetector)


def test_images_without_objects_are_seen(run, drawn, tmp_path):
    content = json.loads((drawn / amodal_coco.ANNOTATIONS).read_text())
    first = content["images"][0]["id"]
    content["annotations"] = [row for row in content["annotations"] if row["image_id"] != first]
    content["occlusions"] = []
    (tmp_path / "images").symlink_to(drawn / "images")
    (tmp_path / amodal_coco.ANNOTATIONS).write_text(json.dumps(content))
    truth = amodal_coco.read(tmp_path / amodal_coco.ANNOTATIONS)
    seen = dict(scenes_with_oracle_boxes(evaluate.load(run, CPU), truth))
    assert len(seen[first].instances) == 0
    assert len(seen) == 3


@pytest.mark.parametrize("name", ["mask_rcnn_light", "bcnet_light", "asn_light"])
def test_every_system_with_mask_heads_can_be_asked(drawn, tmp_path, name):
    (tmp_path / "drawn").symlink_to(drawn)
    train_briefly(tmp_path, {"name": name})
    found = figures(
        evaluate.load(tmp_path / "run", CPU), amodal_coco.read(drawn / amodal_coco.ANNOTATIONS)
    )
    assert "bayesian_amodal.kins_levels_known_center.amodal_mask_mIoU_mean" in found
    assert "coco.visible_mask.AP" in found


def test_command_writes_figures_and_refuses_other_systems(run, drawn, tmp_path, capsys):
    words = ["--data", str(drawn), "--out", str(tmp_path / "out")]
    assert main([str(run), *words]) == 0
    assert "order.end_to_end.F1" in json.loads((tmp_path / "out/metrics.json").read_text())
    assert (tmp_path / "out/report.html").exists()
    capsys.readouterr()
    assert main(["amodal_perception/assets/default_model.onnx", *words]) == 1
    assert "oracle boxes need a run folder or checkpoint" in capsys.readouterr().err


def test_classes_are_matched_by_name(run, drawn, tmp_path, capsys):
    content = json.loads((drawn / amodal_coco.ANNOTATIONS).read_text())
    content["categories"][0]["name"] = "cup"
    (tmp_path / "images").symlink_to(drawn / "images")
    (tmp_path / amodal_coco.ANNOTATIONS).write_text(json.dumps(content))
    assert main([str(run), "--data", str(tmp_path), "--out", str(tmp_path / "out")]) == 1
    assert "class 'cup' is unknown to" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_table_has_the_figures(drawn, tmp_path, capsys):
    words = [f"data={drawn}", f"val={drawn}", f"input_hw=[{SIZE_HW[0]},{SIZE_HW[1]}]"]
    words += ["iterations=1", "batch_size=2", "workers=0", "device=cpu"]
    rows = ["--rows", "orcnn", "asn"]
    assert ablation.main(["--out", str(tmp_path / "table"), *words, *rows]) == 0
    header, _, *lines = capsys.readouterr().out.splitlines()[-4:]
    assert "| oracle boxes AP_A | FG-0 |" in header
    assert [line.split("|")[1].strip() for line in lines] == ["orcnn", "asn"]
    assert (tmp_path / "table/table.md").read_text().splitlines()[2:] == lines
