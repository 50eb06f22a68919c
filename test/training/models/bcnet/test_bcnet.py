from pathlib import Path

import onnx
import pytest
import torch
import torch.nn.functional as F
from helpers.small_networks import random_batch
from helpers.tensorrt_builds import assert_builds

from amodal_perception.errors import ConfigError
from training.export.onnx_export import (
    COMPARED_SCORE,
    TOLERANCE,
    SingleImage,
    drawn_images,
    largest_differences,
    to_onnx,
)
from training.models.bcnet.bcnet import Bcnet, BcnetLightSettings, BcnetSettings, layer_losses
from training.models.bcnet.bilayer_head import BilayerLogits
from training.models.bcnet.contours import contours
from training.models.bcnet.occluder_targets import balanced_rois


def random_case(rois: int = 3) -> tuple:
    generator = torch.Generator().manual_seed(0)
    logits = BilayerLogits(*torch.randn(4, rois, 28, 28, generator=generator), None)
    masks = (torch.rand(3, rois, 28, 28, generator=generator) < 0.5).float()
    return (logits, *masks)


def test_losses_have_the_published_weights():
    logits, occluder, occludee, visible = random_case()
    chosen = torch.tensor([2, 0])
    found = layer_losses(logits, occluder, occludee, visible, chosen, BcnetSettings())
    bce = F.binary_cross_entropy_with_logits
    edges, own_edges = contours(occluder), contours(occludee)
    expected = {
        "occluder_contour": 0.5 * bce(logits.occluder_contour[chosen], edges[chosen]),
        "occluder_mask": 0.25 * bce(logits.occluder_mask[chosen], occluder[chosen]),
        "occludee_contour": 0.5 * bce(logits.occludee_contour, own_edges),
        "occludee_mask": bce(logits.occludee_mask, occludee),
    }
    assert set(found) == set(expected)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value)


def test_without_occluded_rois_the_occluders_terms_are_0():
    logits, _, occludee, visible = random_case()
    nothing = torch.zeros(3, 28, 28)
    chosen = balanced_rois(nothing, "drawn", torch.Generator())
    found = layer_losses(logits, nothing, occludee, visible, chosen, BcnetSettings())
    assert found["occluder_mask"] == found["occluder_contour"] == 0
    assert found["occludee_mask"] > 0


TERMS = {"occluder_contour", "occluder_mask", "occludee_contour", "occludee_mask"}


VARIANTS = [
    ({}, TERMS),
    ({"occluder_contour_weight": 0.0}, TERMS - {"occluder_contour"}),
    ({"occluder_mask_weight": 0.0}, TERMS - {"occluder_mask"}),
    ({"occludee_contour_weight": 0.0}, TERMS - {"occludee_contour"}),
    ({"bilayer": False}, {"occludee_contour", "occludee_mask"}),
    ({"visible_mask": "tail"}, TERMS | {"visible"}),
    ({"target": "visible"}, TERMS),
    ({"balance": "released", "neighbour_masks": "amodal"}, TERMS),
]


def light(**changes) -> Bcnet:
    torch.manual_seed(0)
    return BcnetLightSettings(**changes).build(1)


@pytest.mark.parametrize(("changes", "terms"), VARIANTS)
def test_variants_learn_the_terms_they_name(changes, terms):
    model = light(**changes)
    batch = random_batch(3)
    losses = model.losses(batch, torch.Generator().manual_seed(0))
    assert set(losses) == terms | {"score", "box"}
    sum(losses.values()).backward()
    named = model.mask_heads.named_parameters()
    assert [n for n, p in named if p.grad is None or not p.grad.any()] == []


@pytest.mark.parametrize("detector", ["light", "fcos", "faster_rcnn"])
def test_image_without_objects_gives_a_finite_loss(detector):
    model = light(detector=detector, proposals=20)
    losses = model.losses(random_batch(0), torch.Generator().manual_seed(0))
    assert set(losses) >= TERMS
    total = sum(losses.values())
    assert torch.isfinite(total)
    total.backward()
    assert all(torch.isfinite(v).all() for v in model.mask_heads.state_dict().values())


@pytest.mark.parametrize("detector", ["light", "fcos", "faster_rcnn"])
def test_output_keeps_the_contract_with_every_detector(detector):
    model = light(detector=detector, proposals=20, instances=5).eval()
    image = torch.randint(0, 256, (2, 64, 96, 3), dtype=torch.uint8)
    with torch.inference_mode():
        found = model(image)
    assert found.boxes.shape == (2, 5, 4)
    for masks in (found.amodal, found.visible, found.occluder):
        assert masks.shape == (2, 5, 28, 28)
        assert 0 <= masks.min() <= masks.max() <= 1


def test_fcos_has_bcnets_settings():
    detector = BcnetLightSettings(detector="fcos").build(1).detector
    assert (detector.box_weight, detector.score_threshold) == (1.25, 0.03)


def masks_of(**changes) -> tuple:
    model = light(**changes).eval()
    for layer in model.mask_heads.modules():
        if isinstance(layer, torch.nn.Conv2d) and layer.out_channels == 1:
            torch.nn.init.normal_(layer.weight, std=3.0)
    with torch.inference_mode():
        found = model(random_batch(3).images)
    return found.amodal, found.visible, found.occluder


def test_visible_is_amodal_and_not_covered():
    amodal, visible, occluder = masks_of()
    assert torch.equal(visible > 0.5, (amodal > 0.5) & ~(occluder >= 0.5))
    assert not torch.equal(visible, amodal)


@pytest.mark.parametrize(
    "changes",
    [
        {"visible_mask": "amodal"},
        {"neighbour_masks": "amodal"},  # neighbours behind do not hide
        {"target": "visible"},
        {"occluder_mask_weight": 0.0},
        {"bilayer": False},
    ],
)
def test_without_knowledge_of_what_hides_one_mask_stands_for_both(changes):
    amodal, visible, occluder = masks_of(**changes)
    assert torch.equal(visible, amodal)
    known = changes.get("bilayer", True) and changes.get("occluder_mask_weight", 1.0) > 0
    assert (occluder is not None) == known


def test_occluder_stays_inside_if_it_is_not_asked_for():
    with_it, without = masks_of(), masks_of(deliver_occluder=False)
    assert without[2] is None
    assert torch.equal(with_it[1], without[1])


def test_modal_training_learns_visible_boxes_and_masks(monkeypatch):
    model, batch = light(target="visible"), random_batch(3)
    seen = {}
    learn = model.detector.loss_and_rois

    def spy(levels, batch, generator):
        seen["batch"] = batch
        return learn(levels, batch, generator)

    monkeypatch.setattr(model.detector, "loss_and_rois", spy)
    model.losses(batch, torch.Generator().manual_seed(0))
    assert torch.equal(seen["batch"].amodal, batch.visible)
    assert seen["batch"].boxes_xyxy[0, 0].tolist() == [0, 10, 25, 40]  # amodal: to 30


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"order": "mixed"}, "model.order must be one of released, published"),
        ({"gcn_norm": "group"}, "model.gcn_norm must be one of batch, layer"),
        ({"neighbour_masks": "both"}, "model.neighbour_masks must be one of visible, amodal"),
        ({"class_agnostic": False}, "one mask for all"),
        ({"occludee_mask_weight": 0.0}, "must be above 0"),
        ({"detector": "yolo"}, "model.detector must be one of"),
    ],
)
def test_settings_that_make_no_sense_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        BcnetSettings(**changes)


@pytest.fixture(scope="module", params=["fcos", "faster_rcnn"])
def exported(request, tmp_path_factory) -> tuple[SingleImage, Path]:
    torch.manual_seed(0)
    settings = BcnetLightSettings(detector=request.param, instances=8, proposals=40)
    model = settings.build(2)
    if request.param == "fcos":  # so that points without training pass the threshold
        torch.nn.init.constant_(model.detector.classes.bias, 0.0)
    for name, p in model.mask_heads.named_parameters():
        if "logits" in name and p.ndim == 4:
            torch.nn.init.normal_(p, std=0.5)
    single = SingleImage(model).eval()
    path = tmp_path_factory.mktemp("bcnet") / f"{request.param}.onnx"
    to_onnx(single, path, (96, 128))
    return single, path


def test_graph_gives_the_occluder_and_agrees_with_pytorch(exported):
    model, path = exported
    names = [output.name for output in onnx.load(path).graph.output]
    assert names == ["boxes", "scores", "labels", "amodal", "visible", "occluder"]
    upsampling = [n for n in onnx.load(path).graph.node if n.op_type == "ConvTranspose"]
    assert len(upsampling) == 2  # contours are not computed
    worst = largest_differences(model, path, drawn_images((96, 128), 2))
    assert set(worst) == set(TOLERANCE) - {"occluded"}  # ORCNN alone has it
    assert all(worst[name] <= TOLERANCE[name] for name in worst), worst
    with torch.inference_mode():
        assert model(torch.from_numpy(drawn_images((96, 128))[0][None]))[1].max() >= COMPARED_SCORE


@pytest.mark.parametrize("exported", ["fcos"], indirect=True)  # Faster R-CNN takes longer
def test_tensorrt_builds_an_engine(exported):
    assert_builds(exported[1])
