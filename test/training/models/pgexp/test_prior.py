"""PGExp's prior: crops, slots, what is learnt, the stages, and the bank as a folder."""

import json
import re
import shutil
from dataclasses import fields, replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from helpers.scenes import write_scenes
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from amodal_perception.cli import main as amodal
from amodal_perception.errors import ConfigError, DatasetError
from amodal_perception.reports.memory_bank_page import expanded
from amodal_perception.storage import amodal_coco
from amodal_perception.storage.memory_bank import (
    ARRAYS,
    TENSORS,
    MemoryBank,
    pack_masks,
    read_bank,
    unpack_masks,
    write_bank,
)
from training.datasets.packed_objects import read_objects
from training.loop import checkpoints
from training.loop.config import from_mapping
from training.models.detector import Rois
from training.models.detectors.box_coding import decode_boxes
from training.models.pgexp.mask_flow import MaskFlow
from training.models.pgexp.prior.building import medoids, moved_copy
from training.models.pgexp.prior.crops import both_masks, crop_objects
from training.models.pgexp.prior.learning import flow_loss, held_out, neighbours
from training.models.pgexp.prior.stages import PriorConfig, bank_tensors, prepare
from training.models.pgexp.prior_lookup import ExpansionPrior
from training.models.roi.roi_align import crop_masks
from training.prior.__main__ import main
from training.train import train

CPU = torch.device("cpu")
CONFIG = PriorConfig(
    slots=40, code=128, flow_width=4, encoder_iterations=30, flow_iterations=30, seed=0
)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Draw 48 objects, of which only the first class of three has many."""
    folder = tmp_path_factory.mktemp("drawn") / "data"
    write_scenes(folder, count=16, objects=4)
    path = folder / "annotations.json"
    content = json.loads(path.read_text())
    content["categories"] = amodal_coco.categories_of(["much", "little", "nothing"])
    for i, row in enumerate(content["annotations"]):
        row["category_id"] = 2 if i % 16 == 0 else 1
    path.write_text(json.dumps(content))
    return folder


@pytest.fixture(scope="module")
def prior(data, tmp_path_factory) -> tuple[Path, dict[str, torch.Tensor]]:
    folder = tmp_path_factory.mktemp("prior")
    return folder, prepare(data, folder, CONFIG, CPU)


@pytest.fixture(scope="module")
def bank(prior) -> MemoryBank:
    return read_bank(prior[0] / "bank_40")


# Crops


def test_crops_are_those_that_queries_are_trained_on(data):
    objects = read_objects(data / "annotations.json")
    crops = crop_objects(objects)
    seen = objects.area_px > objects.hidden_px
    assert crops.id.tolist() == objects.id[seen].tolist()
    for n, i in enumerate(crops.row[:12]):
        for name in ("amodal", "visible"):
            whole = coco_mask.decode(getattr(objects, name)(int(i)))
            rois = Rois(
                torch.from_numpy(objects.box_xyxy[i])[None], *torch.zeros(2, 1, dtype=torch.int64)
            )
            bitmap = torch.from_numpy(whole)[None, None]
            expected = crop_masks(bitmap, rois, cells=28)
            assert torch.equal(crops[np.array([n])].masks(name), expected)
            y, x = np.nonzero(whole)
            box = [x.min(), y.min(), x.max() + 1, y.max() + 1]
            assert getattr(crops, f"{name}_xyxy")[n].tolist() == box


# Slots


def test_medoids_are_the_real_objects_of_clear_clusters():
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(5, 8)) * 100
    codes = np.concatenate([c + rng.normal(size=(20, 8)) for c in centres]).astype(np.float32)
    chosen = medoids(codes, 5, seed=0)
    assert [i // 20 for i in chosen] == [0, 1, 2, 3, 4]
    for i in chosen:
        members = codes[i // 20 * 20 : i // 20 * 20 + 20]
        distance = np.linalg.norm(members - members.mean(0), axis=1)
        assert distance[i % 20] == pytest.approx(distance.min(), rel=1e-3)


def test_medoids_of_equal_codes_are_different_objects():
    assert len(set(medoids(np.ones((30, 4), np.float32), 10, seed=0).tolist())) == 10


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_moved_copies_keep_visible_inside_amodal_and_boxes_around_both(seed):
    rng = np.random.default_rng(seed)
    masks = np.zeros((2, *rng.integers(3, 60, 2)), np.uint8)
    height, width = masks.shape[1:]
    cv2.ellipse(masks[0], (width // 2, height // 2), (width // 2, height // 2), 0, 0, 360, 1, -1)
    masks[1] = masks[0]
    masks[1, :, : int(rng.integers(0, width // 2 + 1))] = 0
    (amodal_crop, visible_crop), boxes = moved_copy(masks.astype(bool), rng)
    assert not (visible_crop & ~amodal_crop).any()
    assert amodal_crop.mean() > 0.15  # a thin one that was turned fills little of its frame
    assert (boxes[1, :2] >= boxes[0, :2]).all()
    assert (boxes[1, 2:] <= boxes[0, 2:]).all()
    assert (boxes[:, 2:] > boxes[:, :2]).all()


def test_bank_has_medoids_above_and_copies_below_its_size(data, bank):
    objects = read_objects(data / "annotations.json")
    seen = (objects.area_px > objects.hidden_px).nonzero()[0]
    counts = [int((objects.label[seen] == c).sum()) for c in range(3)]
    assert bank.objects.tolist() == counts
    assert counts[0] > 40 > counts[1] > 0 == counts[2]
    assert bank.moved.sum(1).tolist() == [0, 40 - counts[1], 0]
    assert len(set(bank.ids[0].tolist())) == 40
    assert set(bank.ids[1].tolist()) == set(objects.id[seen][objects.label[seen] == 1].tolist())
    assert (bank.ids[2] == -1).all()
    assert not (unpack_masks(bank.visible) & ~unpack_masks(bank.amodal)).any()


def test_slots_hold_their_objects(data, bank):
    objects = read_objects(data / "annotations.json")
    row_of = {int(id): i for i, id in enumerate(objects.id)}
    for slot in range(0, 40, 7):
        i = row_of[int(bank.ids[0, slot])]
        assert bank.amodal_xyxy[0, slot].tolist() == objects.box_xyxy[i].tolist()
        masks, (x0, y0) = both_masks(objects, i)
        y, x = np.nonzero(masks[1])
        box = [x.min() + x0, y.min() + y0, x.max() + 1 + x0, y.max() + 1 + y0]
        assert bank.visible_xyxy[0, slot].tolist() == box


def test_tensors_of_the_network_fit_and_lead_from_visible_to_amodal_boxes(prior, bank):
    _, tensors = prior
    network = ExpansionPrior(3, slots=40, priors=8, code=128, flow_width=4)
    network.load_state_dict(tensors)
    assert network.bank.filled.tolist() == [1, 1, 0]
    used = torch.from_numpy(bank.ids.reshape(-1) >= 0)
    visible, amodal = (
        torch.from_numpy(b.reshape(-1, 4)) for b in (bank.visible_xyxy, bank.amodal_xyxy)
    )
    found = decode_boxes(network.bank.deltas, visible, (1.0, 1.0, 1.0, 1.0))
    torch.testing.assert_close(found[used], amodal[used], rtol=1e-4, atol=1e-3)
    # A key finds itself: codes are those of the keys.
    keys = torch.from_numpy(unpack_masks(bank.visible[0]).astype(np.float32))
    index = network.search(keys, torch.zeros(40, dtype=torch.int64))
    same = (keys[index[:, 0]] == keys).flatten(1).all(1)
    assert same.float().mean() > 0.9  # 16-bit codes may confuse near twins


# Learning


def test_neighbours_are_the_nearest_others_of_the_class():
    rng = np.random.default_rng(0)
    codes, label = rng.normal(size=(30, 5)).astype(np.float32), np.arange(30) % 2
    label[0] = 2  # alone
    near = neighbours(codes, label, seed=0)
    assert near[0].tolist() == [0] * 8
    for i in range(1, 30):
        others = [j for j in range(30) if j != i and label[j] == label[i]]
        others.sort(key=lambda j: np.linalg.norm(codes[j] - codes[i]))
        assert near[i].tolist() == others[:8]


def test_flow_learns_to_move_a_mask():
    torch.manual_seed(0)
    visible = torch.zeros(1, 28, 28)
    visible[0, 8:20, 4:14] = 1
    amodal = torch.zeros(1, 28, 28)
    amodal[0, 8:20, 4:24] = 1
    network = MaskFlow(4)
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    losses = []
    for _ in range(80):
        loss = flow_loss(network, visible, amodal)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_a_tenth_is_held_out_the_same_every_time(data):
    crops = crop_objects(read_objects(data / "annotations.json"))
    assert np.array_equal(held_out(crops, 0), held_out(crops, 0))
    assert 0 < held_out(crops, 0).sum() < 20


# Stages


def test_stages_that_are_there_are_not_made_again(data, prior):
    folder, tensors = prior
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    again = prepare(data, folder, CONFIG, CPU)
    assert before == {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}
    assert all(torch.equal(again[name], tensors[name]) for name in tensors)
    # Another size of the bank shares what comes before it.
    prepare(data, folder, replace(CONFIG, slots=20), CPU)
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    assert read_bank(folder / "bank_20").slots == 20


def test_stopped_after_any_stage_it_goes_on_to_the_same_result(data, prior, tmp_path):
    folder, tensors = prior
    for name in ("crops.safetensors", "encoder.safetensors"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    found = prepare(data, tmp_path, CONFIG, CPU)
    for name in tensors:
        torch.testing.assert_close(found[name], tensors[name], rtol=1e-3, atol=1e-4)


def test_prior_of_other_settings_or_data_is_refused(data, prior, tmp_path):
    with pytest.raises(ConfigError, match=r"flow_4.safetensors: was made with iterations 30, not"):
        prepare(data, prior[0], replace(CONFIG, flow_iterations=31), CPU)
    write_scenes(tmp_path / "other", count=1)
    with pytest.raises(
        ConfigError, match=r"crops.safetensors: was made with data data, not other"
    ):
        prepare(tmp_path / "other", prior[0], CONFIG, CPU)


def test_damaged_stage_is_named(data, prior, tmp_path):
    (tmp_path / "crops.safetensors").write_bytes(b"nothing")
    with pytest.raises(Exception, match=r"crops.safetensors: is no stage of a prior"):
        prepare(data, tmp_path, CONFIG, CPU)


def test_command_makes_it_and_tells_the_figures(data, tmp_path, capsys):
    words = ["slots=9", "flow_width=4", "encoder_iterations=5", "flow_iterations=5"]
    assert main([str(data), "--out", str(tmp_path / "p"), *words]) == 0
    printed = capsys.readouterr().out
    assert "amodal_iou" in printed
    assert "identity_iou" in printed
    assert read_bank(tmp_path / "p" / "bank_9").codes.shape == (3, 9, 392)
    assert main([str(data), "--out", str(tmp_path / "p"), "slot=9"]) == 1
    assert "unknown key 'model.slot'" in capsys.readouterr().err


def test_training_makes_the_prior_first_and_goes_on_without_its_folder(data, tmp_path, capsys):
    model = {"name": "pgexp_light", "slots": 20, "code": 128, "flow_width": 4}
    model |= {"encoder_iterations": 3, "flow_iterations": 3, "channels": 16, "mask_width": 8}
    values = {"model": model, "data": str(data), "out": str(tmp_path / "run"), "iterations": 1}
    values |= {"input_hw": [64, 96], "batch_size": 2, "workers": 0, "checkpoint_every": 1}
    values |= {"precision": "fp32", "device": "cpu", "threads": 1}
    train(from_mapping(values, source="test"))
    bank = read_bank(tmp_path / "run" / "prior" / "bank_20")
    shutil.rmtree(tmp_path / "run" / "prior")
    train(from_mapping({**values, "iterations": 2}, source="test"))
    weights = checkpoints.averaged_weights(tmp_path / "run")
    assert int(weights["steps"]) == 2
    assert weights["prior.bank.ids"].tolist() == bank.ids.flatten().tolist()
    assert np.array_equal(weights["prior.bank.codes"], bank.codes.reshape(60, 128))
    assert not (tmp_path / "run" / "prior").exists()


# The bank as a folder


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_packing_masks_and_back(seed):
    masks = np.random.default_rng(seed).random((2, 3, 28, 28)) < 0.5
    assert np.array_equal(unpack_masks(pack_masks(masks)), masks)


def test_bank_is_written_and_read_back(bank, tmp_path):
    write_bank(tmp_path / "copy", bank)
    found = read_bank(tmp_path / "copy")
    for field in fields(bank):
        a, b = getattr(bank, field.name), getattr(found, field.name)
        assert np.array_equal(a, b) if field.name in ARRAYS else a == b


def test_bank_that_cannot_be_understood_is_named(bank, tmp_path):
    with pytest.raises(DatasetError, match=r"bank.json: is no bank's table"):
        read_bank(tmp_path)
    write_bank(tmp_path, replace(bank, ids=bank.ids[:, :-1]))
    with pytest.raises(DatasetError, match=r"ids is int64 \[3, 39\], expected int64 \['C', 'S'\]"):
        read_bank(tmp_path)
    (tmp_path / TENSORS).write_bytes(b"")
    with pytest.raises(DatasetError, match=r"bank.safetensors: cannot be read"):
        read_bank(tmp_path)


def test_inspect_tells_and_draws_the_bank(prior, tmp_path, capsys):
    assert amodal(["inspect", str(prior[0] / "bank_40"), "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "3 classes of 40" in printed
    assert "40 medoids" in printed
    assert re.search(r"^class nothing +no objects: nothing expands$", printed, re.M)
    page = (tmp_path / "index.html").read_text()
    assert page.count("<img") >= 3
    assert page.count("<h2>") == 3


def test_expanded_box_of_the_page_is_that_of_the_network(bank):
    visible, amodal_box = bank.visible_xyxy[0, 3], bank.amodal_xyxy[0, 3]
    np.testing.assert_allclose(expanded(visible, visible, amodal_box), amodal_box, rtol=1e-5)
    query = np.array([2.0, 3.0, 12.0, 10.0], np.float32)
    deltas = bank_tensors(bank)["deltas"][3]
    expected = decode_boxes(deltas, torch.from_numpy(query), (1.0, 1.0, 1.0, 1.0))
    np.testing.assert_allclose(
        expanded(query, visible, amodal_box), expected, rtol=1e-4, atol=1e-4
    )
