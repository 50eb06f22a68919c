"""Every variant can learn 8 images by heart. Slow: ``OVERFIT=1 pytest test/training/models``."""

import os
from pathlib import Path

import pytest
import torch
from helpers.scenes import write_scenes

from amodal_perception.storage import amodal_coco
from training import evaluate
from training.loop.config import from_mapping
from training.train import train

VARIANTS = {
    "orcnn": {"name": "orcnn_light"},
    "without_L_IV": {"name": "orcnn_light", "occluded_weight": 0.0},
    "without_L_V": {"name": "orcnn_light", "visible_weight": 0.0},
    "independent": {"name": "orcnn_light", "independent": True},
    "class_specific": {"name": "orcnn_light", "class_agnostic": False},
    "amodal_mask_rcnn": {"name": "amodal_mask_rcnn_light"},
    "asn": {"name": "asn_light"},
    "bcnet": {"name": "bcnet_light"},
    "pgexp": {"name": "pgexp_light", "encoder_iterations": 300, "flow_iterations": 300},
}


@pytest.mark.skipif("OVERFIT" not in os.environ, reason="takes minutes; set OVERFIT=1")
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("variant", VARIANTS)
def test_variant_learns_8_images_by_heart(variant, tmp_path):
    write_scenes(tmp_path / "drawn", count=8, size_hw=(96, 128), objects=2)
    values = {"data": str(tmp_path / "drawn"), "out": str(tmp_path / "run")}
    values |= {"model": VARIANTS[variant], "input_hw": [96, 128], "iterations": 600}
    values |= {"batch_size": 8, "learning_rate": 3e-3, "warmup": 20, "ema_decay": 0.9}
    values |= {"augment": False, "precision": "fp32", "workers": 0, "threads": 1}
    values |= {"checkpoint_every": 600, "device": "cpu"}
    train(from_mapping(values, source="test"))
    truth = amodal_coco.read(Path(tmp_path / "drawn" / "annotations.json"))
    runtime = evaluate.load(tmp_path / "run", torch.device("cpu"), num_threads=1)
    figures = evaluate.measure(evaluate.predict(runtime, truth), truth, ["coco"])
    print(variant, {k: round(v, 3) for k, v in figures.items() if k.endswith(".AP")})
    assert figures["coco.amodal_mask.AP"] > 0.9
