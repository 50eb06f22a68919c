"""Every format, from a file in its documented layout to masks read back with pycocotools."""

import json

import numpy as np
import pytest
from helpers import layouts
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO


def check_scene(data, *, edges=tuple(layouts.EDGES)):
    """Check masks, numbers and edges of the scene, the masks as pycocotools reads them."""
    coco = COCO(data.path)
    rows = coco.loadAnns(coco.getAnnIds(imgIds=[7]))
    assert len(rows) == 4
    for i, row in enumerate(rows):
        amodal, visible = layouts.amodal()[i], layouts.visible()[i]
        np.testing.assert_array_equal(coco.annToMask(row).astype(bool), amodal)
        seen = coco_mask.decode(row["visible_segmentation"]).astype(bool)
        np.testing.assert_array_equal(seen, visible)
        assert row["bbox"] == layouts.xywh(amodal)
        assert row["visible_bbox"] == layouts.xywh(visible)
        assert row["area"] == amodal.sum()
        assert row["occlusion_rate"] == pytest.approx(layouts.rate(i), abs=1e-6)
    assert [tuple(edge) for edge in data.occlusions_of(7).tolist()] == list(edges)
    assert data.images[7]["height"], data.images[7]["width"] == layouts.SIZE_HW
    return rows


@pytest.mark.parametrize(
    ("format_name", "content", "order_from"),
    [
        ("cocoa", layouts.cocoa(), "depth_constraint"),
        ("cocoa-cls", layouts.cocoa_flat(), "masks"),
        ("cocoa-flat", layouts.cocoa_flat(), "masks"),
        ("d2sa", layouts.d2sa(), "depth_constraint"),
        ("kins-2019", layouts.kins_2019(), "masks"),
        ("kins-2020", layouts.kins_2020(), "oco_id, ico_id"),
    ],
)
def test_masks_numbers_and_order_survive(convert, format_name, content, order_from):
    data, printed = convert(format_name, content)
    check_scene(data)
    assert data.images[7]["occlusions_from"] == order_from
    assert data.info["occlusions_from"] == {order_from: 1}
    assert data.info["converted_from"] == format_name
    assert f"occlusions from {order_from}: 1 images" in printed
    by_masks, _ = convert(format_name, content, "--edges", "masks")
    assert by_masks.info["occlusions_from"] == {"masks": 1}
    assert by_masks.occlusions_of(7).tolist() == data.occlusions_of(7).tolist()


def test_files_as_documented_need_no_repair(convert):
    for format_name in ("cocoa", "d2sa", "kins_2019", "kins_2020", "coco"):
        data, printed = convert(format_name.replace("_", "-"), getattr(layouts, format_name)())
        assert data.info["repairs"] == {}
        assert "repairs: none" in printed


class TestCocoa:
    def test_names_stuff_and_depth_order_are_kept(self, convert):
        data, _ = convert("cocoa", layouts.cocoa(stuff=[2]))
        rows = data.annotations_of(7)
        assert [row["name"] for row in rows] == [f"thing {i}" for i in range(4)]
        assert [row["isstuff"] for row in rows] == [0, 0, 1, 0]
        assert [row["depth_order"] for row in rows] == [1, 2, 3, 4]
        assert data.class_names == ("object",)

    def test_without_stuff_what_stuff_hides_stays_hidden(self, convert):
        data, _ = convert("cocoa", layouts.cocoa(stuff=[0]), "--no-stuff")
        rows = data.annotations_of(7)
        assert [row["name"] for row in rows] == ["thing 1", "thing 2", "thing 3"]
        assert rows[0]["occlusion_rate"] > 0.3
        assert data.occlusions_of(7).tolist() == [[0, 1]]

    def test_a_record_in_a_file_of_its_own(self, convert):
        record = layouts.cocoa()["annotations"][0]
        data, _ = convert("cocoa", record | {"size": 9})
        check_scene(data)
        assert data.images[7]["file_name"] == layouts.NAME
        assert data.info["repairs"] == {"records that state another number of regions: counted": 1}

    def test_missing_visible_masks_are_rebuilt(self, convert):
        content = layouts.cocoa()
        first, second = content["annotations"][0]["regions"][1:3]
        del first["visible_mask"]
        del second["visible_mask"], second["invisible_mask"]
        data, _ = convert("cocoa", content)
        check_scene(data)
        assert data.info["repairs"] == {
            "visible masks missing: amodal without hidden mask taken": 1,
            "visible masks missing: rebuilt from the order": 1,
        }

    def test_regions_in_another_sequence_keep_their_constraints(self, convert):
        content = layouts.cocoa()
        content["annotations"][0]["regions"].reverse()
        data, _ = convert("cocoa", content)
        assert data.occlusions_of(7).tolist() == [[3, 2], [2, 1]]

    def test_no_constraints_means_order_from_masks(self, convert):
        content = layouts.cocoa()
        del content["annotations"][0]["depth_constraint"]
        data, _ = convert("cocoa", content)
        check_scene(data)
        assert data.images[7]["occlusions_from"] == "masks"

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda r: r.update(depth_constraint="1-2,x"), "record 1, 'depth_constraint': 'x'"),
            (
                lambda r: r["regions"][2].pop("segmentation"),
                "region 3, 'segmentation': is missing",
            ),
            (lambda r: r["regions"][1].update(order="back"), "region 2, 'order': 'back'"),
            (lambda r: r["regions"].append(5), "region 5: is no JSON object"),
            (lambda r: r.pop("regions"), "annotation 1, 'regions': is missing; flat files are"),
        ],
    )
    def test_what_is_wrong_is_named(self, refusal, change, message):
        content = layouts.cocoa()
        change(content["annotations"][0])
        assert message in refusal("cocoa", content)

    def test_what_is_wrong_can_be_left_out(self, convert):
        content = layouts.cocoa()
        content["annotations"][0]["regions"][0]["segmentation"] = "gone"
        data, printed = convert("cocoa", content, "--leave-out")
        assert len(data.annotations) == 3
        assert data.occlusions_of(7).tolist() == [[0, 1]]
        assert "left out: 1" in printed
        assert "region 1, 'segmentation'" in data.info["left_out"][0]

    def test_a_region_without_a_place_hides_nothing_that_is_rebuilt(self, convert):
        content = layouts.cocoa()
        regions = content["annotations"][0]["regions"]
        regions[0]["order"] = "front"
        del regions[1]["visible_mask"], regions[1]["invisible_mask"]
        data, _ = convert("cocoa", content, "--leave-out")
        assert "region 1, 'order'" in data.info["left_out"][0]
        assert len(data.info["left_out"]) == 1
        rows = data.annotations_of(7)
        assert rows[0]["occlusion_rate"] == 0


class TestCocoaCls:
    def test_flat_polygons_are_a_counted_repair(self, convert):
        data, _ = convert("cocoa-cls", layouts.cocoa_flat())
        assert data.info["repairs"] == {"flat polygon lists: nested": 1}
        assert [row["category_id"] for row in data.annotations_of(7)] == [1, 3, 3, 90]
        assert data.class_names == ("person", "car", "brush")

    def test_a_missing_visible_mask_of_an_occluded_object_is_refused(self, refusal):
        content = layouts.cocoa_flat()
        del content["annotations"][1]["visible_mask"]
        line = refusal("cocoa-cls", content)
        assert "annotation 101, 'visible_mask': is missing, though 'occlude_rate' is 0.4" in line

    def test_rates_may_be_text(self, convert):
        content = layouts.cocoa_flat()
        for row in content["annotations"]:
            row["occlude_rate"] = str(row["occlude_rate"])
        check_scene(convert("cocoa-cls", content)[0])

    def test_rates_must_be_numbers(self, refusal):
        content = layouts.cocoa_flat()
        content["annotations"][0]["occlude_rate"] = "half"
        assert "annotation 100, 'occlude_rate': 'half' is no number" in refusal(
            "cocoa-cls", content
        )

    def test_the_merge_takes_classes_by_visible_iou(self, tmp_path, convert):
        instances = layouts.coco()
        # The second's mask in COCO is off by so much that the IoU falls below 0.75, the fourth
        # is there as a crowd only.
        instances["annotations"][1]["segmentation"] = layouts.rle(layouts.amodal()[1])
        instances["annotations"][3]["iscrowd"] = 1
        path = tmp_path / "instances.json"
        path.write_text(json.dumps(instances))
        data, printed = convert("cocoa-cls-merge", layouts.cocoa(), "--instances", path)
        rows = data.annotations_of(7)
        assert [(row["category_id"], row["coco_id"]) for row in rows] == [(1, 400), (1, 402)]
        assert data.class_names == ("person", "bicycle")
        assert "kept 1 of 1 images and 2 of 4 regions" in printed
        iou = layouts.visible()[1].sum() / layouts.amodal()[1].sum()
        data, _ = convert(
            "cocoa-cls-merge", layouts.cocoa(), "--instances", path, "--min-iou", iou - 0.01
        )
        assert [row["coco_id"] for row in data.annotations_of(7)] == [400, 401, 402]

    def test_the_merge_leaves_out_stuff_and_images_without_an_object(self, tmp_path, convert):
        path = tmp_path / "instances.json"
        path.write_text(json.dumps(layouts.coco()))
        content = layouts.cocoa(stuff=range(4))
        data, printed = convert("cocoa-cls-merge", content, "--instances", path)
        assert not data.images
        assert "kept 0 of 1 images and 0 of 4 regions" in printed

    def test_the_merge_refuses_files_of_other_images(self, tmp_path, refusal):
        content = layouts.coco()
        content["images"][0]["id"] = 8
        for row in content["annotations"]:
            row["image_id"] = 8
        (tmp_path / "instances.json").write_text(json.dumps(content))
        line = refusal(
            "cocoa-cls-merge", layouts.cocoa(), "--instances", tmp_path / "instances.json"
        )
        assert "has none of the images" in line
        assert "COCO 2014" in line


class TestD2sa:
    def test_without_constraints_the_order_is_from_masks(self, convert):
        content = layouts.d2sa()
        for row in content["annotations"]:
            row["amodal_base"] = {k: v for k, v in row["amodal_base"].items() if k == "url"}
        data, _ = convert("d2sa", content)
        check_scene(data)
        assert data.images[7]["occlusions_from"] == "masks"

    def test_contradicting_constraints_are_not_trusted(self, convert):
        content = layouts.d2sa()
        content["annotations"][1]["amodal_base"] = {"depth_constraint": "2-1"}
        data, _ = convert("d2sa", content)
        check_scene(data)
        assert (
            "images with contradicting depth constraints: order from masks"
            in (data.info["repairs"])
        )


class TestKins:
    def test_wrong_boxes_are_recomputed_and_counted(self, convert):
        content = layouts.kins_2019()
        for row in content["annotations"][:3]:
            row["inmodal_bbox"] = row["bbox"]
        content["annotations"][0]["bbox"] = [0, 0, 3, 3]
        data, printed = convert("kins-2019", content)
        check_scene(data)
        assert data.info["repairs"] == {
            "boxes that do not fit their masks: recomputed": 1,
            "visible boxes that do not fit their masks: recomputed": 1,
        }
        assert "1 visible boxes that do not fit their masks: recomputed" in printed

    def test_seven_or_eight_classes_are_said_aloud(self, convert):
        data, printed = convert("kins-2020", layouts.kins_2020())
        assert len(data.categories) == 7
        assert "7 classes: cyclist, pedestrian, car" in printed
        assert "'rider' is declared but has no object" in printed
        data, printed = convert("kins-2020", layouts.kins_2020(), "--keep-rider")
        assert data.class_names[2] == "rider"
        assert "8 classes: cyclist, pedestrian, rider" in printed

    def test_a_rider_who_is_there_stays(self, convert):
        content = layouts.kins_2020()
        content["annotations"][3]["category_id"] = 3
        data, printed = convert("kins-2020", content)
        assert len(data.categories) == 8
        assert "8 classes" in printed

    def test_the_other_release_is_recognised(self, refusal):
        assert "this is the release kins-2020" in refusal("kins-2019", layouts.kins_2020())
        assert "this is the release kins-2019" in refusal("kins-2020", layouts.kins_2019())

    def test_order_holds_within_a_cluster_and_between_places(self, convert):
        content = layouts.kins_2020()
        content["annotations"][0]["oco_id"] = 5
        content["annotations"][2]["ico_id"] = 2
        data, _ = convert("kins-2020", content)
        assert data.occlusions_of(7).tolist() == []

    def test_polygons_of_visible_parts_are_joined(self, convert):
        content = layouts.kins_2020()
        content["annotations"][3]["i_segm"] = [layouts.polygon(3), [0, 0, 1, 1]]
        data, _ = convert("kins-2020", content)
        check_scene(data)
        assert data.info["repairs"] == {"polygons of fewer than three corners: left out": 1}


class TestCoco:
    def test_no_amodal_truth_is_invented(self, convert):
        data, printed = convert("coco", layouts.coco())
        assert data.info["amodal_truth"] is False
        assert "nothing is known of what is hidden" in printed
        for row in data.annotations_of(7):
            assert "occlusion_rate" not in row
            assert row["segmentation"] == row["visible_segmentation"]
        assert data.occlusions == ()
        assert "occlusions_from" not in data.images[7]

    def test_crowds_stay_crowds(self, convert):
        data, _ = convert("coco", layouts.coco())
        rows = data.annotations_of(7)
        assert [row["iscrowd"] for row in rows] == [0, 0, 0, 0, 1]
        assert rows[-1]["area"] == 400


class TestUoaisSim:
    def test_what_is_wrong_in_the_wild_is_mended(self, tmp_path, convert):
        data, _ = convert("uoais-sim", layouts.write_uoais_sim(tmp_path / "data"))
        rows = check_scene(data)
        assert data.images[7]["occlusions_from"] == "occlusion_order_file_name"
        assert data.images[7]["depth_file_name"] == "train/bin/depth/0.png"
        assert [row["object_name"] for row in rows] == [f"mesh_{i}" for i in range(4)]
        assert data.info["repairs"] == {
            "areas that are not the mask's: recomputed": 4,
            "boxes that do not fit their masks: recomputed": 1,
            "image rows stored twice: one kept": 1,
        }

    def test_the_order_is_the_matrix_not_the_masks(self, tmp_path, convert):
        path = layouts.write_uoais_sim(tmp_path / "data")
        matrix = np.zeros((4, 4))
        matrix[3, 0] = 1
        np.save(tmp_path / "data/train/bin/occlusion_order/0.npy", matrix)
        data, _ = convert("uoais-sim", path)
        assert data.occlusions_of(7).tolist() == [[3, 0]]

    def test_a_missing_or_misshapen_matrix_leaves_the_masks(self, tmp_path, convert):
        path = layouts.write_uoais_sim(tmp_path / "data")
        matrix = tmp_path / "data/train/bin/occlusion_order/0.npy"
        np.save(matrix, np.zeros((3, 3)))
        data, _ = convert("uoais-sim", path)
        check_scene(data)
        assert "order matrices of another size than the image: from masks" in data.info["repairs"]
        matrix.unlink()
        data, _ = convert("uoais-sim", path)
        check_scene(data)
        assert "order matrices that are not there: order from masks" in data.info["repairs"]

    def test_a_pickled_matrix_is_refused(self, tmp_path, refusal):
        path = layouts.write_uoais_sim(tmp_path / "data")
        matrix = tmp_path / "data/train/bin/occlusion_order/0.npy"
        np.save(matrix, np.array([{}], object), allow_pickle=True)
        assert "0.npy: is no array of numbers" in refusal("uoais-sim", path)

    def test_a_root_can_be_named(self, tmp_path, convert):
        path = layouts.write_uoais_sim(tmp_path / "data")
        moved = tmp_path / "elsewhere.json"
        path.rename(moved)
        data, _ = convert("uoais-sim", moved, "--root", tmp_path / "data")
        assert data.images[7]["occlusions_from"] == "occlusion_order_file_name"


class TestOccludedVehicles:
    def test_visible_is_the_mask_without_the_occluders(self, tmp_path, convert):
        data, printed = convert("occluded-vehicles", layouts.write_occluded_vehicles(tmp_path))
        assert [row["file_name"] for row in data.images.values()] == [
            "images/busFGL0_BGL0/n2.JPEG",
            "images/carFGL1_BGL2/n1_1.JPEG",
            "images/carFGL1_BGL2/n1_2.JPEG",
        ]
        car = layouts.amodal()[1]
        triangle = coco_mask.frPyObjects([[40.0, 20, 55, 20, 55, 38]], *layouts.SIZE_HW)
        over = layouts.amodal()[0] | coco_mask.decode(triangle)[..., 0].astype(bool)
        found = data.instances_of(2)
        np.testing.assert_array_equal(found.amodal[0], car)
        np.testing.assert_array_equal(found.visible[0], car & ~over)
        np.testing.assert_array_equal(data.instances_of(3).visible[0], car & ~layouts.amodal()[0])
        np.testing.assert_array_equal(data.instances_of(1).visible[0], car)
        assert data.images[2]["foreground_level"] == 1
        assert data.images[2]["background_level"] == 2
        assert data.annotations_of(1)[0]["category_id"] == 3
        assert data.info["repairs"] == {
            "folders of another layout: left out": 1,
            "listed images without annotation: left out": 1,
        }
        assert "there are no occlusion edges" in printed

    def test_one_folder_alone(self, tmp_path, convert):
        split = layouts.write_occluded_vehicles(tmp_path)
        data, _ = convert("occluded-vehicles", split / "annotations" / "carFGL1_BGL2")
        assert len(data.images) == 2

    def test_a_folder_of_something_else_is_refused(self, tmp_path, refusal):
        assert "no annotations/<class><tag>" in refusal("occluded-vehicles", tmp_path)

    @pytest.mark.parametrize(
        ("arrays", "message"),
        [
            ({"category": "cat"}, "'category': 'cat' is none of aeroplane"),
            ({"box": np.array([1, 2, 3, 4])}, "'box': expected y1, x1, y2, x2, height, width"),
            ({"mask": np.array([], float)}, "'mask': is an empty list"),
        ],
    )
    def test_what_is_wrong_is_named(self, tmp_path, refusal, arrays, message):
        split = layouts.write_occluded_vehicles(tmp_path)
        good = {
            "category": "car",
            "box": np.array([0, 0, 9, 9, *layouts.SIZE_HW]),
            "mask": np.array([layouts.polygon(1)]),
        }
        np.savez(split / "annotations/carFGL1_BGL2/n1_2.npz", **(good | arrays))
        line = refusal("occluded-vehicles", split)
        assert "n1_2.npz" in line
        assert message in line
