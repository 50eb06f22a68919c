from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers.bag_writing import T, compressed_message, header, image_message, write_bag
from helpers.paths import SHARED_DATA
from rosbags.highlevel import AnyReader
from rosbags.rosbag2 import CompressionMode, StoragePlugin

from amodal_perception.errors import BagError
from amodal_perception.masks import mask_windows
from amodal_perception.ordering import occlusion_graph
from amodal_perception.storage.bag_frames import (
    camera_topics,
    find_bags,
    image_topics,
    message_stamp_ns,
    read_frames,
    read_recorded_images,
    read_scenes,
    scene_decoder,
    write_scenes,
    writing_scenes,
)
from amodal_perception.structures import Instances, Scene

CAMERA_BAG = SHARED_DATA / "camera_bag"


@pytest.fixture
def images() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (6, 8, 3), dtype=np.uint8) for _ in range(3)]


@pytest.fixture
def camera(images) -> list:
    return [image_message(image, (10 + i) * 10**9 + 7) for i, image in enumerate(images)]


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


def test_message_too_short_for_a_header():
    with pytest.raises(BagError, match="8 bytes holds no header"):
        message_stamp_ns(bytes(8))


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
    assert "image at 1 ns left out" in caplog.text


def test_bag_with_undecodable_images_only(tmp_path):
    noise = np.zeros(9, np.uint8)
    bag = write_bag(tmp_path / "bag", {"/image": [compressed_message(noise, 1)]})
    with pytest.raises(BagError, match="none of the 1 messages on /image is an image"):
        list(read_frames(bag))


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


@pytest.mark.parametrize("storage", [StoragePlugin.MCAP, StoragePlugin.SQLITE3])
@pytest.mark.parametrize("keep", [0.0, 0.01, 0.5, 0.99])
def test_truncated_part_is_named(tmp_path, camera, storage, keep):
    bag = write_bag(tmp_path / "bag", {"/image": camera}, storage)
    part = next(p for p in bag.iterdir() if p.name != "metadata.yaml")
    data = part.read_bytes()
    part.write_bytes(data[: int(keep * len(data))])
    with pytest.raises(BagError, match=f"{part.name}: cannot be read; damaged") as caught:
        list(read_frames(bag))
    assert "\n" not in str(caught.value)


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


def make_scene(stamp_ns: int, count: int = 3) -> Scene:
    """Squares in a row, each half hidden by the one before."""
    amodal = np.zeros((count, 48, 64), np.bool_)
    for i in range(count):
        amodal[i, 10:26, 4 + 8 * i : 20 + 8 * i] = True
    visible = amodal.copy()
    for i in range(1, count):
        visible[i] &= ~amodal[:i].any(axis=0)
    windows = mask_windows(amodal)
    instances = Instances.from_masks(
        boxes_xyxy=windows.astype(np.float32),
        scores=np.linspace(0.9, 0.6, count, dtype=np.float32),
        labels=np.zeros(count, np.int32),
        amodal=amodal,
        visible=visible,
        windows_xyxy=windows,
    )
    return Scene(
        stamp_ns=stamp_ns,
        frame_id="camera",
        instances=instances,
        graph=occlusion_graph(instances),
        model_id="model@0123456789ab",
        class_names=("object",),
        stages_ms={"engine": 12.5},
    )


def test_scenes_round_trip(tmp_path):
    scenes = [make_scene(3 * 10**9 + 5), make_scene(4 * 10**9, count=0)]
    assert len(scenes[0].graph.edges) == 2
    path = tmp_path / "scenes.mcap"
    write_scenes(path, scenes)
    assert [p.name for p in tmp_path.iterdir()] == ["scenes.mcap"]
    for scene, copy in zip(scenes, read_scenes(path), strict=True):
        assert (copy.stamp_ns, copy.frame_id) == (scene.stamp_ns, "camera")
        assert (copy.model_id, copy.stages_ms) == (scene.model_id, scene.stages_ms)
        np.testing.assert_array_equal(copy.instances.amodal, scene.instances.amodal)
        np.testing.assert_array_equal(copy.instances.visible, scene.instances.visible)
        np.testing.assert_array_equal(copy.instances.scores, scene.instances.scores)
        np.testing.assert_array_equal(copy.graph.edges, scene.graph.edges)
        np.testing.assert_array_equal(copy.graph.removal_order, scene.graph.removal_order)


def test_scene_bag_holds_pictures_and_all_definitions(tmp_path):
    path = tmp_path / "scenes.mcap"
    picture = np.full((48, 64, 3), (200, 100, 50), np.uint8)
    with writing_scenes(path, "/robot") as bag:
        bag.write(make_scene(3 * 10**9 + 5), picture)
    # Nothing but the file itself is known to this reader.
    with AnyReader([path]) as reader:
        types = {connection.topic: connection.msgtype for connection in reader.connections}
        assert types == {
            "/robot/scene": "amodal_perception/msg/AmodalScene",
            "/robot/overlay/compressed": "sensor_msgs/msg/CompressedImage",
        }
        messages = {
            connection.topic: (when, reader.deserialize(data, connection.msgtype), data)
            for connection, when, data in reader.messages()
        }
    when, scene, cdr = messages["/robot/scene"]
    assert (when, len(scene.instances), len(scene.edges)) == (3 * 10**9 + 5, 3, 2)
    assert len(scene_decoder()(bytes(cdr)).instances) == 3
    when, overlay, _ = messages["/robot/overlay/compressed"]
    assert (when, overlay.header.frame_id) == (3 * 10**9 + 5, "camera")
    (frame,) = read_frames(path)
    assert np.abs(frame.image.astype(int) - picture).max() < 8


def test_the_same_scenes_give_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        write_scenes(tmp_path / name / "scenes.mcap", [make_scene(i) for i in range(3)])
    one, two = ((tmp_path / name / "scenes.mcap").read_bytes() for name in ("a", "b"))
    assert one == two


def test_no_scenes_is_a_bag_without_messages(tmp_path):
    write_scenes(tmp_path / "scenes.mcap", [])
    assert list(read_scenes(tmp_path / "scenes.mcap")) == []


def test_failed_writing_leaves_what_was_there(tmp_path):
    path = tmp_path / "scenes.mcap"
    path.write_bytes(b"earlier")

    def broken():
        yield make_scene(1)
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        write_scenes(path, broken())
    assert path.read_bytes() == b"earlier"
    assert [p.name for p in tmp_path.iterdir()] == ["scenes.mcap"]


def test_scenes_of_a_bag_without_scenes(tmp_path, camera):
    bag = write_bag(tmp_path / "bag", {"/image": camera})
    with pytest.raises(BagError, match="no topic with amodal_perception/msg/AmodalScene"):
        list(read_scenes(bag))
