"""What every detector promises."""

import pytest
import torch
from helpers.small_networks import IMAGE_HW, levels_of, random_batch

from training.models.detectors.faster_rcnn import FasterRcnn
from training.models.detectors.fcos import Fcos
from training.models.detectors.light_detector import LightDetector
from training.models.shared_modules import CHOICES


def detectors() -> dict[str, tuple[torch.nn.Module, list[torch.Tensor]]]:
    torch.manual_seed(0)
    faster = FasterRcnn(32, 3, instances=20, proposals=40, rois_per_image=16)
    return {
        "faster_rcnn": (faster, levels_of(2, 5, 32)),
        "fcos": (Fcos(32, 3, instances=20, score_threshold=0.0), levels_of(3, 5, 32)),
        "light": (LightDetector(32, 3, instances=20), levels_of(2, 4, 32)),
    }


@pytest.mark.parametrize("name", CHOICES["detector"])
def test_every_detector_finds_and_learns(name):
    detector, levels = detectors()[name]
    found = detector.eval().detect(levels, IMAGE_HW)
    assert found.boxes_xyxy.shape == (2, 20, 4)
    assert found.scores.shape == found.labels.shape == found.index.shape == (2, 20)
    assert (found.scores.diff(dim=1) <= 0).all()
    assert found.labels.min() >= 0
    assert found.labels.max() <= 2
    assert found.boxes_xyxy.min() >= 0
    assert (found.boxes_xyxy[..., 2] <= IMAGE_HW[1]).all()

    batch = random_batch(3, 3)
    losses, rois = detector.train().loss_and_rois(levels, batch, torch.Generator().manual_seed(0))
    again, _ = detector.loss_and_rois(levels, batch, torch.Generator().manual_seed(0))
    assert all(torch.isfinite(loss) and loss == again[term] for term, loss in losses.items())
    sum(losses.values()).backward()
    assert [n for n, p in detector.named_parameters() if p.grad is None] == []
    assert len(rois.boxes_xyxy) > 0
    assert set(rois.image.tolist()) == {0, 1}


@pytest.mark.parametrize("name", CHOICES["detector"])
def test_every_detector_bears_an_image_without_objects(name):
    detector, levels = detectors()[name]
    losses, rois = detector.loss_and_rois(
        levels, random_batch(0), torch.Generator().manual_seed(0)
    )
    assert all(torch.isfinite(loss) for loss in losses.values())
    assert len(rois.boxes_xyxy) == 0
