import json
import os
import subprocess
import sys

import cv2
import numpy as np
import pytest
from helpers.paths import ROOT

from amodal_perception.errors import DatasetError
from amodal_perception.ordering import TRUTH_CONFIG, occlusion_graph
from amodal_perception.storage import amodal_coco
from training.image_jobs import record_path
from training.sim.generate import VIEWS, DatasetConfig, generate, merge
from training.sim.shapes import HELDOUT_FAMILIES, TRAIN_FAMILIES

CONFIG = DatasetConfig(seed=11, images=4, families="train", size_hw=(120, 160), depth=True)


def contents(folder):
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): p.read_bytes() for p in files}


@pytest.fixture(scope="module")
def dataset(opengl, tmp_path_factory):
    out = tmp_path_factory.mktemp("sim") / "data"
    generate(CONFIG, out, workers=1)
    return out


def test_writes_pictures_depth_and_annotations(dataset):
    coco = amodal_coco.read(dataset / "annotations.json")
    assert sorted(coco.images) == [0, 1, 2, 3]
    for image in coco.images.values():
        picture = cv2.imread(str(dataset / image["file_name"]))
        assert picture.shape == (120, 160, 3)
        assert picture.std() > 5, "something is to be seen"
        assert image["families"] == "train"
        assert image["physics_scene"] == image["id"] // VIEWS
        depth_mm = cv2.imread(str(dataset / f"depth/{image['id']:06d}.png"), cv2.IMREAD_UNCHANGED)
        assert depth_mm.dtype == np.uint16
        assert 100 < np.median(depth_mm) < 10_000
    families = {row["family"] for row in coco.annotations.values()}
    assert families <= set(TRAIN_FAMILIES)


def test_truth_keeps_the_invariants_and_shares_the_definition_of_an_edge(dataset):
    coco = amodal_coco.read(dataset / "annotations.json")
    for image_id in coco.images:
        truth = coco.instances_of(image_id)
        assert len(truth) > 0
        assert not (truth.visible & ~truth.amodal).any()
        assert truth.visible.sum(0).max() <= 1, "a pixel shows one object"
        expected = occlusion_graph(truth, TRUTH_CONFIG).edges.tolist()
        assert sorted(coco.occlusions_of(image_id).tolist()) == sorted(expected)


def test_more_workers_write_the_same_bytes(dataset, tmp_path):
    generate(CONFIG, tmp_path, workers=2)
    assert contents(tmp_path) == contents(dataset)


def test_goes_on_where_it_was_interrupted(dataset, tmp_path):
    generate(DatasetConfig(**{**CONFIG.__dict__, "images": 1}), tmp_path, workers=1)
    assert sorted(amodal_coco.read(tmp_path / "annotations.json").images) == [0]
    kept = (tmp_path / "images/000000.jpg").stat().st_mtime_ns
    generate(CONFIG, tmp_path, workers=1)
    assert contents(tmp_path) == contents(dataset)
    assert (tmp_path / "images/000000.jpg").stat().st_mtime_ns == kept, "finished, not redone"


def test_merges_what_is_finished(dataset, tmp_path):
    generate(DatasetConfig(**{**CONFIG.__dict__, "images": 3}), tmp_path, workers=1)
    record_path(tmp_path, 1).unlink()
    assert merge(tmp_path) == 2
    assert sorted(amodal_coco.read(tmp_path / "annotations.json").images) == [0, 2]


def test_refuses_to_mix_settings(dataset):
    other = DatasetConfig(**{**CONFIG.__dict__, "seed": 12})
    with pytest.raises(DatasetError, match=r"settings\.json: holds a data set of another seed"):
        generate(other, dataset, workers=1)


def test_merging_a_foreign_folder_says_so(tmp_path):
    with pytest.raises(DatasetError, match=r"settings\.json: cannot be read"):
        merge(tmp_path)


def test_benchmark_holds_out_every_fifth_scene(opengl, tmp_path):
    config = DatasetConfig(seed=3, images=5 * VIEWS, families="benchmark", size_hw=(96, 128))
    sets = [config.families_of(i) for i in range(10)]
    assert sets == (["train"] * 4 + ["heldout"]) * 2
    # Only the last scene needs rendering to see what it draws from.
    from training.sim.generate import render_views

    records = [record for *_, record in render_views(config, 4, [4 * VIEWS])]
    assert records[0]["image"]["families"] == "heldout"
    assert {row["family"] for row in records[0]["annotations"]} <= set(HELDOUT_FAMILIES)


def run_command(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", "training.sim", *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_without_opengl_one_line_names_the_packages(tmp_path):
    done = run_command("--scenes", 1, "--out", tmp_path, MUJOCO_GL="nothing")
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("training.sim: no OpenGL for MuJoCo (tried MUJOCO_GL=nothing)")
    assert "libegl1 libgl1-mesa-dri libosmesa6" in last
    assert not (tmp_path / "annotations.json").exists()


def test_command_merges_and_reports(dataset):
    done = run_command("--merge-only", "--out", dataset)
    assert done.returncode == 0
    assert done.stdout.strip() == f"{dataset}: 4 images"


@pytest.mark.parametrize(
    "bad", [("--scenes", 0), ("--seed", -1), ("--size", "640"), ("--size", "9x9")]
)
def test_bad_arguments_are_refused(bad, tmp_path):
    done = run_command("--out", tmp_path / "x", *bad)
    assert done.returncode == 2
    assert "error:" in done.stderr
    assert not (tmp_path / "x").exists()


def test_settings_are_written_beside_the_data(dataset):
    settings = json.loads((dataset / "settings.json").read_text())
    assert settings["seed"] == CONFIG.seed
    assert settings["families"] == "train"
