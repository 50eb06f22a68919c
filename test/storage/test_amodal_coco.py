import json
import re

import numpy as np
import pytest
from helpers.scenes import mask, scene_of, stacked

from amodal_perception.errors import DatasetError
from amodal_perception.ordering import OrderingConfig
from amodal_perception.storage import amodal_coco
from amodal_perception.storage.coco_rle import decode_mask
from amodal_perception.storage.mask_reader import read_mask


@pytest.fixture
def scene():
    pair = stacked(mask("##..", "##.."), mask(".##.", ".##."))
    return scene_of(pair, OrderingConfig(1, 0.0), stamp_ns=7, class_names=("cup", "box"))


def write(path, scene, *, predicted=True):
    annotations, occlusions = amodal_coco.scene_to_annotations(
        scene, image_id=3, first_id=10, predicted=predicted
    )
    amodal_coco.write(
        path,
        images=[amodal_coco.image_record(3, "a.jpg", (2, 4), stamp_ns=7)],
        annotations=annotations,
        categories=amodal_coco.categories_of(scene.class_names),
        occlusions=occlusions,
    )


def test_a_scene_comes_back(tmp_path, scene):
    path = tmp_path / "deep" / "scenes.json"
    write(path, scene)
    data = amodal_coco.read(path)
    found = data.instances_of(3)
    np.testing.assert_array_equal(found.amodal, scene.instances.amodal)
    np.testing.assert_array_equal(found.visible, scene.instances.visible)
    np.testing.assert_array_equal(found.boxes_xyxy, scene.instances.boxes_xyxy)
    assert data.occlusions_of(3).tolist() == [[0, 1]]
    assert data.class_names == ("cup", "box")
    assert data.images[3]["stamp_ns"] == 7
    assert [row["occlusion_rate"] for row in data.annotations_of(3)] == [0.0, 0.5]
    assert list(path.parent.iterdir()) == [path]


def test_truth_has_no_scores(tmp_path, scene):
    write(tmp_path / "t.json", scene, predicted=False)
    content = json.loads((tmp_path / "t.json").read_text())
    assert "score" not in content["annotations"][0]
    assert "confidence" not in content["occlusions"][0]


def test_predictions_are_listed_best_first(tmp_path, scene):
    write(tmp_path / "p.json", scene)
    content = json.loads((tmp_path / "p.json").read_text())
    content["annotations"][0]["score"] = 0.2
    (tmp_path / "p.json").write_text(json.dumps(content))
    data = amodal_coco.read(tmp_path / "p.json")
    assert [row["id"] for row in data.annotations_of(3)] == [11, 10]
    assert data.occlusions_of(3).tolist() == [[1, 0]]


def test_polygons_and_plain_counts_are_read():
    square = read_mask([[1, 1, 3, 1, 3, 3, 1, 3]], (4, 4))
    assert decode_mask(square).sum() == 4
    column_major = read_mask({"size": [2, 2], "counts": [0, 2, 2]}, (2, 2))
    np.testing.assert_array_equal(decode_mask(column_major), mask("#.", "#."))


def _drop(key):
    def change(content):
        del content["annotations"][0][key]

    return change


def _set(kind, key, value):
    def change(content):
        content[kind][0][key] = value

    return change


def _move_one_annotation(content):
    content["images"].append(content["images"][0] | {"id": 4})
    content["annotations"][1]["image_id"] = 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("images"), "has no list 'images'"),
        (_drop("segmentation"), "annotation 10 has no 'segmentation'"),
        (_set("annotations", "id", 11), "annotation id 11 occurs twice"),
        (_set("annotations", "image_id", 99), "annotation 10 names image 99"),
        (_set("annotations", "category_id", 0), "annotation 10 names category 0"),
        (_move_one_annotation, "joins annotations 10 and 11, which are of different images"),
        (lambda c: c["annotations"].append(7), "annotation 7 is no JSON object"),
        (lambda c: c["occlusions"].append([1]), r"occlusion \[1\] is no JSON object"),
        (_set("occlusions", "occluder_id", 99), "occluder_id is 99, which is no annotation"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, scene, change, message):
    path = tmp_path / "bad.json"
    write(path, scene)
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(DatasetError, match=message):
        amodal_coco.read(path)


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ({"size": [9, 9], "counts": [81]}, "is 9 x 9, but its image is 2 x 4"),
        ({"counts": [81]}, "annotation 10, 'segmentation'"),
        (17, "annotation 10, 'segmentation'"),
        ({"size": [2, 4], "counts": [3, 2]}, "has runs of 5 pixels, but its image has 8"),
        ({"size": [2, 4], "counts": "11"}, "has runs of 2 pixels, but its image has 8"),
        ({"size": [2, 4], "counts": "!"}, "is no run-length code"),
    ],
)
def test_a_mask_that_does_not_fit_is_named(tmp_path, scene, segmentation, message):
    path = tmp_path / "bad.json"
    write(path, scene)
    content = json.loads(path.read_text())
    content["annotations"][0]["segmentation"] = segmentation
    path.write_text(json.dumps(content))
    with pytest.raises(DatasetError, match=message):
        amodal_coco.read(path).instances_of(3)


@pytest.mark.parametrize(
    ("kind", "key", "value", "message"),
    [
        ("annotations", "id", [10], r"annotation \[10\], 'id': is no whole number"),
        ("annotations", "id", True, "annotation True, 'id': is no whole number"),
        ("annotations", "id", 10.5, "expected a whole number"),
        ("annotations", "id", 2**63, "expected a whole number"),
        ("annotations", "image_id", "3", "annotation 10, 'image_id': is text"),
        ("annotations", "category_id", [1], "annotation 10, 'category_id': is no whole number"),
        ("annotations", "category_id", -1, "annotation 10 names category -1"),
        ("annotations", "score", float("inf"), "annotation 10 needs a finite 'score'"),
        ("annotations", "area", "12", "annotation 10, 'area': is '12', expected a number"),
        ("annotations", "occlusion_rate", float("nan"), "annotation 10, 'occlusion_rate': is nan"),
        (
            "annotations",
            "occlusion_rate",
            7,
            "annotation 10, 'occlusion_rate': is 7, expected 0",
        ),
        ("annotations", "bbox", [0, 0, 10**400, 1], r"annotation 10, 'bbox' is \[0, 0, 100"),
        ("annotations", "visible_bbox", [1, 2], r"annotation 10, 'visible_bbox' is \[1, 2\]"),
        ("images", "height", 0, "image 3: 'height' and 'width' are 0 and 4"),
        ("images", "height", 1e9, r"image 3: 1000000000 x 4 .*: a side is above 65535"),
        ("images", "width", None, "image 3 has no 'width'"),
        ("images", "file_name", 7, "image 3, 'file_name': is 7, expected text"),
        ("images", "stamp_ns", "soon", "image 3, 'stamp_ns': is text"),
        ("categories", "name", None, "category 1 has no 'name'"),
        ("categories", "name", 3, "category 1, 'name': is 3, expected text"),
        ("occlusions", "occluder_id", "10", "'occluder_id': is text"),
        ("occlusions", "confidence", "high", "'confidence': is 'high', expected a number"),
    ],
)
def test_a_value_that_cannot_be_meant_is_named(tmp_path, scene, kind, key, value, message):
    path = tmp_path / "bad.json"
    write(path, scene)
    content = json.loads(path.read_text())
    content[kind][0][key] = value
    path.write_text(json.dumps(content))
    with pytest.raises(DatasetError, match=rf"^{re.escape(str(path))}: .*{message}"):
        amodal_coco.read(path)


def test_half_a_character_is_refused(tmp_path, scene):
    path = tmp_path / "bad.json"
    write(path, scene)
    path.write_bytes(path.read_bytes().replace(b'"name": "', b'"name": "\xed\xa0\x80'))
    with pytest.raises(DatasetError, match=r"bad\.json: is not JSON"):
        amodal_coco.read(path)


def test_whole_numbers_may_be_floats_and_null_is_absent(tmp_path, scene):
    path = tmp_path / "scenes.json"
    write(path, scene)
    content = json.loads(path.read_text())
    for rows in (content[key] for key in ("images", "annotations", "categories", "occlusions")):
        for row in rows:
            row |= {k: float(row[k]) for k in row if k == "id" or k.endswith("_id")} | {"x": None}
    content["annotations"][1] |= dict.fromkeys(("score", "bbox", "visible_segmentation", "area"))
    content["images"][0]["stamp_ns"] = "7"
    content |= {"depth_orders": None, "info": None}
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(content).encode())  # a byte order mark
    data = amodal_coco.read(path)
    assert data.images[3]["stamp_ns"] == 7
    assert data.annotations[11].keys().isdisjoint({"score", "bbox", "visible_segmentation", "x"})
    assert repr(data.occlusions[0]["occluder_id"]) == "10"
    found = data.instances_of(3)
    whole = scene.instances
    order = [row["id"] - 10 for row in data.annotations_of(3)]
    np.testing.assert_array_equal(found.amodal, whole.amodal[order])
    wanted = np.stack([whole.visible[0], whole.amodal[1]])  # all of it where none is stored
    np.testing.assert_array_equal(found.visible, wanted[order])
    np.testing.assert_array_equal(found.boxes_xyxy, whole.boxes_xyxy[order])


def test_masks_of_any_form_become_the_same_run_lengths(tmp_path, scene):
    path = tmp_path / "scenes.json"
    write(path, scene)
    content = json.loads(path.read_text())
    row, other = content["annotations"]
    row["segmentation"] = {"size": [2, 4], "counts": [0, 4, 4]}
    other["segmentation"] = [[1, 0, 3, 0, 3, 2, 1, 2]]
    changed = tmp_path / "changed.json"
    changed.write_text(json.dumps(content))
    assert amodal_coco.read(changed).annotations == amodal_coco.read(path).annotations


def test_any_number_of_masks_of_an_image_is_read(tmp_path, scene):
    path = tmp_path / "scenes.json"
    write(path, scene)
    content = json.loads(path.read_text())
    row = content["annotations"][0]
    content |= {"annotations": [row | {"id": i} for i in range(1200)], "occlusions": []}
    path.write_text(json.dumps(content))
    found = amodal_coco.read(path).instances_of(3)
    assert found.amodal_area_px.tolist() == [4] * 1200


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[" * 100_000, "is not JSON"),
        (b"9" * 5000, "is not JSON"),
        (b'{"images": "\xff"}', "is not JSON"),
        (b'{"info": "\\ud800"}', "half of a character"),
        (b'{"images": [], "annotations": [], "categories": [], "info": []}', "'info' is no JSON"),
        (b'{"images": [], "annotations": [], "categories": [], "occlusions": 1}', "is no list"),
    ],
)
def test_what_is_no_such_file_is_told(tmp_path, content, message):
    path = tmp_path / "foreign.json"
    path.write_bytes(content)
    with pytest.raises(DatasetError, match=rf"foreign\.json: .*{message}"):
        amodal_coco.read(path)


@pytest.mark.parametrize("content", ["", "[]", "{", "null"])
def test_foreign_files_are_refused(tmp_path, content):
    path = tmp_path / "foreign.json"
    path.write_text(content)
    with pytest.raises(DatasetError, match=r"foreign\.json"):
        amodal_coco.read(path)
