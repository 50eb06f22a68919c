"""Families of simulated shapes as classes, for banks that are class-specific."""

import json

import pytest
from helpers.scenes import write_scenes

from amodal_perception.storage import amodal_coco
from training.datasets.amodal_coco import AmodalCocoDataset
from training.sim.classes import class_of_family, main


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data"
    write_scenes(folder, count=4, objects=2)
    path = folder / "annotations.json"
    content = json.loads(path.read_text())
    families = ["can", "can", "book", "toy_car", "mug", "can", "scissors", "ball"]
    for row, family in zip(content["annotations"], families):
        row["family"] = family
    path.write_text(json.dumps(content))
    return folder


def test_groups_are_the_kinds_of_shapes():
    groups = class_of_family("group")
    assert set(groups.values()) == {"boxes", "revolved", "tools", "toys"}
    assert (groups["can"], groups["scissors"]) == ("revolved", "tools")
    assert len(class_of_family("family")) == len(groups) == 28


@pytest.mark.parametrize(
    ("by", "labels"),
    [
        ("family", ["can", "can", "book", "toy_car", "scissors", "ball"]),
        ("group", ["revolved", "revolved", "boxes", "toys", "tools", "revolved"]),
    ],
)
def test_objects_get_classes_and_images_with_held_out_families_go(
    data, tmp_path, capsys, by, labels
):
    assert main([str(data), "--out", str(tmp_path / "out"), "--by", by]) == 0
    assert "3 images; 1 with held-out families left out" in capsys.readouterr().out
    found = amodal_coco.read(tmp_path / "out" / "annotations.json")
    names = {id: row["name"] for id, row in found.categories.items()}
    rows = [found.annotations[id] for id in sorted(found.annotations)]
    assert [names[row["category_id"]] for row in rows] == labels
    assert 3 not in found.images
    dataset = AmodalCocoDataset(tmp_path / "out", (96, 128))
    assert len(dataset) == 3
    assert [dataset.class_names[label] for label in dataset[0].labels] == labels[:2]
    assert dataset[0].ids.tolist() == [1, 2]


def test_other_data_is_refused(data, tmp_path, capsys):
    assert main([str(data), "--out", str(data)]) == 1
    assert "is the data itself" in capsys.readouterr().err
    write_scenes(tmp_path / "drawn", count=1)
    assert main([str(tmp_path / "drawn"), "--out", str(tmp_path / "out")]) == 1
    assert "has no 'family'" in capsys.readouterr().err
