import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers.paths import ROOT

from amodal_perception.errors import AmodalError, DatasetError
from amodal_perception.storage import amodal_coco
from training.datasets.amodal_coco import AmodalCocoDataset
from training.image_jobs import SETTINGS_NAME, ImagesFailedError
from training.synthesize import parallel
from training.synthesize.__main__ import main


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def words(source: Path, out: Path, count: int, workers: int) -> list[str]:
    given = {"--out": out, "--count": count, "--workers": workers, "--seed": 3}
    return ["occlusion", str(source), *(str(v) for pair in given.items() for v in pair)]


@pytest.fixture(scope="module")
def made(single_objects, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("made") / "data"
    assert main(words(single_objects, out, 40, 1)) == 0
    return out


def test_same_bytes_in_any_number_of_processes_and_after_a_kill(single_objects, made, tmp_path):
    out = tmp_path / "killed"
    command = [sys.executable, "-m", "training.synthesize", *words(single_objects, out, 40, 2)]
    process = subprocess.Popen(
        command, cwd=ROOT, stderr=subprocess.DEVNULL, start_new_session=True
    )
    while not list((out / "records").glob("[0-9]*.json")) and process.poll() is None:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    # The killed run's workers end by themselves.
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            break
        time.sleep(0.02)
    else:
        pytest.fail("workers live on after their parent")
    assert 0 < len(list((out / "records").glob("[0-9]*.json"))) < 40
    (out / "images/.000039.jpg.1.tmp").write_bytes(b"half")
    assert main(words(single_objects, out, 40, 2)) == 0
    assert contents(out) == contents(made)


def test_result_is_a_data_set_that_training_reads(made):
    truth = amodal_coco.read(made / "annotations.json")
    assert sorted(truth.images) == list(range(40))
    assert truth.class_names == ("disc", "bar", "plate")
    assert sorted(truth.annotations) == list(range(1, len(truth.annotations) + 1))
    assert len(truth.occlusions) == 40
    for edge in truth.occlusions:
        front, behind = (truth.annotations[edge[k]] for k in ("occluder_id", "occludee_id"))
        assert front["occlusion_rate"] == 0
        assert behind["occlusion_rate"] >= 0.2
        assert front["image_id"] == behind["image_id"] == edge["image_id"]
    dataset = AmodalCocoDataset(made, (96, 128))
    assert dataset[0].image.shape == (96, 128, 3)
    assert cv2.imread(str(made / "preview.jpg")).std() > 10
    assert truth.info["recipe"] == "occlusion"


def test_more_pictures_are_added_to_those_there_are(single_objects, made, tmp_path):
    out = tmp_path / "data"
    assert main(words(single_objects, out, 8, 1)) == 0
    assert len(amodal_coco.read(out / "annotations.json").images) == 8
    assert main(words(single_objects, out, 40, 1)) == 0
    assert contents(out) == contents(made)


def test_folder_of_other_settings_is_refused(single_objects, made, capsys):
    command = words(single_objects, made, 8, 1)
    command[command.index("--seed") + 1] = "4"
    assert main(command) == 1
    assert "holds a data set of another seed; choose another --out" in capsys.readouterr().err


def test_error_in_a_process_names_its_cause(single_objects, tmp_path, capsys):
    folder = tmp_path / "source"
    folder.mkdir()
    source = folder / "instances.json"
    source.write_text(single_objects.read_text())
    command = words(source, tmp_path / "out", 4, 2)
    assert main(command) == 1
    assert "png: cannot be read (No such file" in capsys.readouterr().err


def test_damaged_settings_name_their_file(tmp_path):
    (tmp_path / SETTINGS_NAME).write_text("{")
    with pytest.raises(DatasetError, match=r"settings\.json: cannot be read"):
        parallel.make(tmp_path, lambda n: None, 1, settings={}, class_names=())


def test_preview_of_few_pictures_and_of_none(tmp_path):
    def draw(number: int) -> parallel.Picture:
        return parallel.Picture(np.full((20, 30, 3), 200, np.uint8), [], [], {"made": True})

    parallel.make(tmp_path, draw, 1, settings={}, class_names=("thing",), workers=1)
    truth = json.loads((tmp_path / "annotations.json").read_text())
    assert truth["annotations"] == []
    assert truth["images"][0]["made"] is True
    sheet = cv2.imread(str(tmp_path / "preview.jpg"))
    assert sheet[:260, :390].min() > 150
    assert sheet[320:].max() < 20


def test_pytorch_is_not_needed():
    code = "import sys; sys.modules['torch'] = None; import training.synthesize"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("error", [ValueError("a\nb"), MemoryError(), DatasetError("no such")])
def test_pictures_that_fail_are_named_and_the_others_are_made(tmp_path, caplog, workers, error):
    def draw(number: int) -> parallel.Picture:
        if number in (1, 3):
            raise error
        return parallel.Picture(np.full((20, 30, 3), 200, np.uint8), [], [], {})

    with pytest.raises(ImagesFailedError, match="1 of 2 jobs failed"):
        parallel.make(tmp_path, draw, 11, settings={}, class_names=("thing",), workers=workers)
    for number in (1, 3):
        assert f"picture {number}: " in caplog.text
    made = amodal_coco.read(tmp_path / "annotations.json").images
    assert sorted(made) == [n for n in range(11) if n not in (1, 3)]
    assert (tmp_path / "preview.jpg").exists()


def test_where_every_picture_fails_nothing_is_merged(tmp_path):
    with pytest.raises(AmodalError, match="all 1 jobs failed"):
        parallel.make(tmp_path, lambda n: None, 1, settings={}, class_names=("thing",), workers=1)
    assert not (tmp_path / "annotations.json").exists()
