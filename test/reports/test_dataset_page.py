"""`amodal inspect` of data sets: the numbers, and the page."""

import json
import re

import numpy as np
import pytest
from helpers.paths import SAMPLE_BAG
from helpers.scenes import mask, scene_of, stacked, truth_content
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from amodal_perception.cli import main
from amodal_perception.ordering import OrderingConfig
from amodal_perception.reports.dataset_page import outline
from amodal_perception.reports.dataset_statistics import rate_bins, summarise
from amodal_perception.storage import amodal_coco
from amodal_perception.storage.image_files import read_image, write_image

WIDE = mask("####....", "####....")
MIDDLE = mask("..####..", "..####..")
RIGHT = mask("....####", "....####")


def write(folder, *layers_of_images, labels=None, change=None):
    """Write a data set folder; each image is a stack of masks, the first on top."""
    scenes = [scene_of(stacked(*layers), OrderingConfig(1, 0.0)) for layers in layers_of_images]
    content = truth_content(scenes, ("cup", "box"), "images/{}.png")
    content["info"] = {"description": "stacks </script><b>bold"}
    for row, label in zip(content["annotations"], labels or ()):
        row["category_id"] = label + 1
    if change:
        change(content)
    path = folder / "annotations.json"
    amodal_coco.write(path, **content)
    return path


@pytest.fixture
def data_set(tmp_path):
    """Two images: a chain of three, each half hidden by the one before; and one cup alone."""
    path = write(tmp_path / "set", [WIDE, MIDDLE, RIGHT], [WIDE], labels=[0, 1, 1, 0])
    write_image(path.parent / "images" / "1.png", np.full((2, 8, 3), 200, np.uint8))
    return path


def test_numbers_of_table_5(data_set):
    found = summarise(amodal_coco.read(data_set))
    assert (found.images, found.occluded_images) == (2, 1)
    assert (found.objects, found.occluded_objects) == (4, 2)
    assert found.occluded_image_share == 0.5
    assert found.occluded_object_share == 0.5
    assert found.mean_rate == 0.25
    assert found.mean_rate_occluded == 0.5
    assert found.histogram == (2, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0)
    assert [(c.name, c.objects, c.occluded, c.mean_rate) for c in found.classes] == [
        ("cup", 2, 0, 0.0),
        ("box", 2, 2, 0.5),
    ]
    order = found.order
    assert (order.edges, order.images, order.longest_chain) == (2, 1, 3)
    assert (order.mutual, order.cyclic_images) == (0, 0)


def test_crowds_stuff_and_unseen_objects_are_told_apart(tmp_path):
    def change(content):
        content["annotations"][0]["iscrowd"] = 1
        content["annotations"][1]["isstuff"] = 1

    path = write(tmp_path, [WIDE, WIDE, RIGHT], change=change)
    found = summarise(amodal_coco.read(path))
    assert (found.objects, found.crowds, found.stuff, found.unseen_objects) == (2, 1, 1, 1)


def test_objects_that_hide_each_other(tmp_path):
    def change(content):
        first = content["occlusions"][0]
        turned = {"occluder_id": first["occludee_id"], "occludee_id": first["occluder_id"]}
        content["occlusions"].append(first | turned)

    path = write(tmp_path, [WIDE, MIDDLE, RIGHT], [WIDE, MIDDLE], change=change)
    order = summarise(amodal_coco.read(path)).order
    assert (order.mutual, order.cyclic_images) == (1, 1)
    assert order.longest_chain == 2  # the edge within the cycle is no step of a chain


def test_rates_that_are_not_stored_are_those_of_the_masks(tmp_path):
    def change(content):
        for row in content["annotations"]:
            del row["occlusion_rate"]

    path = write(tmp_path, [WIDE, MIDDLE], change=change)
    assert summarise(amodal_coco.read(path)).mean_rate_occluded == 0.5


def test_modal_data_counts_nothing_as_occluded(tmp_path, capsys):
    def change(content):
        content["info"]["amodal_truth"] = False
        for row in content["annotations"]:
            del row["occlusion_rate"]

    path = write(tmp_path, [WIDE], change=change)
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

    assert main(["inspect", str(write(tmp_path, [WIDE], change=change))]) == 0
    printed = capsys.readouterr().out
    assert "3 boxes recomputed; 1 ids renumbered" in printed
    assert "9 entries, the first: annotation 0" in printed
    assert re.search(r"^order from +depth_constraint \(1 images\)$", printed, re.M)


def test_an_empty_data_set_has_numbers_too(tmp_path, capsys):
    path = write(tmp_path)
    assert main(["inspect", str(path), "--out", str(tmp_path / "page")]) == 0
    assert "0 (0%)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("rate", "wanted"),
    [(0, 0), (1e-6, 1), (0.001, 1), (0.1, 1), (0.3, 3), (0.30000001, 3), (0.31, 4), (1, 10)],
)
def test_bins_hold_their_upper_bound(rate, wanted):
    assert rate_bins(np.array([rate])).tolist() == [wanted]


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


def content_of(page):
    text = page.read_text()
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)
    return json.loads(found[1]), text


def test_the_page_shows_every_image_with_masks_and_edges(data_set, tmp_path, capsys):
    assert main(["inspect", str(data_set.parent), "--out", str(tmp_path / "page")]) == 0
    assert "page: " in capsys.readouterr().out
    content, text = content_of(tmp_path / "page" / "index.html")
    first, second = content["images"]
    assert content["classes"] == ["cup", "box"]
    assert [o["class"] for o in first["objects"]] == [0, 1, 1]
    assert [o["rate"] for o in first["objects"]] == [0, 0.5, 0.5]
    assert first["edges"] == [[0, 1], [1, 2]]
    assert first["objects"][0]["hidden"] == ""
    assert first["objects"][1]["hidden"] == outline(mask("##", "##"), (2, 0), 1.0)
    picture = read_image(tmp_path / "page" / first["picture"])
    assert picture.shape == (2, 8, 3)
    assert second["picture"] is None  # its image is not there: shown grey
    assert "</script><b>" not in text
    assert "http" not in text.replace("http://www.w3.org", "")  # needs nothing from elsewhere
    statistics = json.loads((tmp_path / "page" / "statistics.json").read_text())
    assert statistics["objects"] == 4


def test_the_page_takes_an_even_choice_of_many_images(tmp_path):
    path = write(tmp_path, *[[WIDE]] * 9)
    assert main(["inspect", str(path), "--out", str(tmp_path / "page"), "--limit", "3"]) == 0
    content, text = content_of(tmp_path / "page" / "index.html")
    assert [image["id"] for image in content["images"]] == [1, 5, 9]
    assert "an even choice of 9" in text


def test_an_image_of_another_size_than_its_masks_is_not_shown(data_set, tmp_path):
    write_image(data_set.parent / "images" / "1.png", np.zeros((3, 8, 3), np.uint8))
    assert main(["inspect", str(data_set), "--out", str(tmp_path / "page")]) == 0
    content, _ = content_of(tmp_path / "page" / "index.html")
    assert content["images"][0]["picture"] is None


def test_a_page_is_of_a_data_set_only(tmp_path, capsys):
    assert main(["inspect", str(SAMPLE_BAG), "--out", str(tmp_path / "p")]) == 1
    assert "sample_bag: is no data set" in capsys.readouterr().err
    assert not (tmp_path / "p").exists()


def test_a_page_has_at_least_one_image(tmp_path, data_set, capsys):
    assert main(["inspect", str(data_set), "--out", str(tmp_path / "p"), "--limit", "0"]) == 1
    assert "--limit 0: the page needs at least one image" in capsys.readouterr().err
    assert not (tmp_path / "p").exists()


def rasterise(path, size_hw):
    """Fill an SVG path even-odd by testing pixel centres against its edges."""
    ys, xs = np.mgrid[: size_hw[0], : size_hw[1]] + 0.5
    inside = np.zeros(size_hw, bool)
    for part in path.split("M")[1:]:
        points = [tuple(map(float, p.split())) for p in part.rstrip("Z").split("L")]
        for (x0, y0), (x1, y1) in zip(points, points[1:] + points[:1]):
            if y0 == y1:
                continue
            crosses = (ys >= min(y0, y1)) & (ys < max(y0, y1))
            inside ^= crosses & (xs < x0 + (ys - y0) * (x1 - x0) / (y1 - y0))
    return inside


def test_outlines_follow_the_borders_of_pixels():
    assert outline(mask("..", ".."), (0, 0), 1.0) == ""
    ring = np.zeros((12, 12), bool)
    ring[2:10, 2:10] = True
    ring[4:8, 4:8] = False
    found = rasterise(outline(ring, (0, 0), 1.0), (12, 12))
    np.testing.assert_array_equal(found, ring)
    shifted = rasterise(outline(ring[2:10, 2:10], (2, 2), 1.0), (12, 12))
    np.testing.assert_array_equal(shifted, ring)
    halved = rasterise(outline(ring, (0, 0), 0.5), (6, 6))
    np.testing.assert_array_equal(halved, ring[::2, ::2])


@settings(max_examples=50)
@given(arrays(np.bool_, (9, 11)))
def test_outlines_stay_within_a_pixel_of_the_mask(pixels):
    found = rasterise(outline(pixels, (0, 0), 1.0), pixels.shape)
    grown = np.pad(pixels, 1)
    near = np.zeros_like(pixels)
    for dy in range(3):
        for dx in range(3):
            near |= grown[dy : dy + 9, dx : dx + 11]
    assert not (found & ~near).any()


@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 5), st.integers(0, 5))
def test_rectangles_are_outlined_exactly(width, height, x, y):
    pixels = np.zeros((12, 12), bool)
    pixels[y : y + height, x : x + width] = True
    found = rasterise(outline(pixels, (0, 0), 1.0), pixels.shape)
    np.testing.assert_array_equal(found, pixels)
