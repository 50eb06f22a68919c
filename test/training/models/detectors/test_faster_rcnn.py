import torch
from helpers.small_networks import batch_of, levels_of

from training.models.detectors.faster_rcnn import FasterRcnn


def test_second_stage_learns_class_and_box_of_its_class_alone():
    torch.manual_seed(0)
    detector = FasterRcnn(32, 3, instances=20, proposals=40, rois_per_image=16)
    levels = levels_of(2, 5, 32)
    batch = batch_of([[10.0, 10.0, 50.0, 50.0]], [1])
    losses, rois = detector.loss_and_rois(
        [x[:1] for x in levels], batch, torch.Generator().manual_seed(0)
    )
    assert (rois.instance == 0).all()
    losses["box"].backward()
    used = detector.boxes.weight.grad.abs().sum(1).view(4, 4).sum(1) > 0  # background, 3 classes
    # The true box itself is a proposal without error; others around it may have been drawn.
    assert used.tolist() in ([False, False, True, False], [False] * 4)
