"""Photographs beside labels: of the stated size, or said before anything is written."""

import struct

import cv2
import numpy as np
import pytest
from helpers import layouts

from amodal_perception.conversions.pictures import decode_picture, size_hw
from amodal_perception.errors import ImageError

HEIGHT, WIDTH = layouts.SIZE_HW


def jpeg(height, width, orientation=1):
    block = b"Exif\0\0II" + struct.pack("<HIHHHIHHI", 42, 8, 1, 0x0112, 3, 1, orientation, 0, 0)
    content = cv2.imencode(".jpg", np.zeros((height, width, 3), np.uint8))[1].tobytes()
    return content[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + content[2:]


@pytest.fixture
def photograph(tmp_path):
    """Write the photograph of the labels; return its folder."""

    def write(content):
        name = layouts.kins_2019()["images"][0]["file_name"]
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
        return tmp_path / "photos"

    return write


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_size_is_that_of_the_decoded_picture(orientation):
    data = np.frombuffer(jpeg(7, 20, orientation), np.uint8)
    assert size_hw(data, "a") == decode_picture(data, "a").shape[:2]


def test_a_photograph_that_fits_is_no_news(convert, photograph):
    data, _ = convert(
        "kins-2019", layouts.kins_2019(), "--images", photograph(jpeg(HEIGHT, WIDTH))
    )
    assert data.info["repairs"] == {}
    turned = jpeg(WIDTH, HEIGHT, 6)
    assert size_hw(np.frombuffer(turned, np.uint8), "a") == (HEIGHT, WIDTH)


def test_a_photograph_of_another_size_is_refused(refusal, photograph):
    folder = photograph(jpeg(HEIGHT // 2, WIDTH))
    line = refusal("kins-2019", layouts.kins_2019(), "--images", folder)
    assert f"is {WIDTH} x {HEIGHT // 2}, stated are {WIDTH} x {HEIGHT}" in line
    assert "give those that were labelled" in line


def test_a_turned_photograph_is_refused_with_the_reason(refusal, photograph):
    folder = photograph(jpeg(HEIGHT, WIDTH, 6))
    line = refusal("kins-2019", layouts.kins_2019(), "--images", folder)
    assert (
        "turned against each other; here photographs are upright as their EXIF data says" in line
    )


def test_a_damaged_photograph_is_counted(convert, photograph):
    folder = photograph(jpeg(HEIGHT, WIDTH)[:-40])
    _, printed = convert("kins-2019", layouts.kins_2019(), "--images", folder)
    assert "photographs that cannot be read: kept" in printed
    assert "cut short" in printed
    with pytest.raises(ImageError):
        decode_picture(np.fromfile(next(folder.rglob("*.*")), np.uint8), "a")


def test_photographs_that_do_not_fit_are_left_out_if_asked(convert, refusal, photograph):
    folder = photograph(jpeg(HEIGHT, WIDTH))
    labels = layouts.kins_2019()
    for number, (name, content) in enumerate(
        {"half.jpg": jpeg(HEIGHT // 2, WIDTH), "turned.jpg": jpeg(HEIGHT, WIDTH, 6)}.items(), 100
    ):
        (folder / name).write_bytes(content)
        row = layouts.image_row(id=number, file_name=name)
        labels["images"].append(row)
        annotation = {**labels["annotations"][0], "id": number, "image_id": number}
        labels["annotations"].append(annotation)
    assert "; --leave-out leaves these images out" in refusal(
        "kins-2019", labels, "--images", folder
    )
    data, printed = convert("kins-2019", labels, "--images", folder, "--leave-out")
    assert list(data.images) == [7]
    assert len(data.annotations) == 4
    assert len(data.info["left_out"]) == 2
    assert f"half.jpg is {WIDTH} x {HEIGHT // 2}, stated are {WIDTH} x {HEIGHT}" in printed
    labels["images"].pop(0)
    labels["annotations"] = [row for row in labels["annotations"] if row["image_id"] != 7]
    (folder.parent / "out" / "annotations.json").unlink()
    (folder.parent / "out").rmdir()
    line = refusal("kins-2019", labels, "--images", folder, "--leave-out")
    assert "turned against each other" in line
