import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.scenes import write_scenes

from amodal_perception.errors import ConfigError
from amodal_perception.storage.memory_bank import (
    read_bank,
    unpack_masks,
)
from training.loop import checkpoints
from training.loop.config import from_mapping
from training.models.detectors.box_coding import decode_boxes
from training.models.pgexp.prior_building.mask_crops import both_masks
from training.models.pgexp.prior_building.prior_stages import PriorConfig, prepare
from training.models.pgexp.prior_lookup import ExpansionPrior
from training.packed_objects import read_objects
from training.prior.__main__ import main
from training.train import train

CPU = torch.device("cpu")


CONFIG = PriorConfig(
    slots=40, code=128, flow_width=4, encoder_iterations=30, flow_iterations=30, seed=0
)


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
