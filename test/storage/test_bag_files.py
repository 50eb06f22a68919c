"""Which bags, parts and topics there are, and what is said of those that are damaged."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from helpers.bag_writing import T, compressed_message, header, image_message, write_bag

from amodal_perception.errors import BagError
from amodal_perception.storage.bag_files import camera_topics, find_bags, image_topics
from amodal_perception.storage.bag_frames import read_frames


def test_colour_is_preferred_to_depth_and_the_choice_is_told(tmp_path, images, caplog):
    depth = np.zeros((6, 8), np.uint16)
    grey = np.zeros((6, 8), np.uint8)
    bag = write_bag(
        tmp_path / "bag",
        {
            "/a_depth": [image_message(depth, 1, "16UC1")],
            "/b_infrared": [image_message(grey, 1, "mono8")],
            "/c_colour": [image_message(images[0], 1)],
            "/d_colour": [image_message(images[1], 1)],
        },
    )
    (frame,) = read_frames(bag)
    np.testing.assert_array_equal(frame.image, images[0])
    assert "reading /c_colour" in caplog.text
    (frame,) = read_frames(bag, "/d_colour")
    np.testing.assert_array_equal(frame.image, images[1])


def test_cameras_are_all_but_depth_and_twins(tmp_path, images, camera, caplog):
    caplog.set_level("INFO")
    jpeg = compressed_message(cv2.imencode(".jpg", images[0])[1], 1, "jpeg")
    bag = write_bag(
        tmp_path / "bag",
        {
            "/depth": [image_message(np.zeros((6, 8), np.uint16), 1, "16UC1")],
            "/infrared": [image_message(np.zeros((6, 8), np.uint8), 1, "mono8")],
            "/left": camera,
            "/left/compressed": [jpeg],
            "/right/compressed": [jpeg],
        },
    )
    cameras = camera_topics(bag)
    assert [topic.name for topic in cameras] == ["/infrared", "/left", "/right/compressed"]
    assert "not read: /depth, /left/compressed" in caplog.text
    wanted = camera_topics(bag, ["/left/compressed", "/left"])
    assert [topic.name for topic in wanted] == ["/left/compressed", "/left"]
    with pytest.raises(BagError, match="no image topic '/up'"):
        camera_topics(bag, ["/left", "/up"])


def test_bags_are_found_below_a_folder(tmp_path, camera):
    for name in ("a", "night/b"):
        write_bag(tmp_path / name, {"/image": camera})
    whole = write_bag(tmp_path / "spare", {"/image": camera})
    (tmp_path / "single.mcap").write_bytes((whole / "spare.mcap").read_bytes())
    interrupted = tmp_path / "interrupted"
    interrupted.mkdir()
    for number in (0, 1):
        (interrupted / f"drive_{number}.mcap").write_bytes((whole / "spare.mcap").read_bytes())
    (tmp_path / ".hidden").mkdir()
    (tmp_path / ".hidden" / "half.mcap").write_bytes(b"")
    names = [str(path.relative_to(tmp_path)) for path in find_bags(tmp_path)]
    assert names == ["single.mcap", "a", "interrupted", "night/b", "spare"]
    assert find_bags(tmp_path / "a") == [tmp_path / "a"]
    assert find_bags(tmp_path / "single.mcap") == [tmp_path / "single.mcap"]
    assert len(list(read_frames(interrupted))) == 6
    (tmp_path / "empty").mkdir()
    with pytest.raises(BagError, match="no bags here"):
        find_bags(tmp_path / "empty")
    with pytest.raises(BagError, match="no such bag"):
        find_bags(tmp_path / "nothing")


def test_no_images_lists_other_topics(tmp_path):
    info = T["sensor_msgs/msg/Range"](
        header=header(1), radiation_type=0, field_of_view=0.0, min_range=0.0, max_range=0.0,
        range=0.0, variance=0.0,
    )  # fmt: skip
    bag = write_bag(tmp_path / "bag", {"/sonar": [info]})
    with pytest.raises(BagError, match="no image topic; topics there are: /sonar"):
        list(read_frames(bag))
    assert image_topics(bag) == []


def test_unknown_topic_lists_image_topics(tmp_path, camera):
    bag = write_bag(tmp_path / "bag", {"/left": camera, "/right": camera})
    with pytest.raises(BagError, match=r"no image topic '/up'.*: /left, /right$"):
        list(read_frames(bag, "/up"))


def test_missing_bag(tmp_path):
    with pytest.raises(BagError, match="nothing: no such bag"):
        list(read_frames(tmp_path / "nothing"))


def test_empty_folder_and_foreign_file(tmp_path):
    with pytest.raises(BagError, match="none of the bag's files"):
        list(read_frames(tmp_path))
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(BagError, match="not a bag"):
        list(read_frames(tmp_path / "notes.txt"))


@pytest.mark.parametrize("text", ["", "a: [", "rosbag2_bagfile_information: {}", "- 1"])
def test_damaged_metadata(tmp_path, text):
    (tmp_path / "metadata.yaml").write_text(text)
    with pytest.raises(BagError, match="not a rosbag2 metadata file"):
        list(read_frames(tmp_path))
