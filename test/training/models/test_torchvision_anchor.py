"""Our Mask R-CNN is torchvision's: the same weights find the same objects in photographs.

A file in the layout of ``maskrcnn_resnet50_fpn_coco-bf2d0c1e.pth``, with other numbers in it
(`helpers.torchvision_coco`), goes through the commands of docs/reproduce.md; torchvision's own
network reads the same file. Both get the same letterboxed image, so the networks are compared, not
the resizing.
"""

import json
from collections import Counter

import numpy as np
import pytest
import torch
from helpers.paths import ROOT, SHARED_DATA
from helpers.torchvision_coco import (
    COCO_SLOTS,
    TorchvisionRuntime,
    as_published,
    fit,
    torchvision_mask_rcnn,
)

from amodal_perception.storage import amodal_coco
from training import evaluate, train
from training.convert import __main__ as convert
from training.datasets import DATASETS
from training.export import onnx_export
from training.models.detectors.box_geometry import boxes_of_masks

pytestmark = pytest.mark.timeout(900)
COCO = SHARED_DATA / "coco_tiny"
PHOTOGRAPHS = 2
INPUT_HW = (160, 224)
PROPOSALS = 64
INSTANCES = 24
TOLERANCE = {"boxes": 0.01, "scores": 2e-4, "rank": 2e-4, "masks": 1e-3}
"""Pixels for boxes, else probability."""
LARGE = 0.02
"""Share of the photograph."""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Two landscape photographs with many large objects, converted by the user's command."""
    if not COCO.exists():
        pytest.skip(f"no photographs in {COCO}")
    folder = tmp_path_factory.mktemp("anchor")
    source = json.loads((COCO / "annotations/instances_val2017.json").read_text())
    areas = {row["id"]: row["height"] * row["width"] for row in source["images"]}
    wide = {row["id"] for row in source["images"] if row["width"] > row["height"]}
    large = Counter(
        row["image_id"]
        for row in source["annotations"]
        if row["image_id"] in wide and row["area"] > LARGE * areas[row["image_id"]]
    )
    chosen = {image_id for image_id, _ in large.most_common(PHOTOGRAPHS)}
    source["images"] = [row for row in source["images"] if row["id"] in chosen]
    source["annotations"] = [row for row in source["annotations"] if row["image_id"] in chosen]
    (folder / "instances.json").write_text(json.dumps(source))
    out = folder / "data/annotations.json"
    words = ["coco", str(folder / "instances.json"), "--images", str(COCO / "val2017")]
    assert convert.main([*words, "--out", str(out)]) == 0
    return out.parent


@pytest.fixture(scope="module")
def network(data):
    """torchvision's network with weights that detect something in the photographs."""
    samples = DATASETS["amodal_coco"](data, INPUT_HW, 16)
    truths = []
    for sample in samples:
        slots = [COCO_SLOTS.index(samples.class_names[label]) for label in sample.labels]
        masks = torch.from_numpy(sample.visible.copy())
        truths.append((boxes_of_masks(masks), torch.tensor(slots), masks))
    torch.manual_seed(0)
    network = torchvision_mask_rcnn(INPUT_HW, PROPOSALS, detections=2 * INSTANCES)
    fit(network, [sample.image for sample in samples], truths)
    return network


@pytest.fixture(scope="module")
def run(data, network):
    """The file as a run, by the user's command."""
    path = data.parent / "maskrcnn.pth"
    torch.save(as_published(network.state_dict()), path)
    words = [str(ROOT / "config/train/torchvision_coco.yaml"), f"data={data}", f"weights={path}"]
    words += [f"out={data.parent / 'run'}", f"input_hw={list(INPUT_HW)}", "device=cpu"]
    words += [f"model.proposals={PROPOSALS}", f"model.instances={INSTANCES}"]
    assert train.main(words) == 0
    return data.parent / "run"


@pytest.fixture(scope="module")
def exported(data, run):
    """The run as an ONNX file.

    By the parts of the user's command, without its own comparison with PyTorch: the tests compare.
    """
    path = data.parent / "torchvision.onnx"
    model, metadata, input_hw = onnx_export.build(run)
    onnx_export.to_onnx(model, path, input_hw)
    onnx_export.store_metadata(path, {**metadata, "metrics": "{}"})
    return path


@pytest.fixture(scope="module")
def truth(data):
    return amodal_coco.read(data / "annotations.json")


@pytest.fixture(scope="module")
def theirs(network, run, truth):
    """What torchvision's network, reading the file by itself, finds."""
    again = torchvision_mask_rcnn(INPUT_HW, PROPOSALS, detections=2 * INSTANCES)
    again.load_state_dict(torch.load(run.parent / "maskrcnn.pth", weights_only=True))
    metadata = evaluate.load(run, torch.device("cpu")).metadata
    return Recorded(TorchvisionRuntime(again, metadata, INSTANCES), truth)


class Recorded:
    """What a runtime gives for every photograph, and its figures by the evaluator."""

    def __init__(self, runtime, truth):
        self.runtime, self.metadata, self.found = runtime, runtime.metadata, []
        self.figures = evaluate.measure(evaluate.predict(self, truth), truth, ["coco"])

    def __call__(self, image):
        self.found.append(self.runtime(image))
        return self.found[-1]


def test_the_comparison_says_something(theirs):
    assert len(theirs.found) == PHOTOGRAPHS
    for found in theirs.found:
        assert len(found.scores) == INSTANCES
        assert len(np.unique(found.labels)) > 10
        assert found.scores.min() < 0.3 < 0.6 < found.scores.max()
        filled = (found.amodal >= 0.5).mean((1, 2))
        assert 0.2 < filled.mean() < 0.8
        assert filled.std() > 0.05
    # Slots of no class are detected, so they matter in the softmax of all others.
    assert 0 < theirs.runtime.unused < INSTANCES
    assert theirs.figures["coco.amodal_box.AP50"] > 0.02
    assert theirs.figures["coco.amodal_mask.AP50"] > 0.005


@pytest.mark.parametrize("engine", ["PyTorch", "ONNX Runtime"])
def test_detections_and_figures_are_torchvisions(engine, request, theirs, run, truth):
    path = run if engine == "PyTorch" else request.getfixturevalue("exported")
    ours = Recorded(evaluate.load(path, torch.device("cpu")), truth)
    for found, wanted in zip(ours.found, theirs.found):
        assert differences(found, wanted) == {}
    assert ours.figures.keys() == theirs.figures.keys()
    for name, value in theirs.figures.items():
        if name.startswith("coco."):
            assert ours.figures[name] == pytest.approx(value, abs=1e-3), name


def differences(found, wanted):
    """Name what differs by more than rounding, over the detections above the last place.

    Detections whose scores are equal but for rounding may stand in either order, so each is
    compared with the one of its class whose box is nearest.
    """
    compared = np.flatnonzero(wanted.scores > wanted.scores[-1] + TOLERANCE["scores"])
    distance = np.abs(wanted.boxes_xyxy[compared, None] - found.boxes_xyxy).max(2)
    distance[wanted.labels[compared, None] != found.labels] = np.inf
    partner = distance.argmin(1)
    by_name = {
        "boxes": distance.min(1),
        "scores": np.abs(found.scores[partner] - wanted.scores[compared]),
        "rank": np.abs(found.scores - wanted.scores),
        "masks": np.abs(found.amodal[partner] - wanted.amodal[compared]),
    }
    assert len(set(partner)) == len(compared) > INSTANCES * 0.8
    return {
        name: float(values.max())
        for name, values in by_name.items()
        if not values.max() <= TOLERANCE[name]
    }
