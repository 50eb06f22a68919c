"""The pages as their reader has them: in Chromium, from files, on a telephone and on a desk."""

from __future__ import annotations

import json

import numpy as np
import pytest
from helpers.browser import running_browser
from helpers.onnx_models import write_model
from helpers.replays import replay, write_bags
from helpers.scenes import mask
from helpers.stacks import write_stacks

from amodal_perception.cli import main
from amodal_perception.storage.image_files import write_image

pytest.importorskip("rosbags", reason="needs rosbags")
SMALLEST_TEXT_PX = 9.5
LEFT, MIDDLE, RIGHT = (
    np.kron(mask(row), np.ones((80, 40), np.bool_)) for row in ("####....", "..####..", "....####")
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with running_browser(tmp_path_factory.mktemp("profile")) as running:
        yield running


@pytest.fixture(scope="module")
def pages(browser, tmp_path_factory):
    """Write every page as a user does, and return the files by name."""
    folder = tmp_path_factory.mktemp("pages")
    model = write_model(folder / "model.onnx")
    smaller = write_model(folder / "smaller.onnx", input_hw=(96, 128))

    data = write_stacks(
        folder / "set",
        [LEFT, MIDDLE, RIGHT],
        [MIDDLE],
        [RIGHT, LEFT, MIDDLE, MIDDLE],
        labels=[0, 1, 1, 0, 1, 1, 1, 1],
    )
    for number in (1, 2, 3):
        write_image(data.parent / "images" / f"{number}.png", np.full((80, 320, 3), 200, np.uint8))
    assert main(["inspect", str(data), "--out", str(folder / "data")]) == 0
    content = json.loads(data.read_text())
    for row in content["annotations"]:
        row["score"] = 0.9
    found = folder / "predictions.json"
    found.write_text(json.dumps(content))
    words = ["evaluate", "--truth", data, "--predictions", found, "--out", folder / "score"]
    assert main([*map(str, words)]) == 0

    replay(write_bags(folder / "bags"), "--model", model, "--out", folder / "runs")

    words = ["bench", "--model", model, smaller, "--frames", 2, "--objects", 2, "--threads", 1]
    assert main([*map(str, words), "--plot", str(folder / "bench.html")]) == 0
    return {
        "run": folder / "runs" / "one" / "report.html",
        "runs": folder / "runs" / "report.html",
        "score": folder / "score" / "report.html",
        "data": folder / "data" / "index.html",
        "benchmark": folder / "bench.html",
    }


PAGES = ("run", "runs", "score", "data", "benchmark")


@pytest.mark.parametrize("width", [400, 1400])
@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_readable_and_needs_nothing_else(browser, pages, name, width):
    browser.open(pages[name], width=width)
    assert browser.unreadable(SMALLEST_TEXT_PX) == []
    assert browser.foreign_resources() == []
    assert browser.visible("h1")


def test_unreadable_texts_and_broken_pages_are_found(browser, tmp_path):
    wide = '<p style="width:900px">a</p><p style="font-size:6px">small</p>'
    svg = '<svg viewBox="0 0 800 40" width="300"><text y="20" font-size="12">thin</text></svg>'
    (tmp_path / "page.html").write_text(f"<h1>b</h1>{wide}{svg}")
    browser.open(tmp_path / "page.html", width=400)
    found = browser.unreadable(SMALLEST_TEXT_PX)
    assert [text.partition(": ")[2] for text in found[:2]] == ["small", "thin"]
    assert "too wide" in found[2]
    for broken in ("<script>nothing.at.all</script>", '<img src="gone.png">'):
        (tmp_path / "page.html").write_text(broken)
        with pytest.raises(AssertionError):
            browser.open(tmp_path / "page.html")


def test_the_film_plays(browser, pages):
    browser.open(pages["run"])
    browser.js("document.querySelector('video').play()")
    browser.wait_for("return document.querySelector('video').currentTime > 0.2")
    assert browser.js("return document.querySelector('video').videoWidth") == 128


def test_links_of_all_runs_lead_to_the_runs(browser, pages):
    browser.open(pages["runs"])
    browser.click("table.runs a")
    browser.wait_for("return document.title === 'Amodal perception report'")


def test_all_figures_of_the_score_page_open(browser, pages):
    browser.open(pages["score"])
    browser.click("summary")
    assert len(browser.visible("details td")) > 100


def cards(browser) -> list[str]:
    return [card.text.split(" ")[0] for card in browser.all(".card p")]


def choose(browser, selector: str, value: str) -> None:
    from selenium.webdriver.support.ui import Select

    (element,) = browser.all(selector)
    Select(element).select_by_value(value)


def test_filters_choose_images_and_objects(browser, pages):
    browser.open(pages["data"])
    assert cards(browser) == ["1.png", "2.png", "3.png"]
    choose(browser, "#class", "0")  # cup
    assert cards(browser) == ["1.png", "2.png"]
    assert "2 images, 2 objects fit" in browser.all("#found")[0].text
    assert len(browser.all(".card li.other")) == 2
    browser.click("#reset")
    assert cards(browser) == ["1.png", "2.png", "3.png"]
    choose(browser, "#order", "edges")
    assert cards(browser) == ["1.png", "3.png"]


def test_a_bar_filters_by_class_or_by_what_is_hidden(browser, pages):
    browser.open(pages["data"])
    browser.click('.bar[data-class="0"]')
    assert cards(browser) == ["1.png", "2.png"]
    assert browser.all('.bar.chosen[data-class="0"]')
    browser.click("#reset")
    browser.click('.bar[data-bin="0"]')  # in full view
    assert browser.js("return document.getElementById('high').value") == "0"
    assert "3 images" in browser.all("#found")[0].text


def test_a_link_opens_a_filtered_page(browser, pages):
    browser.open(pages["data"], fragment="#class=cup&sort=count")
    assert cards(browser) == ["1.png", "2.png"]


def test_sorting(browser, pages):
    browser.open(pages["data"])
    choose(browser, "#sort", "count")
    assert cards(browser)[0] == "3.png"
    choose(browser, "#sort", "rate")
    assert cards(browser)[0] == "3.png"
    assert cards(browser)[-1] == "2.png"


def test_a_click_enlarges_a_picture_and_a_second_one_puts_it_back(browser, pages):
    browser.open(pages["data"])
    small = browser.all(".card svg")[0].size["width"]
    browser.click(".card svg")
    assert browser.all(".card svg")[0].size["width"] > 2 * small
    browser.click(".card svg")
    assert browser.all(".card svg")[0].size["width"] == small


@pytest.mark.parametrize(
    ("layer", "selector"),
    [
        ("photo", ".card image"),
        ("visible", "path.visible"),
        ("hidden", "path.hidden"),
        ("amodal", "path.amodal"),
        ("edges", ".edges path"),
    ],
)
def test_a_layer_is_switched_off_and_on(browser, pages, layer, selector):
    browser.open(pages["data"])
    shown = len(browser.visible(selector))
    assert shown > 0
    browser.click(f'[data-layer="{layer}"]')
    assert browser.visible(selector) == []
    browser.click(f'[data-layer="{layer}"]')
    assert len(browser.visible(selector)) == shown


def test_pointing_at_a_name_shows_the_object_alone(browser, pages):
    from selenium.webdriver.common.action_chains import ActionChains

    browser.open(pages["data"])
    ActionChains(browser.driver).move_to_element(browser.all(".card li")[1]).perform()
    assert len(browser.all(".card:first-child .object.pointed")) == 1
    assert len(browser.all(".card:first-child .object.other")) == 2
