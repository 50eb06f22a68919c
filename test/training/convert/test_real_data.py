"""Conversions of real files; skipped where they are not."""

import json

import numpy as np
import pytest
from helpers.paths import SHARED_DATA
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from amodal_perception.evaluation.alignment import read_predictions
from amodal_perception.evaluation.evaluate import evaluate


@pytest.fixture
def cocoa_two():
    folder = SHARED_DATA / "cocoa_two"
    if not folder.is_dir():
        pytest.skip("needs the two COCOA records of ../shared/data/cocoa_two")
    return folder


@pytest.fixture
def coco_tiny():
    folder = SHARED_DATA / "coco_tiny"
    if not folder.is_dir():
        pytest.skip("needs the COCO images of ../shared/data/coco_tiny")
    return folder


@pytest.mark.parametrize("name", ["2", "5"])
def test_cocoa_every_region(cocoa_two, convert, name):
    source = cocoa_two / f"{name}.json"
    data, _ = convert("cocoa", source, "--images", cocoa_two)
    (image_id,) = data.images
    record = json.loads(source.read_text())
    rows = data.annotations_of(image_id)
    assert [row["name"] for row in rows] == [r["name"].strip() for r in record["regions"]]
    found = data.instances_of(image_id)
    covered = np.zeros(found.size_hw, bool)
    for i, region in enumerate(record["regions"]):
        polygon = coco_mask.frPyObjects([region["segmentation"]], *found.size_hw)
        amodal = coco_mask.decode(polygon)[..., 0].astype(bool)
        np.testing.assert_array_equal(found.amodal[i], amodal)
        if "visible_mask" in region:
            stored = coco_mask.decode(region["visible_mask"]).astype(bool)
            np.testing.assert_array_equal(found.visible[i], stored)
        np.testing.assert_array_equal(found.visible[i], amodal & ~covered)
        assert rows[i]["occlusion_rate"] == pytest.approx(region["occlude_rate"], abs=1e-5)
        covered |= amodal
    photo = data.path.parent / data.images[image_id]["file_name"]
    assert photo.resolve() == (cocoa_two / f"{name}.jpg").resolve()


@pytest.mark.parametrize("name", ["2", "5"])
def test_cocoa_edges_are_pcnets(cocoa_two, convert, name):
    data, _ = convert("cocoa", cocoa_two / f"{name}.json")
    (image_id,) = data.images
    found = data.instances_of(image_id)
    wanted = []
    for i in range(len(found)):
        padded = np.pad(found.visible[i], 1)
        grown = padded[1:-1, 1:-1] | padded[:-2, 1:-1] | padded[2:, 1:-1]
        grown |= padded[1:-1, :-2] | padded[1:-1, 2:]
        for j in range(i + 1, len(found)):
            i_on_j = (found.visible[i] & found.amodal[j]).sum()
            j_on_i = (found.visible[j] & found.amodal[i]).sum()
            if (grown & found.visible[j]).any() and i_on_j + j_on_i:
                wanted.append([i, j] if i_on_j >= j_on_i else [j, i])
    assert data.occlusions_of(image_id).tolist() == wanted
    assert len(wanted) >= 5
    assert all(front < behind for front, behind in wanted)  # the order of the regions agrees


@pytest.mark.parametrize(
    ("split", "count", "crowds"), [("train2017", 705, None), ("val2017", 815, None)]
)
def test_coco_round_trip(coco_tiny, convert, split, count, crowds):
    source = coco_tiny / "annotations" / f"instances_{split}.json"
    data, _ = convert("coco", source, "--images", coco_tiny / split)
    before, after = COCO(source), COCO(data.path)
    assert len(after.anns) == len(before.anns) == count
    for annotation_id, row in before.anns.items():
        ours = after.anns[annotation_id]
        np.testing.assert_array_equal(after.annToMask(ours), before.annToMask(row))
        assert ours["iscrowd"] == row["iscrowd"]
        assert ours["category_id"] == row["category_id"]
    for image in data.images.values():
        assert (data.path.parent / image["file_name"]).is_file()


def test_coco_crowds_stay_apart(coco_tiny, convert):
    crowds = 0
    for split in ("train2017", "val2017"):
        data, _ = convert("coco", coco_tiny / "annotations" / f"instances_{split}.json")
        crowds += sum(row["iscrowd"] for row in data.annotations.values())
    assert crowds == 17


def test_published_figures_survive_conversion(convert):
    """COCO's own scores of its sample results, twelve figures to the digit."""
    folder = SHARED_DATA / "coco_eval"
    if not folder.is_dir():
        pytest.skip("needs COCO's sample results of ../shared/data/coco_eval")
    truth, _ = convert("coco", folder / "instances_val2014_100.json")
    results = folder / "instances_val2014_fakesegm100_results.json"
    figures = evaluate(truth, read_predictions(results, truth), ["coco"])
    names = (
        "AP",
        "AP50",
        "AP75",
        "APs",
        "APm",
        "APl",
        "AR1",
        "AR10",
        "AR100",
        "ARs",
        "ARm",
        "ARl",
    )
    found = [round(figures[f"coco.amodal_mask.{name}"], 3) for name in names]
    assert found == [
        *(0.320, 0.562, 0.299, 0.387, 0.310, 0.327),
        *(0.268, 0.415, 0.417, 0.469, 0.377, 0.381),
    ]
