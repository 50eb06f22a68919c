import json

import numpy as np
import pytest
from helpers.drawing import mask, stacked

from amodal_perception.errors import DatasetError
from amodal_perception.ordering import OrderingConfig, occlusion_graph
from amodal_perception.storage import amodal_coco
from amodal_perception.storage.coco_rle import decode_mask
from amodal_perception.storage.mask_reader import read_mask
from amodal_perception.structures import Scene


@pytest.fixture
def scene():
    pair = stacked(mask("##..", "##.."), mask(".##.", ".##."))
    graph = occlusion_graph(pair, OrderingConfig(1, 0.0))
    return Scene(7, "camera", pair, graph, "truth", ("cup", "box"))


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


@pytest.mark.parametrize("content", ["", "[]", "{", "null"])
def test_foreign_files_are_refused(tmp_path, content):
    path = tmp_path / "foreign.json"
    path.write_text(content)
    with pytest.raises(DatasetError, match=r"foreign\.json"):
        amodal_coco.read(path)
