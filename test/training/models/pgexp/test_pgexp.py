from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from helpers.small_networks import random_batch
from helpers.small_pgexp import SMALL, network
from helpers.tensorrt_builds import assert_builds
from hypothesis import given, settings
from hypothesis import strategies as st

from amodal_perception.errors import ConfigError
from training.export.onnx_export import (
    COMPARED_SCORE,
    SingleImage,
    drawn_images,
    largest_differences,
    store_metadata,
    to_onnx,
)
from training.models.pgexp.pgexp import (
    BOX_REFERENCES,
    box_loss,
    boxes_of_visible,
)


def literal_box(mask: np.ndarray, box: np.ndarray) -> np.ndarray:
    rows, columns = np.nonzero(mask.any(1))[0], np.nonzero(mask.any(0))[0]
    if not len(rows):
        return box
    size = (box[2:] - box[:2]) / 28
    low = box[:2] + size * [columns[0], rows[0]]
    high = box[:2] + size * [columns[-1] + 1, rows[-1] + 1]
    return np.concatenate([low, high])


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.002, 0.01, 0.5, 1.0]))
def test_visible_box_is_the_clipped_mask(seed, density):
    rng = np.random.default_rng(seed)
    masks = rng.random((4, 28, 28)) < density
    boxes = np.concatenate([rng.uniform(0, 50, (4, 2)), rng.uniform(60, 90, (4, 2))], 1)
    found = boxes_of_visible(torch.from_numpy(masks * 0.9), torch.from_numpy(boxes))
    for i in range(4):
        np.testing.assert_allclose(found[i], literal_box(masks[i], boxes[i]), rtol=1e-5)


TERMS = {"score", "box", "visible", "amodal"}


@pytest.mark.parametrize(
    ("box", "mask", "lookups"),
    [
        *(("none", "plain", 0), ("plain", "plain", 0), ("prior", "plain", 1)),
        *(("none", "prior", 1), ("plain", "prior", 1), ("prior", "prior", 2)),
    ],
)
def test_rows_of_table_1_have_the_parts_they_name(box, mask, lookups):
    model = network(1, box_expansion=box, mask_expansion=mask)
    assert (model.prior is not None) == (lookups > 0)
    assert (model.box_head is not None) == (box != "none")
    assert (model.expand is not None) == (mask == "prior")
    losses = model.losses(random_batch(2), torch.Generator().manual_seed(0))
    assert set(losses) == TERMS | ({"amodal_box"} if box != "none" else set())
    sum(losses.values()).backward()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, name
        else:
            assert name.startswith("prior."), name
    found = model.eval()(random_batch(2).images)
    assert found.boxes.shape == (2, 8, 4)
    assert found.amodal.shape == found.visible.shape == (2, 8, 28, 28)


def test_without_objects_every_head_learns_nothing():
    losses = network(1).losses(random_batch(0), torch.Generator().manual_seed(0))
    assert {name for name, value in losses.items() if value == 0} >= {"visible", "amodal_box"}
    assert all(torch.isfinite(value) for value in losses.values())


def test_box_loss_is_equation_5():
    a, b = torch.randn(3, 4), torch.randn(3, 4)
    expected = sum(float((a[i] - b[i]).abs().sum()) for i in range(3)) / 3
    assert box_loss(a, b).item() == pytest.approx(expected, rel=1e-5)
    assert box_loss(a[:0], b[:0]).item() == 0


@pytest.mark.parametrize("reference", BOX_REFERENCES)
def test_untrained_box_head_returns_what_it_refines(reference):
    model = network(1, box_reference=reference).eval()
    torch.nn.init.zeros_(model.box_head.deltas.weight)
    original, visible = torch.tensor([[8.0, 8, 40, 40]]), torch.zeros(1, 28, 28)
    visible[0, :14] = 1
    levels = [torch.rand(1, 16, 16, 16), torch.rand(1, 16, 8, 8)]

    def pool(boxes, cells):
        return model.pool(levels, boxes, cells=cells)

    deltas, found = model.expand_box(pool, original, visible, torch.zeros(1, dtype=torch.int64))
    seen = torch.tensor([[8.0, 8, 40, 24]])
    expected = {
        "visible": seen,
        "original": original,
        "prior": model.prior_boxes(seen, visible, torch.zeros(1, dtype=torch.int64)).mean(1),
    }
    assert deltas.abs().max() == 0
    torch.testing.assert_close(found, expected[reference])


def test_true_boxes_are_mixed_in_for_the_first_steps_only():
    model = network(1, mixed_steps=2)
    boxes, true = torch.zeros(400, 4), torch.ones(400, 4)
    drawn = model._mixed(boxes, true, torch.Generator().manual_seed(0))[:, 0]
    assert 150 < drawn.sum() < 250
    for _ in range(2):
        model.losses(random_batch(1), torch.Generator().manual_seed(0))
    assert model._mixed(boxes, true, torch.Generator().manual_seed(0)).sum() == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"box_expansion": "some"}, "box_expansion must be one of prior, plain, none"),
        ({"code": 100}, "code must be one of 392, 128"),
        ({"priors": 12}, "priors must be at least 1 and below model.slots 12"),
        (
            {"box_reference": "prior", "box_expansion": "plain"},
            "box_reference=prior needs model.box_expansion=prior",
        ),
    ],
)
def test_settings_that_cannot_be(changes, message):
    with pytest.raises(ConfigError, match=message):
        replace(SMALL, **changes)


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> tuple[SingleImage, Path]:
    model = network(2)
    # So that boxes, masks and lookups of untrained layers differ from object to object.
    torch.nn.init.normal_(model.expand.merge.weight, std=0.3)
    for name in ("visible", "amodal"):
        torch.nn.init.normal_(model.mask_heads[name].logits.weight, std=3.0)
    torch.nn.init.normal_(model.box_head.deltas.weight, std=1.0)
    torch.nn.init.normal_(model.detector.score.weight, std=0.1)
    torch.nn.init.zeros_(model.detector.score.bias)
    single, path = SingleImage(model, 0.3).eval(), tmp_path_factory.mktemp("pgexp") / "m.onnx"
    to_onnx(single, path, (64, 96))
    store_metadata(path, {})
    return single, path


def test_graph_is_static_and_computes_what_pytorch_does(exported):
    single, path = exported
    worst = largest_differences(single, path, drawn_images((64, 96), 2))
    assert worst["boxes"] < 0.01
    assert max(worst["scores"], worst["amodal"], worst["visible"]) < 1e-3
    with torch.inference_mode():
        boxes, scores, _, amodal, _ = single(torch.from_numpy(drawn_images((64, 96))[0][None]))
    counts = scores >= COMPARED_SCORE
    assert counts.sum() > 3
    inside = boxes[counts][:, 2:] - boxes[counts][:, :2]
    assert (inside.prod(1) > 16).sum() > 2  # not all clipped away
    assert amodal[counts].std(0).max() > 0.01
    graph = onnx.load(path).graph
    for value in [*graph.input, *graph.output]:
        assert all(d.HasField("dim_value") for d in value.type.tensor_type.shape.dim), value.name
    assert not {n.op_type for n in graph.node} & {"NonZero", "Loop", "If", "RoiAlign", "Scan"}


def test_bank_is_packed_constants_of_the_graph(exported):
    stored = {t.name: t for t in onnx.load(exported[1]).graph.initializer}
    packed = stored["model.prior.bank.amodal"]
    assert (packed.data_type, list(packed.dims)) == (onnx.TensorProto.UINT8, [24, 98])
    codes = stored["model.prior.bank.codes"]
    assert (codes.data_type, list(codes.dims)) == (onnx.TensorProto.FLOAT16, [24, 128])
    assert not any(name.endswith("bank.ids") for name in stored)  # only training needs them


def test_tensorrt_builds_an_engine(exported):
    assert_builds(exported[1])
