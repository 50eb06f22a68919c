"""Camera frames out of bags, decoded and as they were on the wire."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers.bag_writing import compressed_message, image_message, write_bag
from helpers.paths import SHARED_DATA
from rosbags.highlevel import AnyReader
from rosbags.rosbag2 import CompressionMode, StoragePlugin

from amodal_perception.conversions.cdr import message_stamp_ns
from amodal_perception.errors import BagError
from amodal_perception.storage.bag_files import image_topics
from amodal_perception.storage.bag_frames import read_frames, read_recorded_images

CAMERA_BAG = SHARED_DATA / "camera_bag"


@pytest.mark.parametrize(
    ("storage", "compression"),
    [
        (StoragePlugin.MCAP, CompressionMode.NONE),
        (StoragePlugin.MCAP, CompressionMode.MESSAGE),
        (StoragePlugin.MCAP, CompressionMode.FILE),
        (StoragePlugin.MCAP, CompressionMode.STORAGE),
        (StoragePlugin.SQLITE3, CompressionMode.NONE),
        (StoragePlugin.SQLITE3, CompressionMode.MESSAGE),
        (StoragePlugin.SQLITE3, CompressionMode.FILE),
    ],
)
def test_every_storage_gives_the_same_frames(tmp_path, images, camera, storage, compression):
    bag = write_bag(tmp_path / "bag", {"/image": camera}, storage, compression)
    part = next(p for p in bag.iterdir() if p.name != "metadata.yaml")
    for path in (bag, part, str(bag), bag / "metadata.yaml"):
        frames = list(read_frames(path))
        assert [frame.stamp_ns for frame in frames] == [i * 10**9 + 7 for i in (10, 11, 12)]
        assert {frame.frame_id for frame in frames} == {"camera"}
        np.testing.assert_array_equal([frame.image for frame in frames], images)


def test_compressed_images(tmp_path, images):
    png = cv2.imencode(".png", images[0][..., ::-1])[1]
    bag = write_bag(tmp_path / "bag", {"/image/compressed": [compressed_message(png, 5)]})
    (frame,) = read_frames(bag)
    np.testing.assert_array_equal(frame.image, images[0])
    (topic,) = image_topics(bag)
    assert topic.name == "/image/compressed"
    assert topic.msgtype == "sensor_msgs/msg/CompressedImage"
    assert (topic.message_count, topic.encoding) == (1, "png")


def test_zero_stamp_takes_time_of_recording(tmp_path, images):
    bag = write_bag(tmp_path / "bag", {"/image": [image_message(images[0], 0)]})
    assert [frame.stamp_ns for frame in read_frames(bag)] == [10**6]


def test_recorded_images_are_bytes_as_sent(tmp_path, images, camera):
    bag = write_bag(tmp_path / "bag", {"/image": camera}, compression=CompressionMode.MESSAGE)
    recorded = list(read_recorded_images(bag, "/image"))
    assert [image.stamp_ns for image in recorded] == [i * 10**9 + 7 for i in (10, 11, 12)]
    assert [image.record_ns - image.stamp_ns for image in recorded] == [10**6] * 3
    with AnyReader([bag]) as reader:
        sent = [reader.deserialize(image.cdr, "sensor_msgs/msg/Image") for image in recorded]
    np.testing.assert_array_equal([m.data.reshape(6, 8, 3) for m in sent], images)


def test_recorded_image_without_stamp_gets_that_of_recording(tmp_path, images):
    bag = write_bag(tmp_path / "bag", {"/image": [image_message(images[0], 0)]})
    (image,) = read_recorded_images(bag, "/image")
    assert image.stamp_ns == message_stamp_ns(image.cdr) == 10**6
    assert image.cdr[12:] == next(iter(_raw(bag)))[12:]


def _raw(bag: Path):
    with AnyReader([bag]) as reader:
        yield from (bytes(data) for _, _, data in reader.messages())


def test_missing_part_is_left_out_with_a_warning(tmp_path, camera, caplog):
    bag = write_bag(tmp_path / "bag", {"/image": camera})
    metadata = (bag / "metadata.yaml").read_text()
    assert "- bag.mcap" in metadata
    (bag / "metadata.yaml").write_text(
        metadata.replace("- bag.mcap", "- old/bag_0.mcap\n  - bag.mcap")
    )
    assert len(list(read_frames(bag))) == 3
    assert "1 of 2 parts are missing" in caplog.text
    assert "bag_0.mcap" in caplog.text


def test_bag_without_metadata(tmp_path, camera):
    bag = write_bag(tmp_path / "bag", {"/image": camera})
    (bag / "metadata.yaml").unlink()
    assert len(list(read_frames(bag))) == 3


def test_undecodable_image_is_left_out_with_a_warning(tmp_path, images, caplog):
    good = cv2.imencode(".png", images[0])[1]
    messages = [compressed_message(good[:40], 1), compressed_message(good, 2)]
    bag = write_bag(tmp_path / "bag", {"/image": messages})
    assert [frame.stamp_ns for frame in read_frames(bag)] == [2]
    assert "image recorded at 1000001 ns left out" in caplog.text


def test_bag_with_undecodable_images_only(tmp_path):
    noise = np.zeros(9, np.uint8)
    bag = write_bag(tmp_path / "bag", {"/image": [compressed_message(noise, 1)]})
    with pytest.raises(BagError, match="none of the 1 messages on /image is an image"):
        list(read_frames(bag))


@pytest.mark.parametrize("keep", [0.01, 0.5, 0.99])
def test_truncated_sqlite_part_is_named(tmp_path, camera, keep):
    bag = write_bag(tmp_path / "bag", {"/image": camera}, StoragePlugin.SQLITE3)
    part = next(p for p in bag.iterdir() if p.name != "metadata.yaml")
    data = part.read_bytes()
    part.write_bytes(data[: int(keep * len(data))])
    with pytest.raises(BagError, match=f"{part.name}: cannot be read; damaged") as caught:
        list(read_frames(bag))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("storage", [StoragePlugin.MCAP, StoragePlugin.SQLITE3])
def test_empty_part_is_called_empty(tmp_path, camera, storage):
    bag = write_bag(tmp_path / "bag", {"/image": camera}, storage)
    part = next(p for p in bag.iterdir() if p.name != "metadata.yaml")
    part.write_bytes(b"")
    with pytest.raises(BagError, match=f"{part.name}: empty; nothing was recorded"):
        list(read_frames(bag))


def test_corrupt_bytes_never_escape_as_other_errors(tmp_path, camera):
    bag = write_bag(tmp_path / "bag", {"/image": camera}, compression=CompressionMode.STORAGE)
    part = bag / "bag.mcap"
    data = part.read_bytes()
    rng = np.random.default_rng(1)
    outcomes = set()
    for _ in range(300):
        damaged = bytearray(data)
        for position in rng.integers(0, len(data), 4):
            damaged[position] = rng.integers(256)
        part.write_bytes(damaged)
        try:
            outcomes.add(len(list(read_frames(bag))))
        except BagError:
            outcomes.add(BagError)
    assert BagError in outcomes


@pytest.mark.skipif(not CAMERA_BAG.exists(), reason=f"{CAMERA_BAG} is not there")
def test_real_camera_bag(caplog):
    frames = list(read_frames(CAMERA_BAG))
    assert [frame.stamp_ns for frame in frames] == [8_297_777_777, 8_331_088_888]
    assert {frame.image.shape for frame in frames} == {(480, 640, 3)}
    assert 90 < frames[0].image.mean() < 130  # a picture, neither black nor noise
    assert "12 of 13 parts are missing" in caplog.text
    assert "soccer_goal_0.mcap" in caplog.text
