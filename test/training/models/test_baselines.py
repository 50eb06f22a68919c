import math

import pytest
import torch
import torchvision
from helpers.small_networks import random_batch
from safetensors.torch import save_file

from amodal_perception.errors import ConfigError, ModelFileError
from training.loop.initial_weights import start_from
from training.models import MODELS
from training.models.asn import CodedMaskHead, Extraction, OcclusionBranch, is_occluded
from training.models.mask_rcnn import (
    AmodalMaskRcnnLightSettings,
    AmodalMaskRcnnSettings,
    MaskRcnnLightSettings,
    MaskRcnnSettings,
    boxes_of_masks,
)
from training.models.orcnn import OrcnnLightSettings, OrcnnSettings
from training.models.parts import Parts
from training.models.roi.mask_heads import StandardMaskHead, mask_loss

LIGHT = [name for name in MODELS if name.endswith("_light")]


def count(network: torch.nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize("name", LIGHT)
def test_light_networks_keep_the_contract_and_learn_everywhere(name):
    torch.manual_seed(0)
    network = MODELS[name]().build(2)
    losses = network.losses(random_batch(3, 2), torch.Generator().manual_seed(0))
    sum(losses.values()).backward()
    learning = [(n, p) for n, p in network.named_parameters() if p.requires_grad]
    assert [n for n, p in learning if p.grad is None] == []
    network.eval()
    with torch.inference_mode():
        found = network(random_batch(1).images[:1])
    assert found.boxes.shape == (1, 32, 4)
    assert found.amodal.shape == found.visible.shape == (1, 32, 28, 28)
    if "mask_rcnn" in name:  # one mask stands for both
        assert torch.equal(found.amodal, found.visible)


def test_mask_rcnn_has_torchvisions_parameters():
    ours = MaskRcnnSettings().build(90)
    theirs = torchvision.models.detection.maskrcnn_resnet50_fpn(
        weights=None, weights_backbone=None, num_classes=91
    )
    # The background has no mask here: one row of 256 weights and a bias less.
    assert count(ours) == count(theirs) - 257


def test_parameters_that_variants_add():
    conv = 256 * 256 * 9 + 256
    base = count(AmodalMaskRcnnSettings().build(1))
    assert count(AmodalMaskRcnnSettings(mask_convs=8).build(1)) == base + 4 * conv
    head = 4 * conv + (256 * 256 * 4 + 256) + 257
    assert count(OrcnnSettings().build(1)) == base + head
    assert count(OrcnnLightSettings().build(1)) == pytest.approx(3.2e6, rel=0.05)


def test_standard_mask_head_has_layers_of_the_paper():
    head = StandardMaskHead(256, 256, convs=4, out_channels=80)
    assert count(head) == 4 * (256 * 256 * 9 + 256) + (256 * 256 * 4 + 256) + 80 * 257
    assert head(torch.zeros(2, 256, 14, 14), torch.tensor([0, 79])).shape == (2, 28, 28)


def test_mask_loss_by_hand():
    logits = torch.tensor([[[2.0, -1.0]], [[0.0, 3.0]]])
    target = torch.tensor([[[1.0, 1.0]], [[0.0, 0.0]]])
    cells = [math.log(1 + math.exp(z)) for z in (-2.0, 1.0, 0.0, 3.0)]
    assert mask_loss(logits, target).item() == pytest.approx(sum(cells) / 4)
    assert mask_loss(logits[:0], target[:0]) == 0


def test_boxes_of_masks():
    masks = torch.zeros(1, 3, 8, 10, dtype=torch.uint8)
    masks[0, 0, 2:5, 3:9] = 1
    masks[0, 1, 7, 0] = 1
    assert boxes_of_masks(masks).tolist() == [[[3, 2, 9, 5], [0, 7, 1, 8], [0, 0, 0, 0]]]


def test_mask_rcnn_learns_visible_boxes_and_amodal_mask_rcnn_amodal_ones(monkeypatch):
    batch = random_batch(2)
    for settings, target in (
        (MaskRcnnLightSettings(), "visible"),
        (AmodalMaskRcnnLightSettings(), "amodal"),
    ):
        network = settings.build(1)
        seen = []
        learn = network.detector.learn
        monkeypatch.setattr(
            network.detector,
            "learn",
            lambda levels, given, generator, learn=learn, seen=seen: (
                seen.append(given.boxes_xyxy),
                learn(levels, given, generator),
            )[1],
        )
        losses = network.losses(batch, torch.Generator().manual_seed(0))
        assert set(losses) == {"score", "box", target}
        assert torch.equal(seen[0], boxes_of_masks(getattr(batch, target)))


def test_asn_counts_an_object_as_occluded_from_5_percent_on():
    batch = random_batch(1)
    amodal = torch.zeros(1, 3, 10, 10, dtype=torch.uint8)
    amodal[:] = 1
    visible = amodal.clone()
    visible[0, 1, 0, :5] = 0  # exactly 5 of 100 pixels
    visible[0, 2, 0, :6] = 0
    assert is_occluded(batch._replace(amodal=amodal, visible=visible)).tolist() == [[0, 0, 1]]


def test_asn_codes_depend_on_both_branches_and_guide_the_mask():
    torch.manual_seed(0)
    branch, extraction = OcclusionBranch(8), Extraction(8)
    head = CodedMaskHead(8, StandardMaskHead(8, 8, convs=3, out_channels=1))
    small, large = torch.randn(2, 8, 7, 7, requires_grad=True), torch.randn(2, 8, 14, 14)
    logit, features = branch(small)
    assert logit.shape == (2,)
    assert features.shape == (2, 8, 7, 7)
    codes = extraction(small.detach(), features)
    assert codes.shape == (2, 8, 14, 14)
    head(large, codes, torch.zeros(2, dtype=torch.int64)).sum().backward()
    assert small.grad.any()
    assert branch.convs[0].weight.grad.any()


def test_settings_name_the_valid_parts():
    with pytest.raises(ConfigError, match=r"model\.backbone must be one of resnet18, .*'vgg'"):
        Parts(backbone="vgg")
    with pytest.raises(ConfigError, match=r"model\.instances must be at least 1"):
        Parts(instances=0)


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
    torch.save({"weight": Parts()}, tmp_path / "evil.pth")
    with pytest.raises(ModelFileError, match=r"evil\.pth: cannot be read as weights"):
        start_from(OrcnnLightSettings().build(1), tmp_path / "evil.pth")
