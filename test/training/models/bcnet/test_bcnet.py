"""BCNet: the head's layers and switches, its targets by hand, its losses, and its graph."""

import math
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from helpers.small_networks import random_batch
from helpers.tensorrt_builds import assert_builds
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

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
from training.models.bcnet.bilayer_head import BilayerHead, BilayerLogits, Tails
from training.models.bcnet.contours import contours
from training.models.bcnet.gcn import GraphConvolution
from training.models.bcnet.occluder_targets import balanced, occluder_masks
from training.models.roi.mask_heads import StandardMaskHead
from training.structures import Batch

RELEASED_PARAMETERS = 6_296_580
CONV, GRAPH, TAIL = 590_080, 262_656, 262_657  # of 256 channels; a tail is up-sampling and logit
UPSAMPLING = 262_400
LOGIT = TAIL - UPSAMPLING


def count(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def head_of(settings: BcnetSettings, channels: int = 256, **options) -> BilayerHead:
    torch.manual_seed(0)
    return BilayerHead(channels, channels, settings, **options)


# The graph convolution


@pytest.mark.parametrize("norm", ["batch", "layer"])
@pytest.mark.parametrize("scaled", [False, True])
def test_graph_convolution_is_equations_1_to_3_in_a_loop(norm, scaled):
    torch.manual_seed(0)
    K, h, w = 5, 3, 4
    graph = GraphConvolution(K, norm=norm, scaled=scaled).double().eval()
    for value in graph.norm.parameters():
        torch.nn.init.normal_(value)
    if norm == "batch":
        graph.norm.running_mean.normal_()
        graph.norm.running_var.uniform_(0.5, 2.0)
    image = torch.randn(1, K, h, w, dtype=torch.float64)
    with torch.no_grad():
        found = graph(image)[0].flatten(1).T.numpy()

    nodes = image[0].flatten(1).T.numpy()  # X, [N, K]
    theta, phi, g, out = (
        getattr(graph, name).weight.detach()[:, :, 0, 0].numpy()
        for name in ("theta", "phi", "g", "out")
    )
    W_g = (out @ g).T
    for i, x_i in enumerate(nodes):
        similarity = [(theta @ x_i) @ (phi @ x_j) for x_j in nodes]
        if scaled:
            similarity = [s / math.sqrt(K) for s in similarity]
        total = sum(math.exp(s) for s in similarity)
        gathered = sum(math.exp(s) / total * (x_j @ W_g) for s, x_j in zip(similarity, nodes))
        gamma, beta = (p.detach().numpy() for p in (graph.norm.weight, graph.norm.bias))
        if norm == "batch":
            mean, variance = graph.norm.running_mean.numpy(), graph.norm.running_var.numpy()
            sigma = (gathered - mean) / np.sqrt(variance + 1e-4) * gamma + beta
        else:
            centred = gathered - gathered.mean()
            sigma = centred / np.sqrt((centred**2).mean() + 1e-5) * gamma + beta
            sigma = np.maximum(sigma, 0)
        np.testing.assert_allclose(found[i], sigma + x_i, rtol=1e-9, atol=1e-9)


# The head and its switches


def test_head_has_the_parameters_of_the_released_one():
    assert count(head_of(BcnetSettings())) == RELEASED_PARAMETERS
    assert 8 * CONV + 2 * GRAPH + 4 * TAIL == RELEASED_PARAMETERS


@pytest.mark.parametrize(
    ("changes", "parameters"),
    [
        ({"gcn": False}, RELEASED_PARAMETERS - 2 * GRAPH),
        ({"guidance": False}, RELEASED_PARAMETERS),
        ({"order": "published"}, RELEASED_PARAMETERS - 2 * CONV),
        ({"gcn_norm": "layer"}, RELEASED_PARAMETERS),
        ({"gcn_scaled": False}, RELEASED_PARAMETERS),
        ({"shared_upsampling": True}, RELEASED_PARAMETERS - 2 * UPSAMPLING),
        ({"occluder_mask_weight": 0.0}, RELEASED_PARAMETERS - TAIL),
        ({"occluder_contour_weight": 0.0}, RELEASED_PARAMETERS - TAIL),
        (
            {"occluder_mask_weight": 0.0, "occluder_contour_weight": 0.0},
            RELEASED_PARAMETERS - 2 * TAIL,
        ),
        ({"occludee_contour_weight": 0.0}, RELEASED_PARAMETERS - TAIL),
        ({"bilayer": False}, 4 * CONV + GRAPH + 2 * TAIL),
    ],
)
def test_every_switch_changes_the_layers_it_names(changes, parameters):
    assert count(head_of(replace(BcnetSettings(), **changes))) == parameters


def test_single_layer_of_convolutions_is_the_mask_head_of_mask_rcnn():
    settings = BcnetSettings(bilayer=False, gcn=False, occludee_contour_weight=0.0)
    ours, theirs = head_of(settings, 8), StandardMaskHead(8, 8, convs=4, out_channels=1)
    theirs.load_state_dict(dict(zip(theirs.state_dict(), ours.state_dict().values())))
    x = torch.randn(2, 8, 14, 14)
    torch.testing.assert_close(ours(x).occludee_mask, theirs(x, torch.zeros(2, dtype=torch.int64)))


def test_head_costs_two_and_a_half_times_that_of_mask_rcnn():
    def flops(head: torch.nn.Module, *labels: torch.Tensor) -> int:
        with FlopCounterMode(display=False) as counter, torch.inference_mode():
            head.eval()(torch.zeros(1, 256, 14, 14), *labels)
        return counter.get_total_flops()

    baseline = StandardMaskHead(256, 256, convs=4, out_channels=1)
    label = torch.tensor([0])
    assert flops(head_of(BcnetSettings())) / flops(baseline, label) == pytest.approx(
        2.48, abs=0.01
    )


def reached(head: BilayerHead, tail: str) -> set[str]:
    """Tell which parts of the head a prediction of it teaches."""
    head.zero_grad()
    logits = getattr(head(torch.randn(2, 8, 14, 14)), tail)
    (logits * torch.randn_like(logits)).sum().backward()
    learning = {
        name
        for name, p in head.named_parameters()
        if p.grad is not None and p.grad.abs().max() > 0
    }
    return {".".join(n.split(".")[: 3 if "tails" in n else 1]) for n in learning}


def tails_of(layer: str, name: str) -> set[str]:
    return {layer, f"{layer}_tails.upsample.{name}", f"{layer}_tails.logits.{name}"}


@pytest.mark.parametrize("guidance", [True, False])
def test_guidance_lets_the_occludee_teach_the_occluders_layer(guidance):
    head = head_of(BcnetSettings(guidance=guidance), 8)
    for name in ("mask", "contour"):
        below = tails_of("occludee", name) | ({"occluder"} if guidance else set())
        assert reached(head, f"occludee_{name}") == below
        assert reached(head, f"occluder_{name}") == tails_of("occluder", name)


def test_shared_upsampling_learns_from_mask_and_contour():
    head = head_of(BcnetSettings(shared_upsampling=True), 8)
    assert "occluder_tails.upsample.shared" in reached(head, "occluder_mask")
    assert "occluder_tails.upsample.shared" in reached(head, "occluder_contour")


@pytest.mark.parametrize("changes", [{"gcn_scaled": False}, {"gcn_norm": "layer"}])
def test_choices_inside_the_graph_change_the_result_alone(changes):
    a = head_of(BcnetSettings(), 8).eval()
    b = head_of(replace(BcnetSettings(), **changes), 8).eval()
    b.load_state_dict(a.state_dict(), strict=False)
    x = torch.randn(2, 8, 14, 14)
    assert not torch.allclose(a(x).occludee_mask, b(x).occludee_mask)


# Targets


def test_contour_of_a_square_by_hand():
    mask = torch.zeros(1, 6, 6)
    mask[0, 2:4, 2:4] = 1  # no cell of it survives the erosion
    expected = [
        [0, 0, 0, 0, 0, 0],
        [0, 0, 1, 1, 0, 0],
        [0, 1, 1, 1, 1, 0],
        [0, 1, 1, 1, 1, 0],
        [0, 0, 1, 1, 0, 0],
        [0, 0, 0, 0, 0, 0],
    ]
    assert contours(mask)[0].tolist() == expected


def test_crop_that_ends_is_no_contour():
    mask = torch.zeros(1, 4, 4)
    mask[0, :, :2] = 1
    assert contours(mask)[0].tolist() == [[0, 1, 1, 0]] * 4
    assert contours(torch.ones(1, 4, 4)).sum() == contours(torch.zeros(1, 4, 4)).sum() == 0


@given(st.integers(0, 2**32 - 1))
def test_contour_is_dilation_xor_erosion(seed):
    mask = (np.random.default_rng(seed).random((28, 28)) < 0.7).astype(np.uint8)
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    expected = cv2.dilate(mask, cross) ^ cv2.erode(mask, cross)
    found = contours(torch.from_numpy(mask)[None].float())[0]
    assert np.array_equal(found.numpy(), expected)


def drawn_batch(windows: list[tuple[int, int, int, int]]) -> Batch:
    """Draw rectangles x0, y0, x1, y1 in an image of 40 x 40, the first in front."""
    amodal = torch.zeros(1, len(windows), 40, 40, dtype=torch.uint8)
    for i, (x0, y0, x1, y1) in enumerate(windows):
        amodal[0, i, y0:y1, x0:x1] = 1
    visible = amodal.clone()
    for i in range(1, len(windows)):
        visible[0, i] *= 1 - amodal[0, :i].amax(0)
    return Batch(
        torch.zeros(1, 40, 40, 3, dtype=torch.uint8),
        torch.tensor([windows], dtype=torch.float32),
        torch.ones(1, len(windows), dtype=torch.bool),
        torch.zeros(1, len(windows), dtype=torch.int64),
        amodal,
        visible,
    )


DRAWN = [(10, 10, 20, 20), (15, 10, 30, 20), (25, 12, 40, 30), (0, 34, 6, 40)]


def unions(batch: Batch, **changes) -> torch.Tensor:
    options = {"neighbour_masks": "visible", "order_aware": False, "overlap_iou": 0.05}
    return occluder_masks(batch, **{**options, **changes})[0]


def test_occluder_is_the_union_of_overlapping_neighbours():
    batch = drawn_batch(DRAWN)
    amodal, visible = batch.amodal[0], batch.visible[0]
    # Neighbours are compared by the boxes of the masks that are used: seen, object 1 begins where
    # object 0 ends.
    found = unions(batch, neighbour_masks="amodal")
    assert torch.equal(found[0], amodal[1])
    assert torch.equal(found[1], torch.maximum(amodal[0], amodal[2]))
    assert torch.equal(found[2], amodal[1])
    assert found[3].sum() == 0
    found = unions(batch)
    assert found[0].sum() == 0
    assert torch.equal(found[1], torch.maximum(visible[0], visible[2]))
    assert torch.equal(found[2], visible[1])


def test_order_aware_occluders_are_in_front():
    batch = drawn_batch(DRAWN)
    found = unions(batch, neighbour_masks="amodal", order_aware=True)
    assert found[0].sum() == 0
    assert torch.equal(found[1], batch.amodal[0, 0])
    assert torch.equal(found[2], batch.amodal[0, 1])


def test_neighbours_need_more_overlap_than_the_threshold():
    batch = drawn_batch([(0, 0, 20, 20), (15, 0, 35, 20)])  # IoU 100 / 700
    assert unions(batch, neighbour_masks="amodal", overlap_iou=0.142)[1].sum() == 400
    assert unions(batch, neighbour_masks="amodal", overlap_iou=0.143)[1].sum() == 0


@pytest.mark.parametrize(("rows", "kept"), [(2, False), (3, True)])
def test_union_of_at_most_20_pixels_in_the_box_is_empty(rows, kept):
    batch = drawn_batch([(0, 0, 10, rows), (0, 0, 10, 10)])  # 20 or 30 pixels
    assert (unions(batch)[1].sum() > 0) == kept


def test_padding_is_nobodys_neighbour():
    batch = drawn_batch(DRAWN)
    batch = batch._replace(valid=torch.tensor([[False, True, True, True]]))
    assert torch.equal(unions(batch, neighbour_masks="amodal")[1], batch.amodal[0, 2])


def test_what_is_seen_of_the_neighbours_in_an_object_is_what_hides_it():
    batch = drawn_batch([(12, 12, 28, 28), (10, 10, 30, 30), (5, 5, 35, 35)])
    hidden = batch.amodal[0] * unions(batch)
    assert torch.equal(hidden, batch.amodal[0] - batch.visible[0])


def occluder_targets(occluded: list[int]) -> torch.Tensor:
    targets = torch.zeros(len(occluded), 4, 4)
    targets[:, 1, 1] = torch.tensor(occluded, dtype=torch.float32)
    return targets


def test_drawn_balance_takes_as_many_others_as_occluded():
    targets = occluder_targets([0, 0, 1, 0, 1, 0, 0, 0])
    drawn = set()
    for seed in range(20):
        chosen = balanced(targets, "drawn", torch.Generator().manual_seed(seed)).tolist()
        assert chosen[:2] == [2, 4]
        assert len(chosen) == len(set(chosen)) == 4
        drawn |= set(chosen[2:])
    assert drawn == {0, 1, 3, 5, 6, 7}


@pytest.mark.parametrize(
    ("occluded", "drawn", "released"),
    [
        ([0, 0, 0], [], []),
        ([1, 1, 0], [0, 1, 2], [0, 1, 0, 1]),
        ([1, 1], [0, 1], [0, 1, 0, 1]),
        ([0, 0, 1], None, [2, 0]),
    ],
)
def test_balance_by_hand(occluded, drawn, released):
    generator = torch.Generator().manual_seed(0)
    targets = occluder_targets(occluded)
    if drawn is not None:
        assert balanced(targets, "drawn", generator).tolist() == drawn
    assert balanced(targets, "released", generator).tolist() == released


# Losses


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
    chosen = balanced(nothing, "drawn", torch.Generator())
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
    learn = model.detector.learn

    def spy(levels, batch, generator):
        seen["batch"] = batch
        return learn(levels, batch, generator)

    monkeypatch.setattr(model.detector, "learn", spy)
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


# The graph


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
    assert set(worst) == set(TOLERANCE)
    assert all(worst[name] <= TOLERANCE[name] for name in worst), worst
    with torch.inference_mode():
        assert model(torch.from_numpy(drawn_images((96, 128))[0][None]))[1].max() >= COMPARED_SCORE


@pytest.mark.parametrize("exported", ["fcos"], indirect=True)  # Faster R-CNN takes longer
def test_tensorrt_builds_an_engine(exported):
    assert_builds(exported[1])


def test_few_positive_cells_can_be_learnt():
    """With weights as small as Detectron's, AdamW leaves no logit above 0 here."""
    torch.manual_seed(0)
    tails = Tails(16, 40, ["mask"], shared=False)
    optimizer = torch.optim.AdamW(tails.parameters(), lr=1.5e-3)
    generator = torch.Generator().manual_seed(1)
    for _ in range(600):
        x = torch.rand(8, 16, 14, 14, generator=generator)
        positive = (x[:, :1] * x[:, 1:2] > 0.6).float()  # a tenth of the cells
        target = positive.repeat_interleave(2, 2).repeat_interleave(2, 3)[:, 0]
        logits = tails(x)["mask"]
        optimizer.zero_grad()
        F.binary_cross_entropy_with_logits(logits, target).backward()
        optimizer.step()
    found, wanted = logits > 0, target > 0
    assert (found & wanted).sum() > 0.5 * wanted.sum()
    assert (found & wanted).sum() > 0.8 * found.sum()
