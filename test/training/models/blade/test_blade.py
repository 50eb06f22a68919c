import copy
from pathlib import Path

import onnx
import pytest
import torch
from helpers.small_networks import random_batch
from helpers.tensorrt_builds import assert_builds

from amodal_perception.errors import ConfigError
from training.datasets.amodal_boxes import filled_boxes
from training.export.onnx_export import (
    COMPARED_SCORE,
    TOLERANCE,
    SingleImage,
    drawn_images,
    largest_differences,
    store_metadata,
    to_onnx,
)
from training.models.blade.blade import (
    Blade,
    BladeLightSettings,
    BladeSettings,
    BoxInstLightSettings,
    BoxInstSettings,
)
from training.models.detectors.box_geometry import boxes_of_masks
from training.structures import Batch

TERMS = {
    *("visible_projection", "visible_pairwise", "amodal_projection", "amodal_pairwise"),
    *("neighbour", "uniform", "region"),
}


VARIANTS = [
    ({}, TERMS),
    ({"neighbour_weight": 0.0}, TERMS - {"neighbour"}),
    ({"uniform_weight": 0.0}, TERMS - {"uniform"}),
    ({"connectivity_weight": 0.0}, TERMS - {"neighbour", "uniform"}),
    ({"fusion": False}, TERMS - {"region"}),
    ({"expansion": False}, {"visible_projection", "visible_pairwise"}),
]


def light(**changes) -> Blade:
    torch.manual_seed(0)
    return BladeLightSettings(**changes).build(1)


def overlapping_batch() -> Batch:
    return random_batch(3)


@pytest.mark.parametrize("detector", ["light", "fcos"])
@pytest.mark.parametrize(("changes", "terms"), VARIANTS)
def test_variants_learn_the_terms_they_name(changes, terms, detector):
    model = light(**changes, detector=detector)
    losses = model.losses(overlapping_batch(), torch.Generator())
    assert terms == set(losses) - {"score", "box", "class", "centerness"}
    sum(losses.values()).backward()
    idle = [
        n for n, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()
    ]
    assert idle == []
    assert model.controller.weight.grad.flatten(1).any(1).float().mean() > 0.9


def test_boxinst_is_blade_without_expansion():
    assert BoxInstSettings() == BoxInstSettings(**vars(BladeSettings(expansion=False)))
    assert BoxInstLightSettings().head_sizes() == [233]
    model = BoxInstLightSettings().build(1).eval()
    with torch.inference_mode():
        found = model(random_batch(1).images)
    assert torch.equal(found.amodal, found.visible)


@pytest.mark.parametrize(("target", "box"), [("visible", 0), ("amodal", 1)])
def test_detector_and_boxinst_learn_the_boxes_that_are_named(monkeypatch, target, box):
    batch = overlapping_batch()
    expected = (boxes_of_masks(batch.visible), batch.boxes_xyxy)[box]
    for settings in (
        BladeLightSettings(box_target=target),
        BoxInstLightSettings(box_target=target),
    ):
        model = settings.build(1)
        seen = []
        learn = model.detector.loss_and_points
        monkeypatch.setattr(
            model.detector,
            "loss_and_points",
            lambda levels, given, learn=learn, seen=seen: (
                seen.append(given.boxes_xyxy),
                learn(levels, given),
            )[1],
        )
        model.losses(batch, torch.Generator())
        assert torch.equal(seen[0], expected)


def values_of(model: Blade, batch: Batch) -> dict[str, float]:
    return {k: v.item() for k, v in model.losses(batch, torch.Generator()).items()}


@pytest.mark.parametrize("changes", [{}, {"box_target": "amodal"}, {"expansion": False}])
def test_masks_never_enter_the_training_step(changes):
    """The same boxes with other masks in them give the same losses, to the last bit."""
    batch = overlapping_batch()
    only_boxes = batch._replace(
        amodal=torch.zeros_like(batch.amodal),
        visible=torch.stack(
            [torch.from_numpy(filled_boxes(v.numpy() > 0)) for v in batch.visible]
        ),
    )
    assert not torch.equal(only_boxes.visible, batch.visible.bool())
    model = light(**changes)
    found = [values_of(copy.deepcopy(model), b) for b in (batch, only_boxes)]
    assert found[0] == found[1]
    other = batch._replace(boxes_xyxy=batch.boxes_xyxy + 3, visible=batch.amodal)
    assert values_of(model, other) != found[0]  # while other boxes give other losses


def test_image_without_objects_has_losses_without_masks():
    model = light()
    losses = model.losses(random_batch(0), torch.Generator())
    assert all(losses[name] == 0 for name in TERMS)
    sum(losses.values()).backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def reaches_visible_head(model: Blade, term: str) -> bool:
    """Tell whether a term teaches the rows of the controller that make the visible head."""
    model.zero_grad()
    model.losses(overlapping_batch(), torch.Generator())[term].backward()
    return bool(model.controller.weight.grad[: model.settings.head_sizes()[0]].any())


def test_gradients_stop_where_the_settings_say():
    expected = {"amodal_projection": True, "uniform": True, "neighbour": True, "region": False}
    for term, reached in expected.items():
        assert reaches_visible_head(light(), term) == reached, term  # through the input m_v
    stopped = light(detach_visible_input=True)
    for term in ("amodal_projection", "uniform", "neighbour"):
        assert not reaches_visible_head(stopped, term)
    open_ = light(detach_visible_input=True, detach_visible_in_losses=False)
    assert reaches_visible_head(open_, "uniform")
    assert not reaches_visible_head(open_, "neighbour")  # counts pixels; nothing to learn there


def test_pairwise_loss_warms_up_over_iterations_that_a_checkpoint_remembers():
    model, batch = light(pairwise_warmup=4), overlapping_batch()
    full = copy.deepcopy(model)
    full.num_batches_tracked += 100
    whole = full.losses(batch, torch.Generator())["amodal_pairwise"].item()
    for step in (1, 2):
        with torch.no_grad():
            found = model.losses(batch, torch.Generator())["amodal_pairwise"].item()
        if step == 1:  # later the statistics of normalisation have moved, not what training uses
            assert found == pytest.approx(whole / 4)
    assert model.state_dict()["num_batches_tracked"] == 2


def test_hard_region_takes_one_mask_or_the_other():
    soft, hard = light().eval(), light(hard_region=True).eval()
    images = random_batch(1).images
    with torch.inference_mode():
        for model in (soft, hard):
            levels = model.levels(images)
            found, points = model.detector.detect_points(levels, (64, 96))
            z = model.heads(model.mask_branch(levels), points, found.index)
            maps = model.segment(levels, points, found.index)
            if model is hard:
                expected = torch.where(z.region > 0, z.amodal, z.visible).sigmoid()
                torch.testing.assert_close(maps.amodal, expected)
            else:
                r = z.region.sigmoid()
                expected = z.amodal.sigmoid() * r + z.visible.sigmoid() * (1 - r)
                torch.testing.assert_close(maps.amodal, expected)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"box_target": "both"}, "model.box_target must be one of visible, amodal"),
        ({"detector": "faster_rcnn"}, "model.detector must be fcos or light"),
        ({"mask_channels": 0}, "model.mask_channels must be at least 1"),
    ],
)
def test_settings_that_make_no_sense(changes, message):
    with pytest.raises(ConfigError, match=message):
        BladeSettings(**changes)


SYSTEMS = {
    "blade": BladeSettings(backbone="resnet18", channels=64, instances=8, branch_width=32),
    "boxinst_light": BoxInstLightSettings(instances=8),
}


# Built by TensorRT without plugins, free of loops and of shapes that depend on the data.
DATA_DEPENDENT = {"NonZero", "Loop", "If", "Scan", "NonMaxSuppression", "RoiAlign", "Unique"}


@pytest.fixture(scope="module", params=SYSTEMS)
def exported(request, tmp_path_factory) -> tuple[Blade, Path]:
    torch.manual_seed(0)
    network = SYSTEMS[request.param].build(2)
    for name, value in network.named_parameters():  # so that untrained points and masks count
        if name.endswith(("detector.score.weight", "detector.classes.weight")):
            torch.nn.init.normal_(value, std=0.03)
        if name.endswith(("detector.score.bias", "detector.classes.bias")):
            torch.nn.init.zeros_(value)
        if name == "controller.weight":
            torch.nn.init.normal_(value, std=0.02)
    for layer in network.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = 1.0
    with torch.no_grad():  # statistics of normalisation, without which nothing passes
        network.losses(random_batch(3, 2), torch.Generator())
    path = tmp_path_factory.mktemp("blade") / "m.onnx"
    to_onnx(SingleImage(network).eval(), path, (64, 96))
    store_metadata(path, {})
    return network, path


def test_graph_is_static_and_agrees_with_pytorch(exported):
    network, path = exported
    graph = onnx.load(path).graph
    assert not {node.op_type for node in graph.node} & DATA_DEPENDENT
    for value in graph.output:
        assert all(d.HasField("dim_value") for d in value.type.tensor_type.shape.dim), value.name
    model, images = SingleImage(network).eval(), drawn_images((64, 96), 2)
    with torch.inference_mode():
        boxes, scores, _, amodal, visible = model(torch.from_numpy(images[0][None]))
    assert (scores > COMPARED_SCORE).sum() > 3
    assert amodal.std() > 0.05  # masks that say something
    assert visible.shape == amodal.shape == (8, network.settings.mask_cells, amodal.shape[-1])
    assert (boxes[:, 2:] >= boxes[:, :2]).all()
    worst = largest_differences(model, path, images)
    assert all(difference < TOLERANCE[name] for name, difference in worst.items())


def test_graph_builds_in_tensorrt(exported):
    assert_builds(exported[1])
