import cv2
import numpy as np
import pytest
from drawn_scenes import write_scenes

from amodal_perception.errors import DatasetError
from amodal_perception.preprocess import PAD_VALUE
from training.datasets.amodal_coco import AmodalCocoDataset


def test_samples_at_camera_size_are_the_files_content(tmp_path):
    write_scenes(tmp_path / "data", count=3, size_hw=(64, 96))
    dataset = AmodalCocoDataset(tmp_path / "data", (64, 96))
    assert len(dataset) == 3
    assert dataset.class_names == ("object",)
    for index in (1, 1):  # read, then remembered
        sample = dataset[index]
        truth = dataset.truth.instances_of(dataset.image_ids[index])
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
    truth = dataset.truth.instances_of(1)
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
