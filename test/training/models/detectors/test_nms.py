import pytest
import torch
from torchvision.ops import batched_nms

from training.models.detectors.nms import ITERATIONS, box_voting, matrix_nms, nms_per_class


def random_set(seed: int, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Clustered boxes, so that long chains of suppression occur, by descending score."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.rand(8, 2, generator=generator) * 200
    chosen = torch.randint(8, (count,), generator=generator)
    centre = centres[chosen] + torch.randn(count, 2, generator=generator) * 12
    half = 15 + torch.rand(count, 2, generator=generator) * 40
    scores = torch.rand(count, generator=generator).sort(descending=True).values
    return torch.cat([centre - half, centre + half], 1), scores


@pytest.mark.parametrize("iou_threshold", [0.4, 0.65])
def test_equals_greedy_suppression_on_many_random_sets(iou_threshold):
    removed = 0
    for seed in range(300):
        boxes, scores = random_set(seed, 192)
        keep = matrix_nms(boxes[None], iou_threshold=iou_threshold)[0]
        classes = torch.zeros(len(boxes), dtype=torch.int64)
        greedy = batched_nms(boxes, scores, classes, iou_threshold)
        assert sorted(greedy.tolist()) == torch.nonzero(keep)[:, 0].tolist()
        removed += int((keep == 0).sum())
    assert removed > 300 * 20


def test_equals_greedy_suppression_of_thousands_of_boxes_class_by_class():
    for seed in range(5):
        boxes, scores = random_set(seed, 2000)
        labels = torch.randint(5, (2000,), generator=torch.Generator().manual_seed(seed))
        keep = matrix_nms(boxes[None], iou_threshold=0.5, labels=labels[None])[0]
        greedy = batched_nms(boxes, scores, labels, 0.5)
        assert sorted(greedy.tolist()) == torch.nonzero(keep)[:, 0].tolist()
        assert 50 < len(greedy) < 1000


@pytest.mark.parametrize("length", [2, ITERATIONS, ITERATIONS + 1])
def test_chain_of_boxes_that_each_overlap_the_next_alternates(length):
    x = torch.arange(float(length)) * 4
    boxes = torch.stack([x, torch.zeros(length), x + 10, torch.full((length,), 10.0)], 1)
    keep = matrix_nms(boxes[None], iou_threshold=0.4)[0]
    assert keep.tolist() == [1.0 - i % 2 for i in range(length)]


def test_padding_of_equal_empty_boxes_is_harmless():
    boxes = torch.zeros(1, 6, 4)
    boxes[0, 0] = torch.tensor([1.0, 1.0, 9.0, 9.0])
    assert matrix_nms(boxes, iou_threshold=0.5)[0, 0] == 1


def test_boxes_that_nearly_agree_are_averaged_by_their_weights():
    boxes = torch.tensor([[[0.0, 0, 10, 10], [0, 0, 10, 11], [0, 0, 10, 30], [50, 50, 60, 60]]])
    weights = torch.tensor([0.8, 0.2, 0.9, 0.5]).expand(1, 2, 4)
    found = box_voting(boxes[:, [0, 3]], boxes, weights, iou_threshold=0.8)
    expected = torch.tensor([[[0, 0, 10, (0.8 * 10 + 0.2 * 11) / 1.0], [50, 50, 60, 60]]])
    torch.testing.assert_close(found, expected)
    nobody = box_voting(boxes[:, [0, 3]], boxes, 0 * weights, iou_threshold=0.8)
    assert torch.equal(nobody, boxes[:, [0, 3]])


def test_only_boxes_of_its_class_have_a_say_in_where_a_box_lies():
    boxes = torch.tensor([[[0.0, 0, 10, 10], [0, 0, 10, 11], [0, 0, 11, 10]]])
    scores = torch.tensor([[[0.9, 0.0], [0.3, 0.0], [0.0, 0.6]]])
    given = {"candidates": 3, "instances": 2, "iou_threshold": 0.6}
    plain = nms_per_class(scores, boxes, **given)
    assert torch.equal(plain.boxes_xyxy, boxes[:, [0, 2]])
    found = nms_per_class(scores, boxes, vote_iou=0.8, **given)
    torch.testing.assert_close(found.boxes_xyxy[0, 0], torch.tensor([0, 0, 10, 10.25]))
    torch.testing.assert_close(found.boxes_xyxy[0, 1], boxes[0, 2])
    for name in ("scores", "labels", "index"):
        assert torch.equal(getattr(found, name), getattr(plain, name))


def test_selection_equals_torchvisions_class_by_class():
    generator = torch.Generator().manual_seed(0)
    low = torch.rand(60, 2, generator=generator) * 100
    boxes = torch.cat([low, low + 30 + 20 * torch.rand(60, 2, generator=generator)], 1)
    scores = torch.rand(60, 3, generator=generator)
    found = nms_per_class(
        scores[None], boxes[None], candidates=180, instances=180, iou_threshold=0.4
    )
    flat = boxes.repeat_interleave(3, 0)
    kept = batched_nms(flat, scores.flatten(), torch.arange(180) % 3, 0.4)
    n = len(kept)
    torch.testing.assert_close(found.scores[0, :n], scores.flatten()[kept])
    torch.testing.assert_close(found.boxes_xyxy[0, :n], flat[kept])
    assert found.labels[0, :n].tolist() == (kept % 3).tolist()
    assert found.index[0, :n].tolist() == (kept // 3).tolist()
    assert (found.scores[0, n:] == 0).all()


def test_suppressed_instances_come_last_with_score_0():
    boxes = torch.tensor([0.0, 0.0, 30.0, 30.0]).repeat(1, 200, 1)
    boxes[0, 7] = torch.tensor([50.0, 10.0, 90.0, 60.0])
    scores = torch.linspace(0.9, 0.1, 200)[None, :, None]
    found = nms_per_class(scores, boxes, candidates=128, instances=32, iou_threshold=0.6)
    assert (found.scores > 0).sum() == 2
    assert found.boxes_xyxy[0, 1].tolist() == [50.0, 10.0, 90.0, 60.0]


def test_boxes_of_other_classes_are_not_suppressed():
    boxes = torch.tensor([[[0.0, 0, 9, 9], [0.0, 0, 9, 9]]])
    assert matrix_nms(boxes, iou_threshold=0.5).tolist() == [[1.0, 0.0]]
    labels = torch.tensor([[0, 1]])
    assert matrix_nms(boxes, iou_threshold=0.5, labels=labels).tolist() == [[1.0, 1.0]]
