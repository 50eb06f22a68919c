import json
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.paths import ROOT
from helpers.scenes import write_scenes

from amodal_perception.runtime import load_runtime
from amodal_perception.storage import amodal_coco, coco_rle
from training import train as training
from training.convert import __main__ as convert
from training.export import onnx_export
from training.loop.config import load
from training.studies import blade_expansion, box_prompts

RECIPES = ROOT / "config/train"


SIZE_HW = (64, 96)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("blade") / "drawn"
    write_scenes(folder, count=3, size_hw=SIZE_HW, objects=5)
    return folder


@pytest.fixture(scope="module")
def boxes_only(drawn) -> Path:
    """The same photographs labelled by boxes, as a user's script would export them."""
    content = json.loads((drawn / "annotations.json").read_text())
    for row in content["annotations"]:
        del row["segmentation"], row["visible_segmentation"], row["occlusion_rate"]
    (drawn.parent / "labels.json").write_text(json.dumps(content))
    out = drawn.parent / "boxes" / "annotations.json"
    words = ["two-boxes", str(drawn.parent / "labels.json"), "--images", str(drawn)]
    assert convert.main([*words, "--leave-out", "--out", str(out)]) == 0  # the fully hidden ones
    return out.parent


@pytest.fixture(scope="module")
def run(boxes_only) -> Path:
    out = boxes_only.parent / "run"
    words = [f"data={boxes_only}", f"out={out}", f"input_hw={list(SIZE_HW)}", "iterations=2"]
    words += ["batch_size=2", "workers=0", "threads=1", "precision=fp32", "device=cpu"]
    assert training.main([str(RECIPES / "blade_light.yaml"), *words]) == 0
    return out


def test_from_boxes_to_a_model_file(run, tmp_path):
    assert (
        onnx_export.main([str(run), "--out", str(tmp_path / "m.onnx"), "model.instances=6"]) == 0
    )
    runtime = load_runtime(tmp_path / "m.onnx")
    assert runtime.metadata.name == "blade_light"
    raw = runtime(np.full((1, *SIZE_HW, 3), 114, np.uint8))
    assert raw.amodal.shape == raw.visible.shape == (6, 28, 28)


def test_a_run_goes_on_to_the_last_bit(run, boxes_only, tmp_path):
    words = [f"data={boxes_only}", f"input_hw={list(SIZE_HW)}", "batch_size=2", "workers=0"]
    words += ["threads=1", "precision=fp32", "device=cpu", "checkpoint_every=1"]
    recipe = str(RECIPES / "blade_light.yaml")
    for name, steps in (("once", [2]), ("twice", [1, 2])):
        for iterations in steps:
            # The schedule's length decides the rate, so it stays what it is: a step schedule.
            more = [f"out={tmp_path / name}", f"iterations={iterations}", "schedule=step"]
            assert training.main([recipe, *words, *more, "steps=[9]"]) == 0
    files = [
        (tmp_path / name / "checkpoints" / "0000002" / "model.safetensors").read_bytes()
        for name in ("once", "twice")
    ]
    assert files[0] == files[1]


@pytest.mark.parametrize("name", ["blade.yaml", "blade_light.yaml", "boxinst_light.yaml"])
def test_recipes_train_on_boxes(name):
    config = load(RECIPES / name, [])
    assert config.dataset == "amodal_boxes"
    assert config.copy_paste == 0
    config.model.head_sizes()


@pytest.mark.parametrize("box", ["visible", "amodal"])
def test_every_object_gets_the_answer_to_its_own_box(run, drawn, box):
    truth = amodal_coco.read(drawn / amodal_coco.ANNOTATIONS)
    runtime = box_prompts.load_blade(run, torch.device("cpu"), 1)
    answers = box_prompts.predict_prompted(runtime, truth, box=box)
    asked = {
        k: row for k, row in truth.annotations.items() if min(row[box_prompts.KEYS[box]][2:]) > 0
    }
    assert answers.annotations.keys() == asked.keys()
    for key, row in answers.annotations.items():
        assert row[box_prompts.KEYS[box]] == asked[key][box_prompts.KEYS[box]]
    figures = box_prompts.figures(truth, answers)
    name = "blade.kins_levels.amodal_mask_mIoU_mean"
    if box == "amodal":
        name = "bayesian_amodal.kins_levels_known_center.amodal_mask_mIoU_mean"
    # By hand: the mean over levels of the mean IoU of each object with its own answer.
    by_level: dict[int, list[float]] = {}
    for key, row in truth.annotations.items():
        if min(row["visible_bbox"][2:]) == 0 or row["occlusion_rate"] > 0.9:
            continue
        level = int(np.searchsorted([0.00005, 0.30005, 0.60005], row["occlusion_rate"]))
        a = coco_rle.decode_mask(row["segmentation"])
        b = coco_rle.decode_mask(answers.annotations[key]["segmentation"])
        by_level.setdefault(level, []).append((a & b).sum() / max(1, (a | b).sum()))
    expected = np.mean([np.mean(values) for values in by_level.values()])
    assert figures[name] == pytest.approx(expected)


def test_command_writes_figures_and_refuses_other_systems(run, drawn, tmp_path, capsys):
    words = [str(run), "--data", str(drawn), "--out", str(tmp_path / "out")]
    assert box_prompts.main(words) == 0
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert "blade.kins_levels.amodal_mask_mIoU_mean" in metrics
    capsys.readouterr()
    assert box_prompts.main(["amodal_perception/assets/default_model.onnx", *words[1:]]) == 1
    assert "takes no box prompts; give a run of blade" in capsys.readouterr().err


def test_pictures_show_every_step_of_the_expansion(run, drawn, tmp_path):
    words = [str(run), "--data", str(drawn), "--out", str(tmp_path), "--images", "1"]
    assert blade_expansion.main(words) == 0
    page = (tmp_path / "expansion.html").read_text()
    assert page.count("<figure>") >= 1
    assert "% hidden" in page
