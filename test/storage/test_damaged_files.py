"""Whatever a JSON file holds, each reader of masks gives a result or one line, in small memory."""

import copy
import json
import os

import pytest
from helpers.bounded_process import BoundedProcess
from helpers.file_readers import NAME, READERS, run_command
from helpers.paths import SHARED_DATA
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from amodal_perception import cli
from training.convert.__main__ import main as convert

TRIALS = SHARED_DATA / "trials"
HUGE = 10**400


def rle(counts, size=(12, 16)):
    return {"size": list(size), "counts": counts}


VALUES = (
    *(None, True, False, "", "1", "1.0", "cup", "\u00e9\u00e9", "a\0b", "\ud800", "../x"),
    *(-1, 0, 1, 2, 7, 1.0, 1.5, -0.0, 1e5, 99_999, 6e8, 1e15, 1e16, 1e308, 2**31, 2**63, HUGE),
    *(float("nan"), float("inf"), -float("inf")),
    *([], {}, [[]], [[[]]], [{}], [None], ["a"], [1], [0, 0, 0, 0], [1, 2, 3, float("nan")]),
    # Polygons: of few corners, far out, of points, of an endless outline.
    *([[4, 1, 6, 3]], [[0, 0, 8, 0, 6e8, 8]], [[HUGE] * 6], [1e5, -1e5, 1e5, 1e5, -1e5, 1e5]),
    *([[0, 0], [8, 0], [8, 8]], [[0, 0, 1], [1]], [[[0, 0], 1, 2]], [[-1e5, 1e5, 1e5] * 600]),
    # Run lengths: too many, too few, empty ones, huge ones, of images that cannot be.
    *(rle([0, 192]), rle([191, 0, 1]), rle([96, 0, 0, 96]), rle([0] * 192 + [192]), rle([HUGE])),
    *(rle(""), rle("0" * 500), rle("PPPPPP0"), rle("o" * 9), rle("\u00e9\u00e9"), rle([191])),
    *(rle([192], (16, 12)), rle([192], ("a", None)), {"size": 5, "counts": [192]}),
    *({"size": [12, 16]}, {"counts": [192]}, [rle([192]), 1]),
    *(rle([10**9], size) for size in ((1, 10**9), (10**9, 1), (10**5, 10**4))),
)


def places(content):
    """List all (container, key) of a JSON value."""
    keys = content.items() if isinstance(content, dict) else enumerate(content)
    for key, value in list(keys):
        yield content, key
        if isinstance(value, (dict, list)):
            yield from places(value)


@st.composite
def damaged(draw, content):
    """Change some values of a JSON file, or some bytes."""
    content = copy.deepcopy(content)
    for _ in range(draw(st.integers(1, 3))):
        container, key = draw(st.sampled_from(list(places(content)) or [(content, None)]))
        how = draw(st.sampled_from(["put", "put", "put", "drop", "twice"]))
        if key is None:
            break
        if how == "put":
            container[key] = copy.deepcopy(draw(st.sampled_from(VALUES)))
        elif how == "drop":
            del container[key]
        elif isinstance(container, list):
            container.append(copy.deepcopy(container[key]))
    text = json.dumps(content).encode()
    if draw(st.integers(0, 9)) == 9:
        start = draw(st.integers(0, len(text)))
        text = draw(
            st.sampled_from(
                [
                    b"\xef\xbb\xbf" + text,
                    text.decode().encode("utf-16"),
                    text[:start],
                    text[:start] + b"\xff" + text[start:],
                    b"[" * 100_000,
                    b"9" * 5000,
                    b"",
                ]
            )
        )
    return text


@pytest.fixture(scope="module")
def process():
    with BoundedProcess() as process:
        yield process


@pytest.mark.parametrize("name", READERS)
def test_content_that_is_right_is_read(process, name, tmp_path):
    reader, content = READERS[name]
    (tmp_path / NAME).write_text(json.dumps(content()))
    assert process.call(reader, tmp_path) == ""


@pytest.mark.parametrize("name", READERS)
@given(st.data())
@settings(
    max_examples=50,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_damage_is_told_in_one_line(process, tmp_path, name, data):
    reader, content = READERS[name]
    (tmp_path / NAME).write_bytes(data.draw(damaged(content())))
    told = process.call(reader, tmp_path)
    assert told == "" or str(tmp_path) in told
    assert "\n" not in told


EVALUATED = {
    "r_garbage": "annotation 2, 'segmentation': is no run-length code",
    "r_nan": "annotation 2, 'segmentation': has a polygon with a corner that is no place",
    "t_2point": "annotation 2, 'segmentation': has no polygon of three corners or more",
    "t_bignum": "annotation 2, 'segmentation': has a polygon with a corner that is no place",
    "t_catname_null": "category 1 has no 'name'",
    "t_emptypoly": "annotation 2, 'segmentation': has no polygon of three corners or more",
    "t_emptyseg": "annotation 2, 'segmentation': is an empty list",
    "t_strid": "annotation 1, 'image_id': is text ('1'), expected a whole number",
    **dict.fromkeys(["t_bom", "t_flat", "t_noocc", "t_nullbbox", "t_nullscore", "t_nullvis"], ""),
}


def trial(name):
    path = TRIALS / name
    if not path.exists():
        pytest.skip(f"no {path}")
    return path


@pytest.mark.parametrize("name", EVALUATED)
def test_files_that_people_have_are_evaluated_and_inspected(process, tmp_path, name):
    folder = trial("evaluate_json") / name
    truth, predictions = folder / "truth.json", folder / "pred.json"
    for arguments in (
        ("evaluate", "--truth", truth, "--predictions", predictions, "--bootstrap", 0),
        ("inspect", truth),
    ):
        told = process.call(run_command, cli.main, tmp_path, *arguments)
        assert told.startswith(f"amodal: {truth}: {EVALUATED[name]}" if EVALUATED[name] else "")
        assert bool(told) == bool(EVALUATED[name])


def test_runs_of_no_pixel_do_not_end_the_process(process, tmp_path):
    truth, predictions = trial("rle_runs") / "t.json", trial("rle_runs") / "p.json"
    flags = ("--truth", truth, "--predictions", predictions, "--bootstrap", 0)
    told = process.call(run_command, cli.main, tmp_path, "evaluate", *flags)
    assert told == (
        f"amodal: {predictions}: annotation 1, 'segmentation': has more runs than pixels"
    )


@pytest.mark.parametrize(
    ("format_name", "file", "told"),
    [
        ("coco", "many_objects/many.json", ""),
        ("two-masks", "convert_ids/floatcat.json", ""),
        ("two-masks", "convert_ids/strcat.json", ""),
        ("two-masks", "convert_ids/negcat.json", "annotation 0, 'category_id': no category -1"),
        ("two-masks", "convert_ids/listcat.json", "annotation 0, 'category_id': [0] is no whole"),
    ],
)
def test_files_that_people_have_are_converted(process, tmp_path, format_name, file, told):
    path = trial(file)
    found = process.call(run_command, convert, tmp_path, format_name, path)
    assert found.startswith(f"training.convert: {path}: {told}" if told else "")
    assert bool(found) == bool(told)


def test_the_bounds_hold():
    with BoundedProcess() as bounded:
        with pytest.raises(AssertionError, match="MemoryError"):
            bounded.call(bytearray, 2**32)
        with pytest.raises(AssertionError, match="its process ended with 3"):
            bounded.call(os._exit, 3)
