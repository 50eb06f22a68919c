"""Irregular files: what can be recomputed is, and is counted; the rest is refused by name."""

import itertools
import json
import os

import numpy as np
import pytest
from helpers import layouts
from helpers.scenes import mask
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from amodal_perception.storage.coco_rle import encode_mask
from amodal_perception.storage.image_files import write_image
from training.convert.write_amodal_coco import occlusions_from_masks

SIZE = layouts.SIZE_HW


def order(visible, amodal):
    masks = [encode_mask(v) for v in visible], [encode_mask(a) for a in amodal]
    return occlusions_from_masks(*masks, np.array([v.sum() for v in visible], np.uint32))


def pcnet_order(visible, amodal):
    """Order as PCNet's ground truth, pair by pair and pixel by pixel."""
    pairs = []
    for i, j in itertools.combinations(range(len(visible)), 2):
        padded = np.pad(visible[i], 1)
        grown = padded[1:-1, 1:-1] | padded[:-2, 1:-1] | padded[2:, 1:-1]
        grown |= padded[1:-1, :-2] | padded[1:-1, 2:]
        if not (grown & visible[j]).any():
            continue
        i_on_j = (visible[i] & amodal[j]).sum()
        j_on_i = (visible[j] & amodal[i]).sum()
        if i_on_j or j_on_i:
            pairs.append((i, j) if i_on_j >= j_on_i else (j, i))
    return pairs


@given(st.integers(1, 4).flatmap(lambda n: arrays(np.bool_, (n, 2, 5, 6))))
def test_order_from_masks_is_pcnets_rule(layers):
    amodal = layers.any(axis=1)
    visible = layers[:, 0]
    found = order(visible, amodal)
    assert found == pcnet_order(visible, amodal)


def test_masks_that_only_meet_at_a_corner_or_not_at_all_have_no_order():
    left, right = mask("##....", "......"), mask("......", "..##..")
    wide = mask("......", "####..")
    assert order([left, right], [left, wide]) == []
    assert order([], []) == []


def rows_of(data):
    return data.annotations_of(7)


def changed(change, content=None):
    content = content or layouts.kins_2019()
    change(content)
    return content


@pytest.mark.parametrize(
    ("change", "repair"),
    [
        (lambda c: c["images"].append(dict(c["images"][0])), "image rows stored twice: one kept"),
        (
            lambda c: c["annotations"].append(dict(c["annotations"][0])),
            "annotations stored twice: one kept",
        ),
        (
            lambda c: c["annotations"][1].update(area=0),
            "areas that are not the mask's: recomputed",
        ),
        (
            lambda c: c["annotations"][1].update(bbox=[0, 0, 1]),
            "boxes that do not fit their masks: recomputed",
        ),
        (
            lambda c: c["annotations"][1].update(bbox="wide"),
            "boxes that do not fit their masks: recomputed",
        ),
        (
            lambda c: c["images"][0].update(height=None, width=None),
            "image rows without a size: the masks' was taken",
        ),
        (
            lambda c: c["annotations"][1].update(segmentation=layouts.polygon(1)),
            "flat polygon lists: nested",
        ),
        (
            lambda c: c["annotations"][1]["inmodal_seg"].update(size=[1, 2400]),
            "run lengths of a wrong size: the image's, which they cover, was taken",
        ),
        (lambda c: c.pop("categories"), "categories used but not listed: added"),
        (lambda c: [row.pop("iscrowd") for row in c["annotations"]], None),
        (lambda c: [row.pop("area") for row in c["annotations"]], None),
        (lambda c: c["annotations"][1].update(image_id=7.0, category_id="4"), None),
    ],
)
def test_what_can_be_recomputed_is(convert, change, repair):
    data, printed = convert("kins-2019", changed(change))
    assert len(rows_of(data)) == 4
    for i in range(4):
        np.testing.assert_array_equal(data.instances_of(7).amodal[i], layouts.amodal()[i])
        np.testing.assert_array_equal(data.instances_of(7).visible[i], layouts.visible()[i])
    assert list(data.info["repairs"]) == ([repair] if repair else [])
    assert repair is None or repair in printed


def test_ids_that_are_taken_or_no_numbers_are_given_anew(convert):
    def change(content):
        content["annotations"][1]["id"] = content["annotations"][0]["id"]
        content["annotations"][2]["id"] = "x-3"
        del content["annotations"][3]["id"]

    data, _ = convert("kins-2019", changed(change))
    ids = [row["id"] for row in rows_of(data)]
    assert ids[0] == 300
    assert len(set(ids)) == 4
    assert data.occlusions_of(7).tolist() == [list(edge) for edge in layouts.EDGES]
    assert data.info["repairs"] == {
        "annotation ids that are missing or no whole number: numbered": 2,
        "annotation ids used twice: renumbered": 1,
    }


def test_visible_pixels_outside_the_amodal_mask_are_cut(convert):
    content = layouts.kins_2019()
    grown = layouts.visible()[3].copy()
    grown[0, 0] = True
    elsewhere = np.zeros(SIZE, bool)
    elsewhere[0, 50] = True
    content["annotations"][3]["inmodal_seg"] = layouts.rle(grown)
    content["annotations"][0]["inmodal_seg"] = layouts.rle(elsewhere)
    data, _ = convert("kins-2019", content)
    rows = rows_of(data)
    assert rows[3]["visible_segmentation"] == layouts.rle(layouts.visible()[3])
    assert rows[0]["occlusion_rate"] == 1.0
    assert rows[0]["visible_bbox"] == [0, 0, 0, 0]
    repairs = data.info["repairs"]
    assert repairs["visible masks beyond their amodal masks: cut"] == 1
    assert repairs["visible masks wholly outside their amodal masks: cut"] == 1
    assert repairs["objects of which nothing is visible: kept"] == 1


def test_objects_without_a_pixel_are_left_out(convert):
    content = layouts.kins_2019()
    content["annotations"][1]["segmentation"] = [[5, 5, 5, 5, 5, 5]]
    data, _ = convert("kins-2019", content)
    assert [row["id"] for row in rows_of(data)] == [300, 302, 303]
    assert data.info["repairs"] == {"annotations without an amodal pixel: left out": 1}


def test_images_without_objects_are_kept(convert):
    content = layouts.kins_2019()
    content["images"].append(layouts.image_row() | {"id": 8, "file_name": "empty.jpg"})
    data, _ = convert("kins-2019", content)
    assert sorted(data.images) == [7, 8]
    assert data.info["occlusions_from"] == {"masks": 1, "no objects": 1}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda c: c["annotations"][1].pop("inmodal_seg"),
            "annotation 301, 'inmodal_seg': is missing",
        ),
        (
            lambda c: c["annotations"][1].update(segmentation=[[1, 2, 3, 4, 5]]),
            "annotation 301, 'segmentation': has a polygon of 5 numbers, which is odd",
        ),
        (
            lambda c: c["annotations"][1]["inmodal_seg"].update(counts="11"),
            "annotation 301, 'inmodal_seg': has runs of",
        ),
        (
            lambda c: c["annotations"][1]["inmodal_seg"].update(size=[60, 40]),
            "annotation 301, 'inmodal_seg': is 60 x 40, but its image 40 x 60",
        ),
        (lambda c: c["annotations"][1].update(image_id=9), "annotation 301, 'image_id': no image"),
        (lambda c: c["annotations"][1].pop("image_id"), "annotation 301, 'image_id': is missing"),
        (
            lambda c: c["annotations"][1].update(category_id="car"),
            "annotation 301, 'category_id': 'car'",
        ),
        (lambda c: c["annotations"].append(5), "annotation 5 is no JSON object"),
        (lambda c: c["images"].append({"id": 8}), "image 8, 'file_name': is missing"),
        (
            lambda c: c["images"].append(layouts.image_row() | {"height": 41}),
            "image 7: is listed twice",
        ),
        (lambda c: c.pop("images"), "has no list 'images'"),
    ],
)
def test_what_cannot_be_understood_is_named(refusal, change, message):
    line = refusal("kins-2019", changed(change))
    assert line.startswith("training.convert: ")
    assert "source.json" in line
    assert message in line


@pytest.mark.parametrize("content", ["", "{", "[1, 2]", "null"])
def test_foreign_files_are_refused(tmp_path, refusal, content):
    path = tmp_path / "foreign.json"
    path.write_text(content)
    for format_name in ("cocoa", "kins-2020", "coco"):
        assert "foreign.json" in refusal(format_name, path)
    assert "gone.json: cannot be read" in refusal("coco", tmp_path / "gone.json")


def test_bad_annotations_can_be_left_out_and_are_listed(convert):
    def change(content):
        content["annotations"][0]["inmodal_seg"]["counts"] = "broken!"
        content["annotations"][3]["image_id"] = 99

    data, printed = convert("kins-2019", changed(change), "--leave-out")
    assert [row["id"] for row in rows_of(data)] == [301, 302]
    assert data.occlusions_of(7).tolist() == [[0, 1]]
    assert "left out: 2" in printed
    assert [line.split(": ", 1)[1][:14] for line in data.info["left_out"]] == [
        "annotation 303",
        "annotation 300",
    ]


def test_all_objects_of_one_class(convert):
    data, _ = convert("kins-2019", layouts.kins_2019(), "--one-class", "vehicle")
    assert data.class_names == ("vehicle",)
    assert len(rows_of(data)) == 4
    assert data.occlusions_of(7).tolist() == [list(edge) for edge in layouts.EDGES]


class TestImages:
    def test_names_are_relative_to_the_written_file(self, tmp_path, convert):
        photos = tmp_path / "photos"
        write_image(photos / layouts.NAME, np.zeros((*SIZE, 3), np.uint8))
        content = layouts.kins_2019()
        content["images"][0]["file_name"] = "training\\image_2\\" + layouts.NAME
        data, _ = convert("kins-2019", content, "--images", photos)
        name = data.images[7]["file_name"]
        assert name == f"../photos/{layouts.NAME}"
        assert (data.path.parent / name).is_file()

    def test_a_folder_without_the_images_is_refused(self, tmp_path, refusal):
        line = refusal("kins-2019", layouts.kins_2019(), "--images", tmp_path)
        assert "holds none of the 1 images, such as 000001.jpg; point --images" in line
        line = refusal("kins-2019", layouts.kins_2019(), "--images", tmp_path / "gone")
        assert "gone: no such folder" in line

    def test_images_that_are_not_there_are_counted(self, tmp_path, convert):
        write_image(tmp_path / "photos" / layouts.NAME, np.zeros((*SIZE, 3), np.uint8))
        content = layouts.kins_2019()
        content["images"].append(layouts.image_row() | {"id": 8, "file_name": "gone.jpg"})
        data, _ = convert("kins-2019", content, "--images", tmp_path / "photos")
        repairs = data.info["repairs"]
        assert repairs == {"images that are not in the folder: kept in the file": 1}


def test_a_file_that_cannot_be_written_leaves_nothing(tmp_path, capsys):
    from training.convert.__main__ import main

    source = tmp_path / "source.json"
    source.write_text(json.dumps(layouts.coco()))
    (tmp_path / "out").write_text("a file, not a folder")
    assert main(["coco", str(source), "--out", str(tmp_path / "out" / "t.json")]) == 1
    assert "out" in capsys.readouterr().err
    assert sorted(os.listdir(tmp_path)) == ["out", "source.json"]
