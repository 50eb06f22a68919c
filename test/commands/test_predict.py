import errno
import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers.onnx_models import write_model
from hypothesis import given
from hypothesis import strategies as st

from amodal_perception.commands import predict as predict_module
from amodal_perception.commands.predict import predict
from amodal_perception.errors import ImageError
from amodal_perception.evaluation.alignment import align
from amodal_perception.pipeline import Pipeline
from amodal_perception.runtime import load_runtime
from amodal_perception.storage import amodal_coco
from amodal_perception.storage.image_files import read_image, write_image
from amodal_perception.storage.image_listing import list_images


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
    assert "bad.jpg: JPEG image cut short or damaged" in caplog.text
    assert "2 of 3 images failed: " in caplog.text
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


def names(out):
    content = json.loads((out / "predictions.json").read_text())
    return [image["file_name"] for image in content["images"]]


@given(
    places=st.lists(
        st.lists(st.sampled_from(["cam1", "cam2", "b"]), max_size=3).map(tuple),
        min_size=1,
        max_size=4,
        unique=True,
    )
)
def test_images_of_one_name_stay_apart(tmp_path_factory, places):
    root = tmp_path_factory.mktemp("photos")
    folders = [root.joinpath(*place) for place in places]
    for folder in folders:
        picture(folder / "1.png", 2, 2)
    listed = list_images([*folders, folders[0] / "1.png"])
    assert [image.path for image in listed] == [folder / "1.png" for folder in folders]
    assert len({image.name for image in listed}) == len(folders)
    base = Path(os.path.commonpath(folders))
    assert [base / image.name for image in listed] == [image.path for image in listed]


def test_predictions_of_two_cameras_are_evaluated(tmp_path, pipeline):
    for camera in ("cam1", "cam2"):
        picture(tmp_path / camera / "0001.png")
    predict([tmp_path / "cam1", tmp_path / "cam2"], pipeline, tmp_path / "out")
    assert names(tmp_path / "out") == ["cam1/0001.png", "cam2/0001.png"]
    assert len(list((tmp_path / "out" / "overlays").iterdir())) == 2
    predictions = amodal_coco.read(tmp_path / "out" / "predictions.json")
    assert align(predictions, predictions).images == predictions.images


def test_what_a_folder_may_hold(tmp_path, pipeline, caplog):
    folder = tmp_path / "photos"
    picture(folder / "good.png")
    picture(folder / "depth" / "1.png")
    (folder / "a.png").mkdir()
    (folder / "empty.png").touch()
    (folder / "loop.png").symlink_to("loop.png")
    failed = predict([folder], pipeline, tmp_path / "out")
    assert failed == [folder / "empty.png", folder / "loop.png"]
    assert "empty.png: is empty" in caplog.text
    assert "loop.png: cannot be read (Too many levels" in caplog.text
    assert "sub-folders are not looked for (depth)" in caplog.text
    assert names(tmp_path / "out") == ["good.png"]


def test_pictures_of_kinds_that_are_not_read_are_counted(tmp_path, pipeline, caplog):
    for name in ("1.HEIC", "2.heic", "3.dng", "notes.txt"):
        (tmp_path / name).touch()
    with pytest.raises(ImageError, match=r"no images here \(\.jpg, .*\.webp\)"):
        list_images([tmp_path])
    assert "3 pictures of kinds that are not read (.dng, .heic)" in caplog.text
    assert "convert them to JPEG or PNG" in caplog.text


def test_an_unreadable_folder_is_one_line(tmp_path, monkeypatch):
    def refuse(self):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))

    monkeypatch.setattr(Path, "iterdir", refuse)  # who tests as root may read everything
    with pytest.raises(ImageError, match=r"cannot be read \(Permission denied\)"):
        list_images([tmp_path])


@pytest.mark.parametrize("error", [MemoryError(), cv2.error("drawn"), ValueError("a\nb")])
def test_any_error_of_one_image_leaves_the_others(tmp_path, pipeline, caplog, monkeypatch, error):
    for name in ("1.png", "2.png", "3.png"):
        picture(tmp_path / name)

    calls, draw_scene = iter(range(3)), predict_module.draw_scene

    def draw(image, scene):
        if next(calls) == 1:
            raise error
        return draw_scene(image, scene)

    monkeypatch.setattr(predict_module, "draw_scene", draw)
    assert predict([tmp_path], pipeline, tmp_path / "out") == [tmp_path / "2.png"]
    assert f"2.png: {type(error).__name__}" in caplog.messages[0]
    assert "\n" not in caplog.messages[0]
    assert len(list((tmp_path / "out" / "overlays").iterdir())) == 2


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))]
)
@pytest.mark.parametrize("earlier", [False, True])
def test_a_run_that_ends_early_changes_nothing(tmp_path, pipeline, monkeypatch, error, earlier):
    for name in ("1.png", "2.png"):
        picture(tmp_path / name)
    if earlier:
        predict([tmp_path / "1.png"], pipeline, tmp_path / "out" / "deep")
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}

    calls = iter(range(2))

    def write(path, image):
        if next(calls) == 1:
            raise error
        write_image(path, image)

    monkeypatch.setattr(predict_module, "write_image", write)
    with pytest.raises(type(error)):
        predict([tmp_path], pipeline, tmp_path / "out" / "deep")
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before
    assert (tmp_path / "out").exists() == earlier


def test_16_bit_grey_images_are_read_when_their_bits_are_told(tmp_path, pipeline, caplog):
    cv2.imwrite(str(tmp_path / "grey.png"), np.full((9, 7), 4000, np.uint16))
    with pytest.raises(ImageError, match="none of 1"):
        predict([tmp_path], pipeline, tmp_path / "out")
    assert "--grey-bits" in caplog.text
    assert predict([tmp_path], pipeline, tmp_path / "out", grey_bits=12) == []
