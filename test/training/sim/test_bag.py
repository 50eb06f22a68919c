import cv2
import numpy as np
import pytest
from helpers.paths import ASSETS

from amodal_perception.storage import amodal_coco
from amodal_perception.storage.bag_frames import read_frames


@pytest.fixture(scope="module")
def written(opengl, tmp_path_factory):
    from training.sim.bag import write_bag

    folder = tmp_path_factory.mktemp("bag")
    for name in ("one", "two"):
        write_bag(folder / name / "b", folder / name / "t.json", seeds=(10_000_011,), frames=2)
    return folder


def test_frames_of_the_bag_are_those_of_the_truth(written):
    truth = amodal_coco.read(written / "one/t.json")
    frames = list(read_frames(written / "one/b"))
    assert [f.stamp_ns for f in frames] == [i["stamp_ns"] for i in truth.images.values()]
    assert np.diff([f.stamp_ns for f in frames]).tolist() == [100_000_000], "10 Hz"
    for frame, image_id in zip(frames, truth.images):
        assert frame.size_hw == truth.instances_of(image_id).size_hw == (480, 640)
        assert frame.frame_id == "camera_color_optical_frame"


def test_same_seeds_same_bytes(written):
    for name in ("b/b.mcap", "b/metadata.yaml", "t.json"):
        one, two = (written / n / name for n in ("one", "two"))
        assert one.read_bytes() == two.read_bytes(), name


def test_depth_and_camera_info_belong_to_the_picture(written):
    from rosbags.highlevel import AnyReader
    from rosbags.typesys import Stores, get_typestore

    from training.sim.bag import DEPTH_TOPIC, INFO_TOPIC

    store = get_typestore(Stores.ROS2_JAZZY)
    with AnyReader([written / "one/b"], default_typestore=store) as reader:
        messages = {
            connection.topic: reader.deserialize(data, connection.msgtype)
            for connection, _, data in reader.messages()
        }
    depth, info = messages[DEPTH_TOPIC], messages[INFO_TOPIC]
    assert depth.header == info.header
    assert depth.format.startswith("16UC1; png")
    depth_mm = cv2.imdecode(depth.data, cv2.IMREAD_UNCHANGED)
    assert depth_mm.shape == (info.height, info.width)
    assert depth_mm.dtype == np.uint16
    assert 200 < np.median(depth_mm[depth_mm > 0]) < 3000
    assert info.k[0] == info.k[4] == pytest.approx(240 / np.tan(np.radians(21)))
    assert info.p.reshape(3, 4)[:, :3].ravel() == pytest.approx(info.k)


def test_the_packaged_bag_matches_its_truth_and_is_small():
    bag = ASSETS / "sample_bag"
    truth = amodal_coco.read(ASSETS / "sample_truth.json")
    stamps = [frame.stamp_ns for frame in read_frames(bag)]
    assert stamps == [image["stamp_ns"] for image in truth.images.values()]
    assert len(stamps) == 48
    assert sum(path.stat().st_size for path in bag.iterdir()) < 5e6
    assert len(truth.occlusions) > len(truth.images), "cluttered"


def test_track_ids_name_objects_through_the_film(written):
    truth = amodal_coco.read(written / "one/t.json")
    frames = [truth.annotations_of(image_id) for image_id in truth.images]
    for rows in frames:
        assert len({row["track_id"] for row in rows}) == len(rows)
    first, second = ({row["track_id"]: row["family"] for row in rows} for rows in frames)
    shared = first.keys() & second.keys()
    assert len(shared) > 5
    assert all(first[track] == second[track] for track in shared)


def test_track_ids_of_the_shipped_truth_are_all_there():
    truth = amodal_coco.read(ASSETS / "sample_truth.json")
    assert all("track_id" in row for row in truth.annotations.values())
