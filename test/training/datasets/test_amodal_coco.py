import json
import tempfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers.scenes import draw_scene, ellipse, write_coco, write_scenes
from hypothesis import given, settings
from hypothesis import strategies as st

from amodal_perception.errors import DatasetError
from amodal_perception.preprocess import PAD_VALUE, letterbox
from amodal_perception.storage import amodal_coco, coco_rle
from training.datasets.amodal_coco import AmodalCocoDataset
from training.loop.config import from_mapping
from training.loop.sample_stream import batches


def test_samples_at_camera_size_are_the_files_content(tmp_path):
    write_scenes(tmp_path / "data", count=3, size_hw=(64, 96))
    dataset = AmodalCocoDataset(tmp_path / "data", (64, 96))
    assert len(dataset) == 3
    assert dataset.class_names == ("object",)
    truth = amodal_coco.read(tmp_path / "data/annotations.json").instances_of(2)
    for index in (1, 1):  # read, then remembered
        sample = dataset[index]
        assert np.array_equal(sample.amodal, truth.amodal)
        assert np.array_equal(sample.visible, truth.visible)
        picture = cv2.imread(str(tmp_path / "data/images/0002.jpg"))
        assert np.array_equal(sample.image, picture[..., ::-1])


def test_other_sizes_are_letterboxed_masks_with_the_image(tmp_path):
    write_scenes(tmp_path / "data", count=1, size_hw=(120, 160))
    dataset = AmodalCocoDataset(tmp_path / "data", (64, 96))
    sample = dataset[0]
    inside = slice(5, 90)  # 64 x 85 pixels of picture in the middle of 96
    assert (sample.image[:, :5] == PAD_VALUE).all()
    assert not sample.amodal[:, :, :5].any()
    truth = amodal_coco.read(tmp_path / "data/annotations.json").instances_of(1)
    cover = sample.amodal.sum(axis=(1, 2)) / (64 * 85)
    expected = truth.amodal.sum(axis=(1, 2)) / (120 * 160)
    assert np.abs(cover - expected).max() < 0.02
    assert sample.amodal[:, :, inside].any(axis=(1, 2)).all()
    assert not (sample.visible & ~sample.amodal).any()


def test_missing_image_and_wrong_size_name_the_file(tmp_path):
    write_scenes(tmp_path / "data", count=2)
    (tmp_path / "data/images/0001.jpg").unlink()
    cv2.imwrite(str(tmp_path / "data/images/0002.jpg"), np.zeros((10, 20, 3), np.uint8))
    dataset = AmodalCocoDataset(tmp_path / "data", (64, 96))
    with pytest.raises(DatasetError, match=r"0001\.jpg: cannot be read"):
        dataset[0]
    with pytest.raises(
        DatasetError, match=r"0002\.jpg: is \(10, 20\), the truth says \(120, 160\)"
    ):
        dataset[1]


def test_folder_without_truth(tmp_path):
    with pytest.raises(DatasetError, match=r"annotations\.json"):
        AmodalCocoDataset(tmp_path, (64, 96))


def test_crowds_are_left_out_and_whole_objects_named(tmp_path):
    whole = ellipse((60, 48), (20, 20))
    triangle = [95, 75, 99, 75, 99, 85]
    path = write_coco(
        tmp_path,
        [
            [
                (whole, 9, {}),
                (ellipse((20, 20), (10, 10)), 5, {"iscrowd": 1}),
                (
                    ellipse((100, 80), (10, 10)),
                    7,
                    {"visible_segmentation": [triangle]},
                ),
                (ellipse((124, 20), (10, 10)), 7, {}),
            ]
        ],
    )
    path.rename(tmp_path / "annotations.json")
    sample = AmodalCocoDataset(tmp_path, (96, 128))[0]
    assert sample.labels.tolist() == [2, 1, 1]
    assert sample.whole.tolist() == [True, False, False]
    assert np.array_equal(sample.amodal[0], whole)
    assert 10 < sample.visible[1].sum() < 60


def test_broken_mask_names_its_annotation(tmp_path):
    write_scenes(tmp_path / "data", count=1)
    path = tmp_path / "data/annotations.json"
    content = json.loads(path.read_text())
    content["annotations"][1]["visible_segmentation"]["counts"] = "0123"
    path.write_text(json.dumps(content))
    with pytest.raises(DatasetError, match="annotation 2, 'visible_segmentation'"):
        AmodalCocoDataset(tmp_path / "data", (64, 96))


@pytest.mark.parametrize("cache_mb", [0, 2048])
def test_samples_are_the_same_with_and_without_room_to_remember(tmp_path, cache_mb):
    write_scenes(tmp_path / "data", count=2, size_hw=(120, 160))
    dataset = AmodalCocoDataset(tmp_path / "data", (64, 96), cache_mb)
    first, again = dataset[1], dataset[1]
    assert (dataset.cache.used_bytes > 0) == (cache_mb > 0)
    for name in ("image", "amodal", "visible", "labels", "whole"):
        assert np.array_equal(getattr(first, name), getattr(again, name)), name


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 1000),
    camera_hw=st.tuples(st.integers(40, 120), st.integers(40, 120)),
    input_hw=st.sampled_from([(32, 32), (32, 96), (96, 64)]),
)
def test_masks_of_any_size_are_sampled_at_the_centres_of_pixels(seed, camera_hw, input_hw):
    rng = np.random.default_rng(seed)
    image, truth = draw_scene(rng, camera_hw, 3)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = [
            {
                "id": i + 1,
                "image_id": 1,
                "category_id": 1,
                "segmentation": coco_rle.encode_mask(truth.amodal[i]),
                "visible_segmentation": coco_rle.encode_mask(truth.visible[i]),
            }
            for i in np.flatnonzero(truth.amodal.any(axis=(1, 2))).tolist()
        ]
        cv2.imwrite(str(folder / "a.png"), image)
        amodal_coco.write(
            folder / "annotations.json",
            images=[amodal_coco.image_record(1, "a.png", camera_hw)],
            annotations=rows,
            categories=amodal_coco.categories_of(("object",)),
            occlusions=[],
        )
        sample = AmodalCocoDataset(folder, input_hw)[0]
    view = letterbox(image, input_hw)[1]
    ys, xs = np.mgrid[: input_hw[0], : input_hw[1]] + 0.5
    left, top = view.offset_xy
    camera_x = np.floor((xs - left) / view.scale_xy[0] + 1e-9).astype(int)
    camera_y = np.floor((ys - top) / view.scale_xy[1] + 1e-9).astype(int)
    inside = (camera_x >= 0) & (camera_y >= 0)
    inside &= (camera_x < camera_hw[1]) & (camera_y < camera_hw[0])
    for row, amodal, visible in zip(rows, sample.amodal, sample.visible):
        for key, mask in (("segmentation", amodal), ("visible_segmentation", visible)):
            camera = coco_rle.decode_mask(row[key])
            assert np.array_equal(mask[inside], camera[camera_y[inside], camera_x[inside]])
            assert not mask[~inside].any()


def test_workers_give_what_one_process_gives(tmp_path):
    write_scenes(tmp_path / "data", count=6, size_hw=(96, 128))
    config = {"data": "d", "batch_size": 2, "iterations": 6, "copy_paste": 0.7, "seed": 3}
    read = []
    for workers in (0, 2):
        dataset = AmodalCocoDataset(tmp_path / "data", (96, 128), 1)
        made = from_mapping({**config, "input_hw": [96, 128], "workers": workers}, source="test")
        read.append(list(batches(dataset, made, 0)))
    later = list(batches(dataset, made, 4))  # as a resumed run asks for them
    assert len(read[0]) == 6
    for one, two in zip(read[0], read[1]):
        assert all(a.equal(b) for a, b in zip(one, two))
    for one, two in zip(read[0][4:], later):
        assert all(a.equal(b) for a, b in zip(one, two))
