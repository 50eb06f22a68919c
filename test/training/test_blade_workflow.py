"""What users do with BLADE: from boxes to a model file, asking by boxes, tables and pictures."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.paths import ROOT
from helpers.scenes import write_scenes

from amodal_perception.masks import mask_windows
from amodal_perception.preprocess import letterbox
from amodal_perception.runtime import load_runtime
from amodal_perception.storage import amodal_coco, coco_rle
from training import evaluate
from training import train as training
from training.convert import __main__ as convert
from training.datasets.amodal_boxes import AmodalBoxesDataset, filled_boxes
from training.datasets.amodal_coco import AmodalCocoDataset
from training.export import onnx_export
from training.loop.config import from_mapping, load
from training.loop.sample_stream import batches
from training.models.detector import Proposals
from training.models.detectors.instance_points import Points
from training.structures import Batch
from training.studies import ablation, blade_expansion, box_prompts

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
    words = ["boxes", str(drawn.parent / "labels.json"), "--images", str(drawn)]
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


def test_dataset_hands_out_boxes_and_no_masks(drawn):
    masks, boxes = (d(drawn, SIZE_HW) for d in (AmodalCocoDataset, AmodalBoxesDataset))
    assert (len(boxes), boxes.class_names) == (3, ("object",))
    for i in range(3):
        a, b = masks[i], boxes[i]
        for name in ("amodal", "visible"):
            windows = mask_windows(getattr(b, name))
            assert np.array_equal(windows, mask_windows(getattr(a, name)))
            areas = getattr(b, name).sum((1, 2))
            assert np.array_equal(areas, np.diff(windows.reshape(-1, 2, 2), axis=1).prod((1, 2)))
        assert np.array_equal(a.image, b.image)
        assert b.whole is None  # nothing can be cut out and pasted


def test_batches_of_the_recipe_hold_rectangles_after_all_random_changes(drawn):
    config = load(RECIPES / "blade_light.yaml", [f"data={drawn}", "workers=0", "iterations=3"])
    config = from_mapping({**vars(config), "model": "blade_light", "batch_size": 3}, source="test")
    for batch in batches(AmodalBoxesDataset(drawn, SIZE_HW), config, 0):
        batch = Batch(*batch)
        for masks in (batch.amodal, batch.visible):
            flat = masks.flatten(0, 1).numpy() > 0
            np.testing.assert_array_equal(flat, filled_boxes(flat))


@pytest.mark.parametrize("name", ["blade.yaml", "blade_light.yaml", "boxinst_light.yaml"])
def test_recipes_train_on_boxes(name):
    config = load(RECIPES / name, [])
    assert config.dataset == "amodal_boxes"
    assert config.copy_paste == 0
    config.model.head_sizes()


def test_rows_of_the_tables_are_settings_that_differ():
    rows = ablation.BLADE_ROWS
    settings = [load(ablation.RECIPE, row) for row in rows.values()]
    assert len({str(s.model) + type(s.model).__name__ for s in settings}) == len(rows)
    assert all(s.dataset == "amodal_boxes" for s, n in zip(settings, rows) if n != "orcnn")
    by_name = {name: s.model for name, s in zip(rows, settings)}
    full = by_name["blade"]
    weights = (full.projection_weight, full.pairwise_weight, full.connectivity_weight)
    assert weights == (2, 1, 1)
    last = by_name["8_no_fusion_neither"]
    assert (last.fusion, last.uniform_weight, last.neighbour_weight) == (False, 0, 0)


# Asked by boxes


def points_and_found() -> tuple[Points, Proposals]:
    xy = torch.tensor([[4.0, 4], [12, 4], [4, 12], [12, 12], [8, 8]])
    stride = torch.tensor([8.0, 8, 8, 8, 16])
    found = Proposals(
        torch.tensor([[[0.0, 0, 10, 10], [0, 0, 9, 9], [0, 0, 16, 8], [0, 0, 200, 200]]]),
        torch.tensor([[0.9, 0.8, 0.7, 0.0]]),
        torch.tensor([[0, 1, 1, 1]]),
        torch.tensor([[0, 1, 2, 4]]),
    )
    return Points(xy, stride, []), found


@pytest.mark.parametrize(
    ("box", "label", "point"),
    [
        ((0, 0, 10, 10), 0, 0),  # the best fit
        ((0, 0, 10, 10), 1, 1),  # the best fit of its class
        ((0, 0, 16, 8), 0, 0),  # not the better one of another class
        ((10, 10, 16, 16), 1, 3),  # nothing overlaps: the nearest point of the level
        ((40, 12, 190, 200), 1, 4),  # larger: of the next level; a score of 0 is no detection
    ],
)
def test_point_that_answers_for_a_box(box, label, point):
    points, found = points_and_found()
    given = torch.tensor([box], dtype=torch.float32)
    assert box_prompts.points_for(given, torch.tensor([label]), found, points).tolist() == [point]


@pytest.mark.parametrize("camera_hw", [(64, 96), (120, 200), (40, 48)])
def test_maps_go_to_the_camera_where_they_belong(camera_hw):
    mask = np.zeros(camera_hw, np.uint8)
    h, w = camera_hw
    mask[h // 4 : 3 * h // 4, w // 4 : 2 * w // 3] = 255
    image, view = letterbox(np.repeat(mask[..., None], 3, 2), SIZE_HW)
    inside = image[0, ..., 0].astype(np.float32) / 255
    cells = inside.reshape(16, 4, 24, 4).mean((1, 3))
    found = box_prompts.to_camera(cells, view)
    assert (found != (mask > 0)).mean() < 0.06
    ys, xs = np.nonzero(found)
    wanted_ys, wanted_xs = np.nonzero(mask)
    cell_px = 4 / min(view.scale_xy)
    assert abs(ys.mean() - wanted_ys.mean()) < 0.2 * cell_px
    assert abs(xs.mean() - wanted_xs.mean()) < 0.2 * cell_px


@pytest.mark.parametrize("box", ["visible", "amodal"])
def test_every_object_gets_the_answer_to_its_own_box(run, drawn, box):
    truth = amodal_coco.read(drawn / evaluate.ANNOTATIONS)
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
    assert "cannot be asked by boxes; give a run of blade" in capsys.readouterr().err


def test_pictures_show_every_step_of_the_expansion(run, drawn, tmp_path):
    words = [str(run), "--data", str(drawn), "--out", str(tmp_path), "--images", "1"]
    assert blade_expansion.main(words) == 0
    page = (tmp_path / "expansion.html").read_text()
    assert page.count("<figure>") >= 1
    assert "% hidden" in page
