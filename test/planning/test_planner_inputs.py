from __future__ import annotations

import subprocess
import sys

import cv2
import numpy as np
import pytest
from helpers.paths import ROOT
from helpers.scenes import mask, stacked
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from amodal_perception.planning.grasp_regions import graspable_masks
from amodal_perception.planning.label_image import label_image
from amodal_perception.planning.planner_inputs import (
    cloud_indices,
    collision_box,
    contact_graspnet_input,
    object_mask,
)

CAMERA_MATRIX = np.array([[600.0, 0, 2], [0, 600.0, 1.5], [0, 0, 1]])
PILE = stacked(mask("##...", "##...", "....."), mask(".###.", ".###.", ".###."))


def test_contact_graspnet_reads_what_was_saved(tmp_path):
    depth_m = np.full((3, 5), 0.7, np.float32)
    depth_m[0, :3] = np.nan, np.inf, 0
    image = np.zeros((3, 5, 3), np.uint8)
    labels = label_image(PILE, PILE.visible)
    np.savez(
        tmp_path / "scene.npz", **contact_graspnet_input(labels, depth_m, CAMERA_MATRIX, image)
    )
    # Its loader's keys; the rest of what it does: points where depth is positive, and one local
    # cloud for every number above 0 in the segmentation map.
    read = np.load(tmp_path / "scene.npz", allow_pickle=False)
    assert sorted(read.files) == ["K", "depth", "rgb", "segmap"]
    assert np.unique(read["segmap"][read["segmap"] > 0]).tolist() == [1, 2]
    assert read["K"].reshape(3, 3).tolist() == CAMERA_MATRIX.tolist()
    assert np.isfinite(read["depth"]).all()
    assert (read["depth"] > 0).sum() == 12


def test_contact_graspnet_needs_no_picture():
    labels = label_image(PILE, PILE.visible)
    arrays = contact_graspnet_input(labels, np.ones((3, 5), np.float32), CAMERA_MATRIX.ravel())
    assert sorted(arrays) == ["K", "depth", "segmap"]
    assert arrays["K"].shape == (3, 3)


def test_images_of_different_sizes_are_refused():
    labels = label_image(PILE, PILE.visible)
    with pytest.raises(ValueError, match=r"'segmap': '5 x 3', 'depth': '4 x 3'"):
        contact_graspnet_input(labels, np.ones((3, 4), np.float32), CAMERA_MATRIX)


@given(hnp.arrays(np.bool_, (4, 7)))
def test_indices_pick_the_masks_points_of_an_organised_cloud(seen):
    cloud = np.stack([*np.meshgrid(np.arange(7), np.arange(4))], axis=-1)  # u, v of every point
    indices = cloud_indices(seen)
    assert indices.dtype == np.int32
    picked = cloud.reshape(-1, 2)[indices]
    assert {(int(u), int(v)) for u, v in picked} == {
        (int(u), int(v)) for v, u in np.argwhere(seen)
    }


def test_indices_of_the_graspable_region_are_among_those_of_the_visible():
    wide = stacked(np.ones((9, 9), np.bool_))
    inner = cloud_indices(graspable_masks(wide, 2)[0])
    assert set(inner) < set(cloud_indices(wide.visible[0]))


def test_object_mask_survives_the_png_that_foundation_pose_reads(tmp_path):
    path = str(tmp_path / "mask.png")
    drawn = object_mask(PILE.visible[1])
    assert cv2.imwrite(path, drawn)
    read = cv2.imread(path, cv2.IMREAD_UNCHANGED)
    assert read.dtype == np.uint8
    assert read.shape == (3, 5)
    np.testing.assert_array_equal(read > 0, PILE.visible[1])
    assert set(np.unique(read)) == {0, 255}


def test_collision_box_holds_both_corners_and_the_padding():
    box = collision_box((-0.1, 0.0, 0.5), (0.1, 0.3, 0.9), padding_m=0.05)
    np.testing.assert_allclose(box.centre_xyz, (0.0, 0.15, 0.7), atol=1e-12)
    np.testing.assert_allclose(box.size_xyz, (0.3, 0.4, 0.5), atol=1e-12)


CORNERS = st.tuples(*[st.floats(-5, 5)] * 3)


@given(CORNERS, CORNERS, st.floats(0, 0.5))
def test_collision_box_holds_all_that_lies_between_the_corners(a, b, padding_m):
    low, high = np.minimum(a, b), np.maximum(a, b)
    box = collision_box(tuple(low), tuple(high), padding_m)
    half = np.array(box.size_xyz) / 2
    assert (np.array(box.centre_xyz) - half <= low - padding_m + 1e-9).all()
    assert (np.array(box.centre_xyz) + half >= high + padding_m - 1e-9).all()


@pytest.mark.parametrize(
    ("low", "high", "message"),
    [
        ((np.nan,) * 3, (np.nan,) * 3, "too few of its pixels have a depth"),
        ((0.0, 0.0, 0.5), (0.1, 0.1, np.inf), "too few of its pixels have a depth"),
        ((0.5, 0.0, 0.5), (0.1, 0.1, 0.6), "span no box"),
    ],
)
def test_box_of_nothing_known_is_refused(low, high, message):
    with pytest.raises(ValueError, match=message):
        collision_box(low, high)


def test_works_as_a_copied_file(tmp_path):
    """A planner's own Python has NumPy and not this package."""
    copy = tmp_path / "planner_inputs.py"
    copy.write_text((ROOT / "amodal_perception/planning/planner_inputs.py").read_text())
    code = """
import sys
for name in ("amodal_perception", "cv2", "rclpy"):
    sys.modules[name] = None
from types import SimpleNamespace
from planner_inputs import decode_mask
mask = SimpleNamespace(x=1, y=0, width=2, height=2, counts=[1, 3])
print(decode_mask(mask, (2, 4)).astype(int).tolist())
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, env={}, capture_output=True, text=True)
    assert done.stdout.strip() == "[[0, 0, 1, 0], [0, 1, 1, 0]]", done.stderr
