"""Annotation ids follow their objects into the batch, whatever is done to the picture."""

import numpy as np
from helpers.scenes import write_scenes

from training.datasets.amodal_coco import AmodalCocoDataset
from training.datasets.augment import Augmentation, augment
from training.datasets.sample import Sample, collate


def test_ids_are_those_of_the_file_read_or_remembered(tmp_path):
    write_scenes(tmp_path / "drawn", count=3, objects=4)
    dataset = AmodalCocoDataset(tmp_path / "drawn", (96, 128))
    for _ in range(2):  # from the file, then from memory
        for image, objects in enumerate(np.arange(1, 13).reshape(3, 4)):
            assert dataset[image].ids.tolist() == objects.tolist()
    batch = collate([dataset[0], dataset[1]])
    assert batch.ids.shape == batch.labels.shape
    assert (batch.ids[~batch.valid] == -1).all()
    assert set(batch.ids[0][batch.valid[0]].tolist()) <= {1, 2, 3, 4}


def test_ids_stay_with_objects_that_are_moved_and_pasted():
    def sample(first_id: int) -> Sample:
        masks = np.zeros((2, 64, 96), np.bool_)
        masks[0, 10:20, 10:20] = masks[1, 30:60, 40:80] = True
        image = np.full((64, 96, 3), 90, np.uint8)
        ids = np.array([first_id, first_id + 1])
        return Sample(image, masks, masks, np.zeros(2, np.int64), np.ones(2, np.bool_), ids)

    pasted = set()
    for seed in range(12):
        rng = np.random.default_rng(seed)
        found = augment(sample(1), rng, Augmentation(copy_paste=1.0), sample(11))
        assert found.ids[:2].tolist() == [1, 2]
        assert len(found.ids) == len(found.amodal)
        sizes = found.amodal.sum((1, 2))
        for id, size in zip(found.ids[2:], sizes[2:]):
            pasted.add(int(id))
            assert size < 450 or id == 12  # only the second object is large
    assert pasted == {11, 12}


def test_samples_without_ids_have_unknown_ones_in_the_batch():
    masks = np.ones((1, 32, 32), np.bool_)
    batch = collate([Sample(np.zeros((32, 32, 3), np.uint8), masks, masks, np.zeros(1, np.int64))])
    assert batch.ids.tolist() == [[-1]]
