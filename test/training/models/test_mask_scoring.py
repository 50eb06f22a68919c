import torch

from training.models.mask_scoring import rescore_by_maskness
from training.structures import Detections


def test_unsure_masks_lower_the_score_of_their_object():
    amodal, visible = torch.full((2, 1, 3, 4, 4), 0.1)
    amodal[0, 0], visible[0, 0, :2] = 1.0, 1.0  # sure
    amodal[0, 1, :2], visible[0, 1, 0] = 0.75, 0.6
    amodal[0, 2] = 0.9  # and nothing is visible
    visible[0, 2] = 0.4
    boxes, labels = torch.arange(12.0).view(1, 3, 4), torch.tensor([[4, 5, 6]])
    scores = torch.tensor([[0.4, 0.8, 0.9]])
    found = rescore_by_maskness(Detections(boxes, scores, labels, amodal, visible))
    torch.testing.assert_close(found.scores, torch.tensor([[0.4, 0.8 * 0.75 * 0.6, 0.0]]))

    turned = Detections(*(x.flip(1) for x in (boxes, scores, labels, amodal, visible)))
    for values, expected in zip(rescore_by_maskness(turned), found):
        torch.testing.assert_close(values, expected)
