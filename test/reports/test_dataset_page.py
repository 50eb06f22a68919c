"""The page of a data set."""

import json
import re

import numpy as np
import pytest
from helpers.scenes import mask
from helpers.stacks import WIDE, write_chain, write_stacks
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from amodal_perception.cli import main
from amodal_perception.reports.dataset_page import outline
from amodal_perception.storage.image_files import read_image, write_image


@pytest.fixture
def data_set(tmp_path):
    return write_chain(tmp_path / "set")


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
    path = write_stacks(tmp_path, *[[WIDE]] * 9)
    assert main(["inspect", str(path), "--out", str(tmp_path / "page"), "--limit", "3"]) == 0
    content, text = content_of(tmp_path / "page" / "index.html")
    assert [image["id"] for image in content["images"]] == [1, 5, 9]
    assert "an even choice of 9" in text


def test_an_image_of_another_size_than_its_masks_is_not_shown(data_set, tmp_path):
    write_image(data_set.parent / "images" / "1.png", np.zeros((3, 8, 3), np.uint8))
    assert main(["inspect", str(data_set), "--out", str(tmp_path / "page")]) == 0
    content, _ = content_of(tmp_path / "page" / "index.html")
    assert content["images"][0]["picture"] is None


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
