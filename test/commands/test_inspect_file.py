"""What `amodal inspect` prints and refuses."""

import re

import cv2
import numpy as np
import pytest
from helpers.bag_writing import image_message, write_bag
from helpers.paths import SAMPLE_BAG
from helpers.stacks import WIDE, write_chain, write_stacks
from rosbags.rosbag2 import CompressionMode

from amodal_perception.cli import main
from amodal_perception.commands.inspect_file import describe
from amodal_perception.reports.dataset_statistics import summarise
from amodal_perception.runtime.tensorrt.build import BuildOptions, build_engine
from amodal_perception.storage import amodal_coco
from amodal_perception.storage.image_files import write_image


@pytest.fixture
def data_set(tmp_path):
    return write_chain(tmp_path / "set")


def test_modal_data_counts_nothing_as_occluded(tmp_path, capsys):
    def change(content):
        content["info"]["amodal_truth"] = False
        for row in content["annotations"]:
            del row["occlusion_rate"]

    path = write_stacks(tmp_path, [WIDE], change=change)
    assert not summarise(amodal_coco.read(path)).amodal
    assert main(["inspect", str(path)]) == 0
    printed = capsys.readouterr().out
    assert "none: visible masks only" in printed
    assert "avg OR" not in printed


def test_what_a_conversion_repaired_is_told(tmp_path, capsys):
    def change(content):
        content["info"]["repairs"] = {"boxes recomputed": 3, "ids renumbered": 1}
        content["info"]["left_out"] = [f"annotation {i}" for i in range(9)]
        content["images"][0]["occlusions_from"] = "depth_constraint"

    assert main(["inspect", str(write_stacks(tmp_path, [WIDE], change=change))]) == 0
    printed = capsys.readouterr().out
    assert "3 boxes recomputed; 1 ids renumbered" in printed
    assert "9 entries, the first: annotation 0" in printed
    assert re.search(r"^order from +depth_constraint \(1 images\)$", printed, re.M)


def test_an_empty_data_set_has_numbers_too(tmp_path, capsys):
    path = write_stacks(tmp_path)
    assert main(["inspect", str(path), "--out", str(tmp_path / "page")]) == 0
    assert "0 (0%)" in capsys.readouterr().out


def test_inspect_prints_the_numbers(data_set, capsys):
    for name in (data_set, data_set.parent):
        assert main(["inspect", str(name)]) == 0
        printed = capsys.readouterr().out
        assert re.search(r"^images +2$", printed, re.M)
        assert re.search(r"^objects +4 \(2\.0 an image\)$", printed, re.M)
        assert re.search(r"^images w/ occl +1 \(50%\)$", printed, re.M)
        assert re.search(r"^objects occl +2 \(50%\)$", printed, re.M)
        assert re.search(r"^avg OR \(all\) +25\.0%", printed, re.M)
        assert re.search(r"^avg OR \(occl\) +50\.0%", printed, re.M)
        assert re.search(r"^40-50 % hidden +2 #{40}$", printed, re.M)
        assert re.search(r"^longest chain +3 objects", printed, re.M)
        assert re.search(r"^class box +2 objects, 2 occluded, 50\.0% hidden$", printed, re.M)


def test_a_page_is_of_a_data_set_only(tmp_path, capsys):
    assert main(["inspect", str(SAMPLE_BAG), "--out", str(tmp_path / "p")]) == 1
    assert "sample_bag: is no data set" in capsys.readouterr().err
    assert not (tmp_path / "p").exists()


def test_a_page_has_at_least_one_image(tmp_path, data_set, capsys):
    assert main(["inspect", str(data_set), "--out", str(tmp_path / "p"), "--limit", "0"]) == 1
    assert "--limit 0: the page needs at least one image" in capsys.readouterr().err
    assert not (tmp_path / "p").exists()


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["config.json", "checkpoints"], "is a training run; export it"),
        (["predictions.json", "report.html"], "inspect the predictions.json in it"),
        ([], "holds no bag (metadata.yaml, *.mcap, *.db3) and no data set (annotations.json)"),
    ],
)
def test_a_folder_of_another_kind_is_called_what_it_is(tmp_path, capsys, names, message):
    for name in names:
        (tmp_path / name).touch()
    assert main(["inspect", str(tmp_path)]) == 1
    assert message in capsys.readouterr().err


def test_a_folder_of_photographs_is_described(tmp_path, capsys):
    for name, size_hw in {"1.png": (6, 8), "2.JPG": (6, 8), "3.png": (8, 6)}.items():
        write_image(tmp_path / name, np.zeros((*size_hw, 3), np.uint8))
    (tmp_path / "4.jpg").touch()
    cv2.imwrite(str(tmp_path / "depth.png"), np.full((6, 8), 900, np.uint16))
    assert main(["inspect", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"^photographs +5$", printed, re.M)
    assert re.search(r"^pixels +8 x 6 \(2\), 6 x 8 \(1\) \(width x height", printed, re.M)
    assert re.search(r"^not readable +2: .*4\.jpg: is empty; .*depth\.png: 16-bit", printed, re.M)


def test_a_packed_part_and_a_ros1_recording_are_bags(tmp_path, capsys):
    image = image_message(np.zeros((6, 8, 3), np.uint8), 10**9)
    bag = write_bag(tmp_path / "bag", {"/eye": [image]}, compression=CompressionMode.FILE)
    assert main(["inspect", str(bag / "bag.mcap.zstd")]) == 0
    assert "1 x sensor_msgs/msg/Image (rgb8)" in capsys.readouterr().out
    (tmp_path / "old.bag").write_bytes(b"#ROSBAG V2.0\n")
    assert main(["inspect", str(tmp_path / "old.bag")]) == 1
    assert "a ROS 1 recording" in capsys.readouterr().err


def test_inspect_tells_of_an_engine(model, tmp_path):
    pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed")
    options = BuildOptions(backend="tensorrt-rtx", compute_capability=86)
    found = describe(build_engine(model, tmp_path / "discs.engine", options).path)
    assert found["built for"] == "compute capability 86"
    assert found["can be used"] == "yes, on such a GPU"
    assert found["precision"] == "fp32"
