"""Labels drawn in two layers, as CVAT and Label Studio export them."""

import json

import numpy as np
import pytest
from helpers import layouts

from training.convert.two_masks import split_label

AMODAL, VISIBLE = layouts.amodal(), layouts.visible()


def cvat(*, ids=True, layers=("amodal", "visible")):
    """CVAT's COCO export: attributes on every row, brush masks as plain counts and as crowds."""
    annotations = []
    for layer in layers:
        for i in range(4):
            if layer == "amodal":
                segmentation, crowd = [layouts.polygon(i)], 0
            else:
                runs, value = [0], False
                for pixel in VISIBLE[i].T.reshape(-1):
                    if pixel != value:
                        runs.append(0)
                        value = pixel
                    runs[-1] += 1
                segmentation, crowd = {"counts": runs, "size": list(layouts.SIZE_HW)}, 1
            attributes = {"occluded": False, "layer": layer}
            if ids:
                attributes["object"] = f"cup {i}"
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": 7,
                    "category_id": 1 + i % 2,
                    "segmentation": segmentation,
                    "area": 1.0,
                    "bbox": [0, 0, 1, 1],
                    "iscrowd": crowd,
                    "attributes": attributes,
                }
            )
    categories = [
        {"id": 1, "name": "cup", "supercategory": ""},
        {"id": 2, "name": "box", "supercategory": ""},
    ]
    return {
        "licenses": [],
        "info": {},
        "categories": categories,
        "images": [layouts.image_row(license=0, flickr_url="", coco_url="", date_captured=0)],
        "annotations": annotations,
    }


def label_studio():
    """Label Studio's COCO export: ids from 0, no attributes, the layer in the label's name."""
    names = ["cup amodal", "cup visible", "box_amodal", "box_visible"]
    annotations = []
    for i in range(4):
        for layer in (0, 1):
            segmentation = layouts.rle(VISIBLE[i]) if layer else [layouts.polygon(i)]
            annotations.append(
                {
                    "id": len(annotations),
                    "image_id": 0,
                    "category_id": 2 * (i % 2) + layer,
                    "segmentation": segmentation,
                    "bbox": layouts.xywh(AMODAL[i]),
                    "ignore": 0,
                    "iscrowd": 0,
                    "area": 1.0,
                }
            )
    image = layouts.image_row() | {"id": 0, "file_name": "images\\1\\" + layouts.NAME}
    categories = [{"id": i, "name": name} for i, name in enumerate(names)]
    return {"images": [image], "categories": categories, "annotations": annotations, "info": {}}


def check(data, image_id):
    """Every object has its two masks, whatever the sequence."""
    found = data.instances_of(image_id)
    assert len(found) == 4
    sequence = []
    for i in range(4):
        same = [k for k in range(4) if (found.amodal[k] == AMODAL[i]).all()]
        assert len(same) == 1
        np.testing.assert_array_equal(found.visible[same[0]], VISIBLE[i])
        sequence.append(same[0])
    assert data.class_names == ("cup", "box")
    assert [int(found.labels[k]) for k in sequence] == [0, 1, 0, 1]
    edges = {tuple(edge) for edge in data.occlusions_of(image_id).tolist()}
    assert edges == {(sequence[0], sequence[1]), (sequence[1], sequence[2])}


@pytest.mark.parametrize("ids", [True, False])
def test_cvat_one_file_with_a_layer_attribute(convert, ids):
    data, _ = convert("two-masks", cvat(ids=ids))
    check(data, 7)
    assert data.info["repairs"] == {}
    assert all(row["iscrowd"] == 0 for row in data.annotations_of(7))


def test_label_studio_one_file_with_layers_in_the_labels(convert):
    data, _ = convert("two-masks", label_studio())
    check(data, 0)
    assert data.images[0]["file_name"] == "images/1/000001.jpg"


def test_two_files_whose_images_are_numbered_differently(tmp_path, convert):
    amodal, visible = cvat(layers=["amodal"], ids=False), cvat(layers=["visible"], ids=False)
    for content in (amodal, visible):
        for row in content["annotations"]:
            row["attributes"] = {}
    visible["images"][0] |= {"id": 3, "file_name": "task2/" + layouts.NAME}
    for row in visible["annotations"]:
        row["image_id"] = 3
    visible["categories"] = [{"id": 1, "name": "box"}, {"id": 2, "name": "cup"}]
    for row in visible["annotations"]:
        row["category_id"] = 3 - row["category_id"]
    path = tmp_path / "visible.json"
    path.write_text(json.dumps(visible))
    data, _ = convert("two-masks", amodal, "--visible", path)
    check(data, 7)


def test_parts_with_one_id_are_joined(convert):
    content = cvat()
    whole = content["annotations"][4 + 3]
    x0, y0, x1, y1 = layouts.BOXES[3]
    middle = (y0 + y1) // 2
    whole["segmentation"] = [[x0, y0, x1, y0, x1, middle, x0, middle]]
    content["annotations"].append(
        whole
        | {"id": 99, "segmentation": [[x0, middle, x1, middle, x1, y1, x0, y1]], "iscrowd": 0}
    )
    check(convert("two-masks", content)[0], 7)


def test_parts_without_an_id_go_to_the_amodal_mask_they_lie_in(convert):
    content = cvat(ids=False)
    whole = content["annotations"][4 + 3]
    x0, y0, x1, y1 = layouts.BOXES[3]
    low = y1 - 2
    whole["segmentation"] = [[x0, y0, x1, y0, x1, low, x0, low]]
    small = {"id": 99, "segmentation": [[x0, low, x1, low, x1, y1, x0, y1]]}
    content["annotations"].insert(0, whole | small)
    data, _ = convert("two-masks", content)
    check(data, 7)
    assert data.info["repairs"] == {"visible masks added to an amodal mask that has one: parts": 1}


def test_an_object_drawn_once_is_in_full_view(convert):
    content = cvat(ids=False)
    # The first and fourth objects are in full view: one drawing of each is enough.
    content["annotations"] = [
        row for k, row in enumerate(content["annotations"]) if k not in (4, 3)
    ]
    data, printed = convert("two-masks", content)
    check(data, 7)
    assert data.info["repairs"] == {
        "amodal masks without a visible one: taken as in full view": 1,
        "visible masks without an amodal one: taken as in full view": 1,
    }
    assert "1 amodal masks without a visible one" in printed


def test_an_amodal_mask_drawn_too_small_is_extended(convert):
    content = cvat()
    x0, y0, x1, y1 = layouts.BOXES[0]
    content["annotations"][0]["segmentation"] = [[x0, y0, x1 - 1, y0, x1 - 1, y1, x0, y1]]
    data, _ = convert("two-masks", content)
    check(data, 7)
    assert data.info["repairs"] == {"amodal masks without all visible pixels: extended to them": 1}


def test_masks_of_other_classes_or_places_are_not_paired(convert):
    content = cvat(ids=False)
    content["annotations"][4]["category_id"] = 2  # visible part of a "cup", called a box
    data, _ = convert("two-masks", content)
    assert len(data.annotations_of(7)) == 5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda rows: rows[1]["attributes"].pop("layer"),
            "annotation 2: is it visible or amodal?",
        ),
        (
            lambda rows: rows[1]["attributes"].update(object="cup 0"),
            "annotation 2: has the same object id 'cup 0' as annotation 1; both are amodal",
        ),
        (
            lambda rows: rows[4]["attributes"].update(object="cup 1"),
            "annotation 5: is a 'cup', but the amodal mask with its object id 'cup 1' is a 'box'",
        ),
        (
            lambda rows: rows[1].update(segmentation=[]),
            "annotation 2, 'segmentation': is a box only; draw a polygon or a mask",
        ),
    ],
)
def test_what_a_labeller_got_wrong_is_named(refusal, change, message):
    content = cvat()
    change(content["annotations"])
    assert message in refusal("two-masks", content)


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("cup", ("cup", None)),
        ("cup visible", ("cup", "visible")),
        ("cup_amodal", ("cup", "amodal")),
        ("cup (visible)", ("cup", "visible")),
        ("Amodal: coffee cup", ("coffee cup", "amodal")),
        ("visible/cup", ("cup", "visible")),
        ("cup-Visible ", ("cup", "visible")),
        ("visible", ("visible", None)),
        ("invisible", ("invisible", None)),
        ("semivisible", ("semivisible", None)),
    ],
)
def test_labels_name_their_layer(name, wanted):
    assert split_label(name) == wanted
