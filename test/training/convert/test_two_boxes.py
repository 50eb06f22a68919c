"""Boxes drawn in two layers, or two boxes in a row, as CVAT, Label Studio and scripts export."""

import json

import numpy as np
import pytest
from helpers import layouts

from training.datasets.amodal_boxes import filled_boxes

AMODAL, VISIBLE = layouts.amodal(), layouts.visible()
CATEGORIES = [{"id": 1, "name": "cup"}, {"id": 2, "name": "box"}]


def coco(annotations, categories=CATEGORIES):
    return {
        "images": [layouts.image_row()],
        "categories": categories,
        "annotations": [{"iscrowd": 0, "segmentation": [], **row} for row in annotations],
    }


def row(i, **values):
    image_id = layouts.image_row()["id"]
    return {"id": 10 + i, "image_id": image_id, "category_id": 1 + i % 2, **values}


def two_boxes():
    """A row an object."""
    return coco(
        row(i, bbox=layouts.xywh(AMODAL[i]), visible_bbox=layouts.xywh(VISIBLE[i]))
        for i in range(4)
    )


def cvat(layers=("amodal", "visible"), ids=True):
    """Rectangles of two layers: COCO rows without a mask."""
    annotations = []
    for masks, layer in ((AMODAL, "amodal"), (VISIBLE, "visible")):
        if layer in layers:
            for i in range(4):
                attributes = {"layer": layer} if len(layers) == 2 else {}
                attributes |= {"object": f"thing {i}"} if ids else {}
                annotations.append(row(i, bbox=layouts.xywh(masks[i]), attributes=attributes))
    for number, annotation in enumerate(annotations, 1):
        annotation["id"] = number
    return coco(annotations)


def label_studio():
    names = ["cup amodal", "box amodal", "cup visible", "box visible"]
    content = cvat(ids=False)
    for k, annotation in enumerate(content["annotations"]):
        annotation["category_id"] += 2 * (k >= 4)
        del annotation["attributes"]
    content["categories"] = [{"id": i, "name": name} for i, name in enumerate(names, 1)]
    return content


def check(data):
    """Every object has its two boxes, filled, whatever the sequence; nothing else is stated."""
    found = data.instances_of(layouts.image_row()["id"])
    assert len(found) == 4
    amodal, visible = filled_boxes(AMODAL), filled_boxes(VISIBLE)
    for i in range(4):
        same = [k for k in range(4) if np.array_equal(found.amodal[k], amodal[i])]
        assert len(same) == 1
        np.testing.assert_array_equal(found.visible[same[0]], visible[i])
        assert data.class_names[found.labels[same[0]]] == ("cup", "box")[i % 2]
    assert data.info["amodal_truth"] is False
    assert not data.occlusions
    assert not any("occlusion_rate" in row for row in data.annotations.values())


@pytest.mark.parametrize("content", [two_boxes(), cvat(), cvat(ids=False), label_studio()])
def test_exports_of_one_file(convert, content):
    data, printed = convert("two-boxes", content)
    check(data)
    assert "train with dataset=amodal_boxes" in printed


def test_two_files_with_a_layer_each(tmp_path, convert):
    path = tmp_path / "visible.json"
    path.write_text(json.dumps(cvat(layers=["visible"])))
    data, _ = convert("two-boxes", cvat(layers=["amodal"]), "--visible", path)
    check(data)


def test_an_object_with_one_box_is_in_full_view(convert):
    content = two_boxes()
    del content["annotations"][3]["visible_bbox"]  # the fourth object touches nothing
    check(convert("two-boxes", content)[0])
    content = cvat(ids=False)
    content["annotations"].pop(7)
    data, _ = convert("two-boxes", content)
    check(data)
    assert data.info["repairs"] == {"amodal masks without a visible one: taken as in full view": 1}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda row: row.update(bbox=None), "annotation 11, 'bbox': is no box"),
        (lambda row: row.update(bbox=[1, 2, 3]), "annotation 11, 'bbox': is no box"),
        (lambda row: row.update(visible_bbox=[1, 2, 0, 4]), "'visible_bbox': has no area (0 x 4)"),
        (lambda row: row.update(visible_bbox="1 2 3 4"), "'visible_bbox': is no box"),
    ],
)
def test_boxes_that_are_none_are_named(refusal, change, message):
    content = two_boxes()
    change(content["annotations"][1])
    assert message in refusal("two-boxes", content)


def test_box_without_a_layer_is_refused(refusal):
    content = cvat()
    del content["annotations"][2]["attributes"]["layer"]
    assert "annotation 3: is it visible or amodal?" in refusal("two-boxes", content)


def test_what_is_left_out_is_listed_once(convert):
    content = cvat()
    content["annotations"][2]["bbox"] = [1, 2, 0, 4]
    data, printed = convert("two-boxes", content, "--leave-out")
    assert len(data.info["left_out"]) == 1
    assert "annotation 3, 'bbox': has no area (0 x 4)" in data.info["left_out"][0]
    assert "left out: 1" in printed
