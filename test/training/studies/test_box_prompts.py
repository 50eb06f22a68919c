import numpy as np
import pytest
import torch

from amodal_perception.preprocess import letterbox
from training.models.detector_protocol import Proposals
from training.models.detectors.instance_points import Points
from training.studies import box_prompts

SIZE_HW = (64, 96)


def points_and_found() -> tuple[Points, Proposals]:
    xy = torch.tensor([[4.0, 4], [12, 4], [4, 12], [12, 12], [8, 8]])
    stride = torch.tensor([8.0, 8, 8, 8, 16])
    found = Proposals(
        torch.tensor([[[0.0, 0, 10, 10], [0, 0, 9, 9], [0, 0, 16, 8], [0, 0, 200, 200]]]),
        torch.tensor([[0.9, 0.8, 0.7, 0.0]]),
        torch.tensor([[0, 1, 1, 1]]),
        torch.tensor([[0, 1, 2, 4]]),
    )
    return Points(xy, stride, []), found


@pytest.mark.parametrize(
    ("box", "label", "point"),
    [
        ((0, 0, 10, 10), 0, 0),  # the best fit
        ((0, 0, 10, 10), 1, 1),  # the best fit of its class
        ((0, 0, 16, 8), 0, 0),  # not the better one of another class
        ((10, 10, 16, 16), 1, 3),  # nothing overlaps: the nearest point of the level
        ((40, 12, 190, 200), 1, 4),  # larger: of the next level; a score of 0 is no detection
    ],
)
def test_point_that_answers_for_a_box(box, label, point):
    points, found = points_and_found()
    given = torch.tensor([box], dtype=torch.float32)
    assert box_prompts.points_for(given, torch.tensor([label]), found, points).tolist() == [point]


@pytest.mark.parametrize("camera_hw", [(64, 96), (120, 200), (40, 48)])
def test_maps_go_to_the_camera_where_they_belong(camera_hw):
    mask = np.zeros(camera_hw, np.uint8)
    h, w = camera_hw
    mask[h // 4 : 3 * h // 4, w // 4 : 2 * w // 3] = 255
    image, view = letterbox(np.repeat(mask[..., None], 3, 2), SIZE_HW)
    inside = image[0, ..., 0].astype(np.float32) / 255
    cells = inside.reshape(16, 4, 24, 4).mean((1, 3))
    found = box_prompts.to_camera(cells, view)
    assert (found != (mask > 0)).mean() < 0.06
    ys, xs = np.nonzero(found)
    wanted_ys, wanted_xs = np.nonzero(mask)
    cell_px = 4 / min(view.scale_xy)
    assert abs(ys.mean() - wanted_ys.mean()) < 0.2 * cell_px
    assert abs(xs.mean() - wanted_xs.mean()) < 0.2 * cell_px
