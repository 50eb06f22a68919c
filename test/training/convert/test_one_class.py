import json

from helpers.scenes import write_scenes

from training.convert.__main__ import main


def test_all_objects_can_become_one_class(tmp_path):
    write_scenes(tmp_path / "drawn", count=2, size_hw=(60, 80), objects=3)
    path = tmp_path / "drawn/annotations.json"
    content = json.loads(path.read_text())
    content["categories"] = [{"id": 3, "name": "cup"}, {"id": 9, "name": "plate"}]
    for i, row in enumerate(content["annotations"]):
        row["category_id"] = (3, 9)[i % 2]
    path.write_text(json.dumps(content))
    out = tmp_path / "annotations.json"
    assert main(["coco", str(path), "--out", str(out), "--one-class", "object"]) == 0
    found = json.loads(out.read_text())
    assert found["categories"] == [{"id": 1, "name": "object"}]
    assert len(found["annotations"]) > 2
    assert {row["category_id"] for row in found["annotations"]} == {1}
