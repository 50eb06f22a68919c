import numpy as np

from training.datasets.sample import MIN_VISIBLE_PX, Sample, collate


def sample_with(visible_px: list[int]) -> Sample:
    amodal = np.zeros((len(visible_px), 32, 64), np.bool_)
    visible = np.zeros_like(amodal)
    for i, count in enumerate(visible_px):
        amodal[i, 4:20, 10 : 30 + i] = True
        visible[i, 4, 10:30].flat[:count] = True
    return Sample(np.zeros((32, 64, 3), np.uint8), amodal, visible, np.arange(len(amodal)))


def test_batch_is_padded_and_hardly_visible_objects_are_left_out():
    batch = collate([sample_with([20, MIN_VISIBLE_PX - 1, 15]), sample_with([0]), sample_with([])])
    assert batch.images.shape == (3, 32, 64, 3)
    assert batch.valid.tolist() == [[True, True], [False, False], [False, False]]
    assert batch.boxes_xyxy[0].tolist() == [[10, 4, 30, 20], [10, 4, 32, 20]]
    assert batch.visible[0].sum(dim=(1, 2)).tolist() == [20, 15]
    assert batch.amodal[1:].sum() == 0


def test_batch_without_any_object_has_one_padding_row():
    assert collate([sample_with([])]).boxes_xyxy.shape == (1, 1, 4)
