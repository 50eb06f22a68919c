"""The bank as a folder, and its page."""

import re
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from amodal_perception.cli import main as amodal
from amodal_perception.errors import DatasetError
from amodal_perception.reports.memory_bank_page import expanded
from amodal_perception.storage.memory_bank import (
    ARRAYS,
    TENSORS,
    pack_masks,
    read_bank,
    unpack_masks,
    write_bank,
)
from training.models.detectors.box_coding import decode_boxes
from training.models.pgexp.prior_building.prior_stages import PriorConfig, bank_tensors

CPU = torch.device("cpu")


CONFIG = PriorConfig(
    slots=40, code=128, flow_width=4, encoder_iterations=30, flow_iterations=30, seed=0
)


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
