import json

import cv2
import numpy as np
import pytest
from helpers.onnx_models import write_model

from amodal_perception.commands.predict import predict
from amodal_perception.errors import ImageError
from amodal_perception.pipeline import Pipeline
from amodal_perception.runtime import load_runtime
from amodal_perception.storage.image_files import read_image, write_image


@pytest.fixture
def pipeline(tmp_path):
    return Pipeline(load_runtime(write_model(tmp_path / "model.onnx")))


def picture(path, height=60, width=80):
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    write_image(path, image)
    return image


def test_images_of_any_size_become_one_file_of_scenes(tmp_path, pipeline):
    picture(tmp_path / "a.png")
    picture(tmp_path / "b.jpg", 300, 20)
    cv2.imwrite(str(tmp_path / "grey.png"), np.zeros((9, 7), np.uint8))
    paths = [tmp_path / name for name in ("a.png", "b.jpg", "grey.png")]
    assert predict(paths, pipeline, tmp_path / "out") == []
    content = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert [(i["file_name"], i["height"], i["width"]) for i in content["images"]] == [
        ("a.png", 60, 80),
        ("b.jpg", 300, 20),
        ("grey.png", 9, 7),
    ]
    assert content["info"]["model_id"] == pipeline.runtime.metadata.model_id
    overlays = sorted((tmp_path / "out" / "overlays").iterdir())
    assert [p.name for p in overlays] == ["000001_a.png", "000002_b.png", "000003_grey.png"]
    assert read_image(overlays[1]).shape == (300, 20, 3)


def test_a_folder_stands_for_the_images_in_it(tmp_path, pipeline):
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "notes.txt").write_text("no image")
    picture(folder / "2.png")
    picture(folder / "1.JPG")
    predict([folder], pipeline, tmp_path / "out", overlays=False)
    content = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert [i["file_name"] for i in content["images"]] == ["1.JPG", "2.png"]
    assert not (tmp_path / "out" / "overlays").exists()


def test_an_unreadable_image_is_left_out_and_told(tmp_path, pipeline, caplog):
    picture(tmp_path / "good.png")
    (tmp_path / "bad.jpg").write_bytes(b"\xff\xd8\xff\xe0 not a picture")
    paths = [tmp_path / name for name in ("bad.jpg", "missing.png", "good.png")]
    assert predict(paths, pipeline, tmp_path / "out") == paths[:2]
    assert "bad.jpg: is not a picture, or is damaged" in caplog.text
    assert "missing.png: cannot be read (No such file or directory)" in caplog.text
    content = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert [i["file_name"] for i in content["images"]] == ["good.png"]


def test_no_image_at_all_is_an_error_and_writes_nothing(tmp_path, pipeline):
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ImageError, match="empty: no images here"):
        predict([empty], pipeline, tmp_path / "out")
    with pytest.raises(ImageError, match="none of 1 images could be read"):
        predict([tmp_path / "missing.png"], pipeline, tmp_path / "out")
    assert not (tmp_path / "out").exists()
