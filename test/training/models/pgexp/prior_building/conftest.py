"""A prior made of drawn objects, once for all tests of it."""

import json
from pathlib import Path

import pytest
import torch
from helpers.scenes import write_scenes

from amodal_perception.storage import amodal_coco
from amodal_perception.storage.memory_bank import (
    MemoryBank,
    read_bank,
)
from training.models.pgexp.prior_building.prior_stages import PriorConfig, prepare

CPU = torch.device("cpu")


CONFIG = PriorConfig(
    slots=40, code=128, flow_width=4, encoder_iterations=30, flow_iterations=30, seed=0
)


@pytest.fixture(scope="session")
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


@pytest.fixture(scope="session")
def prior(data, tmp_path_factory) -> tuple[Path, dict[str, torch.Tensor]]:
    folder = tmp_path_factory.mktemp("prior")
    return folder, prepare(data, folder, CONFIG, CPU)


@pytest.fixture(scope="session")
def bank(prior) -> MemoryBank:
    return read_bank(prior[0] / "bank_40")
