from __future__ import annotations

import numpy as np
import pytest
from helpers.bag_writing import compressed_message, image_message, write_bag
from helpers.depth_camera import compress_depth

from amodal_perception.errors import BagError
from amodal_perception.storage.bag_depth import (
    NO_DEPTH,
    DepthOfFrames,
    DepthOptions,
    find_depth_topic,
)
from amodal_perception.structures import Frame

SIZE_HW = 24, 32
MS = 10**6
IMAGE = np.zeros((*SIZE_HW, 3), np.uint8)


def depth_message(stamp_ns: int, millimetres: int, size_hw=SIZE_HW, frame_id="camera"):
    message = image_message(np.full(size_hw, millimetres, np.uint16), stamp_ns, "16UC1")
    message.header.frame_id = frame_id
    return message


def frame(stamp_ns: int, frame_id: str = "camera") -> Frame:
    return Frame(IMAGE, stamp_ns, frame_id)


def test_finds_the_topic_that_fits_the_images(tmp_path):
    bag = write_bag(
        tmp_path / "bag",
        {
            "/color": [image_message(IMAGE, 100 * MS)],
            "/a/other_frame": [depth_message(100 * MS, 500, frame_id="infrared")],
            "/b/other_size": [depth_message(100 * MS, 500, size_hw=(12, 16))],
            "/c/aligned/compressedDepth": [
                compressed_message(
                    np.frombuffer(compress_depth(np.full(SIZE_HW, 500, np.uint16)), np.uint8),
                    100 * MS,
                    "16UC1; compressedDepth png",
                )
            ],
            "/d/aligned": [depth_message(100 * MS, 500)],
        },
    )
    assert find_depth_topic(bag, "/color", DepthOptions()) == "/c/aligned/compressedDepth"
    assert find_depth_topic(bag, "/color", DepthOptions("/d/aligned")) == "/d/aligned"
    assert find_depth_topic(bag, "/color", DepthOptions(NO_DEPTH)) == ""
    with pytest.raises(BagError, match="no image topic '/e'"):
        find_depth_topic(bag, "/color", DepthOptions("/e"))
    compressed = DepthOfFrames(bag, "/c/aligned/compressedDepth", DepthOptions())
    assert np.all(compressed.of(frame(100 * MS)) == np.float32(0.5))


def test_bags_without_depth_have_none(tmp_path):
    bag = write_bag(tmp_path / "bag", {"/color": [image_message(IMAGE, 100 * MS)]})
    assert find_depth_topic(bag, "/color", DepthOptions()) == ""


def test_gives_the_nearest_within_20_ms_and_survives_gaps_and_jumps(tmp_path):
    stamps_ms = [5000, 5033, 5066, 9000, 9033, 100, 133, 166]  # a gap, then time jumps back
    messages = [depth_message(ms * MS, 1000 + i) for i, ms in enumerate(stamps_ms)]
    bag = write_bag(tmp_path / "bag", {"/depth": messages}, period_ns=33 * MS)
    depth = DepthOfFrames(bag, "/depth", DepthOptions())
    wanted_ms = [4000, 5000, 5010, 5060, 5100, 7000, 9030, 110, 160, 500]
    found = []
    for ms in wanted_ms:
        metres = depth.of(frame(ms * MS))
        found.append(None if metres is None else round(float(metres[0, 0]) * 1000))
    assert found == [None, 1000, 1000, 1002, None, None, 1004, 1005, 1007, None]


def test_refuses_depth_of_another_camera(tmp_path, caplog):
    bag = write_bag(
        tmp_path / "bag",
        {"/depth": [depth_message(100 * MS, 1), depth_message(200 * MS, 1, size_hw=(12, 16))]},
    )
    depth = DepthOfFrames(bag, "/depth", DepthOptions())
    assert depth.of(frame(100 * MS, "infrared")) is None
    assert "of the frame 'camera'" in caplog.text
    assert depth.of(frame(200 * MS)) is None
    assert "another size" in caplog.text


def test_depth_in_another_unit(tmp_path):
    bag = write_bag(tmp_path / "bag", {"/depth": [depth_message(100 * MS, 7000)]})
    depth = DepthOfFrames(bag, "/depth", DepthOptions(metres_per_unit=0.0001))
    assert depth.of(frame(100 * MS))[0, 0] == pytest.approx(0.7)
