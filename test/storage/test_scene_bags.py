"""Scenes written into bags and read back."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from helpers.bag_writing import write_bag
from helpers.scenes import scene_of, stacked
from rosbags.highlevel import AnyReader

from amodal_perception.errors import BagError
from amodal_perception.storage.bag_frames import read_frames
from amodal_perception.storage.scene_bags import (
    read_scenes,
    scene_decoder,
    writing_scenes,
)
from amodal_perception.structures import Instances, Scene


def make_scene(stamp_ns: int, count: int = 3) -> Scene:
    """Squares in a row, each half hidden by the one before."""
    amodal = np.zeros((count, 48, 64), np.bool_)
    for i in range(count):
        amodal[i, 10:26, 4 + 8 * i : 20 + 8 * i] = True
    return scene_of(
        stacked(*amodal, scores=np.linspace(0.9, 0.6, count).tolist())
        if count
        else Instances.empty((48, 64)),
        stamp_ns=stamp_ns,
        frame_id="camera",
        model_id="model@0123456789ab",
        stages_ms={"engine": 12.5},
    )


def write_scenes(path: Path, scenes: Iterable[Scene]) -> None:
    with writing_scenes(path) as bag:
        for scene in scenes:
            bag.write(scene)


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
