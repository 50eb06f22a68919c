import json
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers.paths import SHARED_DATA
from helpers.scenes import ellipse, write_coco
from hypothesis import given, settings
from hypothesis import strategies as st

from amodal_perception.errors import DatasetError
from amodal_perception.storage import coco_rle
from training.packed_objects import read_objects
from training.synthesize.occlusion import (
    OcclusionRecipe,
    OcclusionSettings,
    complete_objects,
    find_position,
    main_share,
)

COCO_TINY = SHARED_DATA / "coco_tiny"
SMALL = OcclusionSettings(min_area_px=200)


def recipe_of(path: Path, seed: int = 0) -> OcclusionRecipe:
    objects = read_objects(path)
    return OcclusionRecipe(objects, complete_objects(objects, SMALL).indices, seed, SMALL)


def test_complete_objects_are_whole_large_and_alone(tmp_path):
    whole = ellipse((60, 50), (20, 20))
    pieces = ellipse((20, 20), (10, 10)) | ellipse((60, 20), (10, 10))
    behind = {"visible_segmentation": [[60, 40, 70, 40, 70, 50]]}
    path = write_coco(
        tmp_path,
        [
            [(whole, 5, {})],
            [(whole, 5, {"iscrowd": 1})],
            [(whole, 5, behind)],
            [(ellipse((60, 50), (6, 6)), 5, {})],
            [(whole, 5, {}), (ellipse((75, 50), (15, 15)), 5, {})],
            [(ellipse((20, 50), (19, 19)), 5, {})],
            [(ellipse((64, 48), (58, 40)), 5, {})],
            [(pieces, 5, {})],
            [(whole, 5, {}), (ellipse((90, 20), (12, 12)), 5, {})],  # boxes touch, hardly overlap
        ],
    )
    objects = read_objects(path)
    complete = complete_objects(objects, SMALL)
    assert objects.image[complete.indices].tolist() == [0, 8, 8]
    assert list(complete.remaining.values()) == [11, 9, 8, 6, 5, 4, 3]


def test_masks_are_the_photographs_own_and_nothing_else_changes(single_objects):
    recipe = recipe_of(single_objects)
    objects = recipe.objects
    for number in range(12):
        picture = recipe.draw(number)
        front, behind, *others = picture.annotations
        target = int(np.flatnonzero(objects.id == picture.extra["occludee_from"])[0])
        before = objects.read_image(int(objects.image[target]))
        amodal = coco_rle.decode_mask(behind["segmentation"])
        visible = coco_rle.decode_mask(behind["visible_segmentation"])
        pasted = coco_rle.decode_mask(front["segmentation"])
        assert np.array_equal(amodal, coco_rle.decode_mask(objects.amodal(target)))
        assert np.array_equal(visible, amodal & ~pasted)
        assert front["visible_segmentation"] == front["segmentation"]
        assert 0.2 <= behind["occlusion_rate"] <= 0.5
        assert (picture.image[~pasted] == before[~pasted]).all()
        inner = cv2.erode(pasted.view(np.uint8), np.ones((3, 3), np.uint8)) > 0
        assert (picture.image[inner].max(axis=1) > 95).all()  # no background came along
        assert [row["iscrowd"] for row in (front, behind)] == [0, 0]
        assert all(row["iscrowd"] for row in others)
        assert picture.occlusions == [(1, 2)]


def test_outlines_give_the_masks_back(single_objects):
    picture = recipe_of(single_objects).draw(0)
    for row in picture.annotations[:2]:
        mask = coco_rle.decode_mask(row["segmentation"])
        filled = np.zeros(mask.shape, np.uint8)
        outlines = [np.array(outline).reshape(-1, 1, 2) for outline in row["contours"]]
        cv2.drawContours(filled, outlines, -1, 1, cv2.FILLED)
        assert np.array_equal(filled > 0, mask)


def test_classes_are_drawn_evenly(tmp_path):
    images = [[(ellipse((60, 48), (20, 20)), 5, {})] for _ in range(9)]
    images.append([(ellipse((60, 48), (20, 20)), 9, {})])
    images.append([(ellipse((60, 48), (20, 20)), 9, {})])
    recipe = recipe_of(write_coco(tmp_path, images))
    drawn = Counter(
        row["category_id"] for n in range(200) for row in recipe.draw(n).annotations[:2]
    )
    assert set(drawn) == {1, 3}  # ids of the class names, in the order of the file's ids
    assert abs(drawn[1] - 200) < 45


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), low=st.floats(0.05, 0.6))
def test_positions_hide_what_was_asked_for(seed, low):
    rng = np.random.default_rng(seed)
    centre = (int(rng.integers(15, 110)), int(rng.integers(15, 80)))
    target = ellipse(centre, (int(rng.integers(3, 40)), int(rng.integers(3, 40))))
    occluder = ellipse((64, 48), (int(rng.integers(2, 40)), int(rng.integers(2, 40))))
    occluder = occluder[occluder.any(axis=1)][:, occluder.any(axis=0)]
    corner = find_position(target, occluder, (low, low + 0.2), 16, rng)
    if corner is not None:
        x, y = corner
        h, w = occluder.shape
        assert 0 <= x <= 128 - w
        assert 0 <= y <= 96 - h
        hidden = np.count_nonzero(target[y : y + h, x : x + w] & occluder)
        assert low <= hidden / target.sum() <= low + 0.2


def test_position_is_found_where_there_is_one():
    target, occluder = np.zeros((96, 128), np.bool_), np.ones((20, 20), np.bool_)
    target[30:50, 40:60] = True
    rng = np.random.default_rng(0)
    corners = {find_position(target, occluder, (0.2, 0.5), 32, rng) for _ in range(50)}
    assert None not in corners
    assert len(corners) > 30
    assert find_position(target, occluder[:5, :5], (0.2, 0.5), 32, rng) is None


def test_main_share_of_pieces():
    mask = np.zeros((20, 20), np.bool_)
    assert main_share(mask) == 0
    mask[2:5, 2:5] = True
    mask[5, 5] = True  # joined at a corner
    assert main_share(mask) == 1
    mask[10:15, 10:12] = True
    assert main_share(mask) == 0.5


def test_too_few_objects_are_said(tmp_path):
    path = write_coco(tmp_path, [[(ellipse((60, 50), (20, 20)), 5, {})]])
    with pytest.raises(DatasetError, match="1 complete objects of 1"):
        recipe_of(path)


@pytest.mark.skipif(not COCO_TINY.exists(), reason="the real photographs are not here")
def test_real_photographs():
    objects = read_objects(COCO_TINY / "annotations/instances_val2017.json", COCO_TINY / "val2017")
    assert len(objects) == 815
    assert objects.crowd.sum() == 11
    truth = json.loads((COCO_TINY / "annotations/instances_val2017.json").read_text())
    areas = {row["id"]: row["area"] for row in truth["annotations"]}
    large = (objects.area_px > 5000) & ~objects.crowd
    stored = np.array([areas[id] for id in objects.id[large]])
    assert np.abs(objects.area_px[large] / stored - 1).max() < 0.1
    complete = complete_objects(objects, OcclusionSettings()).indices
    recipe = OcclusionRecipe(objects, complete, 0, OcclusionSettings())
    for number in range(5):
        front, behind = recipe.draw(number).annotations[:2]
        assert 0.2 <= behind["occlusion_rate"] <= 0.5
        assert front["occlusion_rate"] == 0
