import pytest
import torch
import torchvision
from helpers.small_networks import random_batch

from training.models.detectors.box_geometry import boxes_of_masks
from training.models.mask_rcnn import (
    AmodalMaskRcnnLightSettings,
    AmodalMaskRcnnSettings,
    MaskRcnnLightSettings,
    MaskRcnnSettings,
)
from training.models.orcnn import OrcnnLightSettings, OrcnnSettings


def count(network: torch.nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


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


def test_mask_rcnn_learns_visible_boxes_and_amodal_mask_rcnn_amodal_ones(monkeypatch):
    batch = random_batch(2)
    for settings, target in (
        (MaskRcnnLightSettings(), "visible"),
        (AmodalMaskRcnnLightSettings(), "amodal"),
    ):
        network = settings.build(1)
        seen = []
        learn = network.detector.loss_and_rois
        monkeypatch.setattr(
            network.detector,
            "loss_and_rois",
            lambda levels, given, generator, learn=learn, seen=seen: (
                seen.append(given.boxes_xyxy),
                learn(levels, given, generator),
            )[1],
        )
        losses = network.losses(batch, torch.Generator().manual_seed(0))
        assert set(losses) == {"score", "box", target}
        assert torch.equal(seen[0], boxes_of_masks(getattr(batch, target)))
