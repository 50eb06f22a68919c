"""A folder as the source of a conversion: its files are found, or one line says what is not."""

import json

import cv2
import numpy as np
import pytest
from helpers import layouts
from hypothesis import given
from hypothesis import strategies as st

from amodal_perception.errors import DatasetError
from training.convert import FORMATS
from training.convert.source_folder import annotation_file, photographs_folder

RELEASES = [
    ("cocoa", layouts.cocoa, "annotations/COCO_amodal_val2014.json", "val2014"),
    ("cocoa-flat", layouts.cocoa_flat, "COCO_amodal_train2014_detectron_no_stuff.json", "train"),
    ("cocoa-cls", layouts.cocoa_flat, "annotations/COCO_amodal_val2014_with_classes.json", "v"),
    ("d2sa", layouts.d2sa, "d2s_amodal_annotations_v1/D2S_amodal_validation.json", "im/images"),
    ("kins-2019", layouts.kins_2019, "instances_train.json", "training/image_2"),
    ("kins-2020", layouts.kins_2020, "annotations/update_train_2020.json", "train_imgs"),
    ("coco", layouts.coco, "annotations/instances_val2017.json", "val2017"),
]


def write_json(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def write_photograph(folder):
    folder.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(folder / layouts.NAME), np.zeros((*layouts.SIZE_HW, 3), np.uint8))


@pytest.mark.parametrize(("format_name", "content", "name", "photographs"), RELEASES)
def test_a_release_is_converted_by_its_folder(
    convert, tmp_path, format_name, content, name, photographs
):
    root = tmp_path / "data"
    write_json(root / name, content())
    write_json(root / "captions" / "captions_val2017.json", {})
    write_photograph(root / photographs)
    data, printed = convert(format_name, root)
    assert data.info["source"] == [name.rpartition("/")[2]]
    assert (tmp_path / "out" / data.images[7]["file_name"]).resolve() == (
        root / photographs / layouts.NAME
    )
    assert f"{root}: {name} is read" in printed
    assert f"photographs are in {photographs}" in printed


def test_uoais_sim_is_converted_by_its_folder(convert, tmp_path):
    root = tmp_path / "UOAIS-Sim"
    layouts.write_uoais_sim(root)
    data, printed = convert("uoais-sim", root)
    assert data.images[7]["occlusions_from"] == "occlusion_order_file_name"
    assert data.images[7]["file_name"] == layouts.NAME
    assert f"holds no {layouts.NAME}; point --images at the photographs" in printed


def test_several_files_are_named(refusal, tmp_path):
    for split in ("train", "val"):
        write_json(tmp_path / "data" / "annotations" / f"instances_{split}.json", {})
    line = refusal("kins-2019", tmp_path / "data")
    names = "annotations/instances_train.json, annotations/instances_val.json"
    assert f"2 files may be meant ({names}); give one of them" in line


def test_a_folder_without_one_says_what_was_looked_for(refusal, tmp_path):
    (tmp_path / "data").mkdir()
    line = refusal("kins-2020", tmp_path / "data")
    assert "data: holds no update_*.json, there or 2 folders down" in line
    assert "give the file itself" in line


def test_photographs_in_several_folders_are_asked_for(refusal, tmp_path):
    root = tmp_path / "KINS"
    write_json(root / "update_train_2020.json", layouts.kins_2020())
    for split in ("training", "testing"):
        write_photograph(root / split / "image_2")
    line = refusal("kins-2020", root)
    assert "is in 2 folders (testing/image_2, training/image_2); tell with --images" in line


def test_a_json_file_alone_is_meant(tmp_path):
    write_json(tmp_path / "mine.json", {})
    for chosen in FORMATS.values():
        assert annotation_file(tmp_path, chosen.files) == tmp_path / "mine.json"


def test_the_whole_name_goes_before_its_end(tmp_path):
    write_photograph(tmp_path / "train" / "bin")
    name = f"train/bin/{layouts.NAME}"
    assert photographs_folder(tmp_path, name) == tmp_path
    assert photographs_folder(tmp_path, name.replace("/", "\\")) == tmp_path
    assert photographs_folder(tmp_path, f"elsewhere/{layouts.NAME}") == tmp_path / "train" / "bin"
    assert photographs_folder(tmp_path, "other.jpg") is None


@given(
    places=st.lists(
        st.tuples(
            st.lists(st.sampled_from(["a", "annotations"]), max_size=4).map(tuple),
            st.sampled_from(["instances_a.json", "instances_b.json", "x.json"]),
        ),
        unique=True,
        max_size=4,
    )
)
def test_a_file_is_found_alone_or_not_at_all(tmp_path_factory, places):
    root = tmp_path_factory.mktemp("data")
    for folder, name in places:
        write_json(root.joinpath(*folder) / name, {})
    named = [p for p in places if p[1] != "x.json" and len(p[0]) <= 2]
    alone = [p for p in places if p[0] in ((), ("annotations",))]
    fits = named or alone
    if len(fits) == 1:
        folder, name = fits[0]
        expected = root.joinpath(*folder, name)
        assert annotation_file(root, ("instances_*.json",)) == expected
    else:
        with pytest.raises(DatasetError, match="may be meant" if fits else "holds no instances_"):
            annotation_file(root, ("instances_*.json",))


def test_a_loop_of_links_ends(tmp_path):
    (tmp_path / "loop").symlink_to(".")
    (tmp_path / "self").symlink_to("self")
    write_json(tmp_path / "instances_a.json", {})
    assert annotation_file(tmp_path, ("instances_*.json",)) == tmp_path / "instances_a.json"
