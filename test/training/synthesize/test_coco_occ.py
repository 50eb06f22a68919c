import json
from pathlib import Path

import pytest
from helpers.paths import SHARED_DATA

from amodal_perception.errors import DatasetError
from amodal_perception.storage import amodal_coco
from training.synthesize.__main__ import main
from training.synthesize.coco_occ import images_by_rule, nearest, subset

COCO_TINY = SHARED_DATA / "coco_tiny"


def write(path: Path, boxes: dict[int, list[tuple]]) -> Path:
    """Write a file of boxes: by image, (category, crowd, x, y, width, height)."""
    rows = [
        {"image_id": image, "category_id": category, "iscrowd": crowd, "bbox": box}
        for image, found in boxes.items()
        for category, crowd, *box in found
    ]
    rows = [{**row, "id": i, "segmentation": [[0, 0, 5, 0, 5, 5]]} for i, row in enumerate(rows)]
    images = [{"id": i, "file_name": f"{i}.jpg", "height": 99, "width": 99} for i in boxes]
    categories = [{"id": 1, "name": "one"}, {"id": 2, "name": "two"}]
    content = {"images": images, "annotations": rows, "categories": categories}
    path.write_text(json.dumps(content))
    return path


@pytest.fixture
def boxes(tmp_path) -> Path:
    large = (1, 0, 0, 0, 60, 60)
    return write(
        tmp_path / "instances.json",
        {
            1: [large, (1, 0, 30, 0, 60, 60)],  # IoU 1/3, one class
            2: [large, (2, 0, 30, 0, 60, 60)],  # two classes
            3: [large, (1, 0, 50, 50, 20, 20)],  # IoU 0.026, a quarter of the smaller
            4: [large, (1, 1, 30, 0, 60, 60)],  # a crowd
            5: [large, (1, 0, 70, 70, 10, 10)],
            6: [],
        },
    )


def test_every_meaning_of_overlap_is_counted(boxes):
    chosen = images_by_rule(amodal_coco.read(boxes))
    assert chosen == {
        "iou": [1, 2],
        "iou-same-class": [1],
        "smaller": [1, 2, 3],
        "smaller-same-class": [1, 3],
    }
    assert nearest(chosen, 6) == "iou-same-class"
    assert nearest(chosen, 10) in ("iou", "smaller-same-class")


def test_subset_keeps_what_belongs_to_its_images(boxes):
    kept = subset(amodal_coco.read(boxes), [3, 6])
    assert list(kept.images) == [3, 6]
    assert {row["image_id"] for row in kept.annotations.values()} == {3}


def test_command_writes_the_nearest_or_the_chosen(boxes, tmp_path, capsys):
    out = tmp_path / "new/occ.json"
    assert main(["coco-occ", str(boxes), "--out", str(out)]) == 0
    table = capsys.readouterr().out
    assert "iou-same-class             1   16.7%  <- written" in table
    assert "published              1,005   20.1%" in table
    written = amodal_coco.read(out)
    assert [row["file_name"] for row in written.images.values()] == ["../1.jpg"]
    assert written.info["coco_occ_rule"] == "iou-same-class"
    assert main(["coco-occ", str(boxes), "--out", str(out), "--rule", "smaller"]) == 0
    assert len(amodal_coco.read(out).images) == 3


def test_annotation_without_box_is_named(boxes):
    content = json.loads(boxes.read_text())
    del content["annotations"][2]["bbox"]
    boxes.write_text(json.dumps(content))
    with pytest.raises(DatasetError, match="annotation 2 has no 'bbox'"):
        images_by_rule(amodal_coco.read(boxes))


@pytest.mark.skipif(not COCO_TINY.exists(), reason="the real photographs are not here")
def test_real_photographs(tmp_path):
    source = COCO_TINY / "annotations/instances_val2017.json"
    out = tmp_path / "occ.json"
    words = ["coco-occ", str(source), "--images", str(COCO_TINY / "val2017"), "--out", str(out)]
    assert main(words) == 0
    split = amodal_coco.read(out)
    assert 10 < len(split.images) < 30
    assert all((tmp_path / row["file_name"]).exists() for row in split.images.values())
