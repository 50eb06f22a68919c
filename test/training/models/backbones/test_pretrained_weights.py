import pytest
import torch
import torchvision
from safetensors.torch import save_file

from amodal_perception.errors import ModelFileError
from training.loop.initial_weights import start_from
from training.models.backbones import pretrained_weights
from training.models.mask_rcnn import (
    MaskRcnnSettings,
)
from training.models.orcnn import OrcnnLightSettings, OrcnnSettings
from training.models.shared_modules import SharedSettings


@pytest.fixture(scope="module")
def coco_mask_rcnn() -> torch.nn.Module:
    torch.manual_seed(0)
    return torchvision.models.detection.maskrcnn_resnet50_fpn(
        weights=None, weights_backbone=None, num_classes=4, box_detections_per_img=10
    ).eval()


def test_torchvisions_mask_rcnn_fills_orcnn_both_mask_heads_alike(coco_mask_rcnn, tmp_path):
    torch.save(coco_mask_rcnn.state_dict(), tmp_path / "coco.pth")
    network = OrcnnSettings(class_agnostic=True, frozen_norm=True).build(3)
    start_from(network, tmp_path / "coco.pth")
    theirs, own = coco_mask_rcnn.state_dict(), network.state_dict()
    pairs = {
        "backbone.layer3.2.conv2.weight": "backbone.body.layer3.2.conv2.weight",
        "fpn.pyramid.inner_blocks.1.0.bias": "backbone.fpn.inner_blocks.1.0.bias",
        "detector.rpn.conv.weight": "rpn.head.conv.0.0.weight",
        "detector.rpn.deltas.weight": "rpn.head.bbox_pred.weight",
        "detector.classes.weight": "roi_heads.box_predictor.cls_score.weight",
        "mask_heads.amodal.convs.3.weight": "roi_heads.mask_head.3.0.weight",
        "mask_heads.visible.convs.3.weight": "roi_heads.mask_head.3.0.weight",
        "mask_heads.amodal.upsample.weight": "roi_heads.mask_predictor.conv5_mask.weight",
    }
    for ours, name in pairs.items():
        assert torch.equal(own[ours], theirs[name]), ours
    # All but the last layers of the masks, whose number of classes differs.
    given = set(network.state_dict()) - {
        f"mask_heads.{head}.logits.{kind}"
        for head in ("amodal", "visible")
        for kind in ("weight", "bias")
    }
    fresh = OrcnnSettings(class_agnostic=True, frozen_norm=True).build(3).state_dict()
    changed = {name for name in given if not torch.equal(own[name], fresh[name])}
    assert {n for n in given if n.endswith("weight") and own[n].ndim > 1} <= changed


def test_proposals_are_torchvisions(coco_mask_rcnn, tmp_path):
    torch.save(coco_mask_rcnn.state_dict(), tmp_path / "coco.pth")
    network = MaskRcnnSettings(frozen_norm=True).build(3).eval()
    start_from(network, tmp_path / "coco.pth")
    images = torch.randn(1, 3, 128, 192)
    with torch.inference_mode():
        ours = network.fpn(network.backbone(images))
        theirs = coco_mask_rcnn.backbone(images)
        for a, b in zip(ours, theirs.values()):
            torch.testing.assert_close(a, b, atol=1e-3, rtol=1e-3)
        judged = network.detector.rpn(ours)
        logits, _ = coco_mask_rcnn.rpn.head(list(theirs.values()))
    for level, expected in zip(judged, logits):
        expected = expected.permute(0, 2, 3, 1).flatten(1)
        torch.testing.assert_close(level.logits, expected, atol=1e-3, rtol=1e-3)


@pytest.fixture
def coco_layers(tmp_path):
    """The class layers of a file of COCO, each value the number of its slot."""
    slot = torch.arange(91.0)
    theirs = {
        "box_predictor.cls_score.bias": slot,
        "box_predictor.cls_score.weight": slot[:, None].repeat(1, 3),
        "box_predictor.bbox_pred.bias": slot.repeat_interleave(4),
        "box_predictor.bbox_pred.weight": slot.repeat_interleave(4)[:, None].repeat(1, 3),
        "mask_predictor.mask_fcn_logits.bias": slot,
        "mask_predictor.mask_fcn_logits.weight": slot.view(-1, 1, 1, 1).repeat(1, 2, 1, 1),
    }
    torch.save({f"roi_heads.{k}": v for k, v in theirs.items()}, tmp_path / "coco.pth")
    return tmp_path / "coco.pth"


def test_class_layers_of_coco_are_taken_by_name(coco_layers):
    dog, person, toothbrush = 18, 1, 90
    read = pretrained_weights.read(coco_layers, ("dog", "person", "toothbrush"), 4)
    assert read["detector.classes.bias"].tolist() == [0, dog, person, toothbrush]
    boxes = [n for n in (0, dog, person, toothbrush) for _ in range(4)]
    assert read["detector.boxes.bias"].tolist() == boxes
    assert read["mask_heads.visible.logits.bias"].tolist() == [dog, person, toothbrush]
    for layer in ("detector.classes", "detector.boxes", "mask_heads.visible.logits"):
        weight = read[layer + ".weight"].flatten(1)
        assert torch.equal(weight, read[layer + ".bias"][:, None].expand_as(weight))
    assert read["mask_heads.visible.logits.weight"].shape == (3, 2, 1, 1)


def test_slots_of_no_class_of_the_data_follow_where_there_is_room(coco_layers):
    read = pretrained_weights.read(coco_layers, ("dog", "person"), 91)
    slots = read["detector.classes.bias"].tolist()
    assert slots[:3] == [0, 18, 1]
    assert slots[3:] == [n for n in range(2, 91) if n != 18]
    assert len(read["detector.boxes.bias"]) == 4 * 3


@pytest.mark.parametrize("name", ["mug", "N/A", "__background__"])
def test_class_that_coco_does_not_have_leaves_all_class_layers_out(coco_layers, name):
    assert pretrained_weights.read(coco_layers, ("dog", name), 3) == {}


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_torchvisions_classifier_fills_the_backbone(tmp_path, suffix):
    torch.manual_seed(0)
    weights = torchvision.models.mobilenet_v3_large(weights=None).state_dict()
    path = tmp_path / f"mobilenet{suffix}"
    torch.save(weights, path) if suffix == ".pth" else save_file(weights, path)
    network = OrcnnLightSettings(backbone="mobilenet").build(1)
    start_from(network, path)
    name = "features.16.0.weight"
    assert torch.equal(network.state_dict()[f"backbone.{name}"], weights[name])


def test_file_that_holds_code_is_refused(tmp_path):
    torch.save({"weight": SharedSettings()}, tmp_path / "evil.pth")
    with pytest.raises(ModelFileError, match=r"evil\.pth: cannot be read as weights"):
        start_from(OrcnnLightSettings().build(1), tmp_path / "evil.pth")
