"""Masks of messages, decoded by Python and by the C++ header: the same pixels and refusals."""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from helpers.paths import ROOT
from helpers.scenes import mask

from amodal_perception.conversions.scenes import MessageTypes, masks_to_msgs
from amodal_perception.planning.planner_inputs import decode_mask, decode_runs

pytest.importorskip("rosbags", reason="needs rosbags")
from rosbags.typesys import Stores, get_typestore

CUP = mask(
    ".....",
    ".###.",
    ".###.",
    "..#..",
)


def binary_mask(counts: list[int], x: int = 0, y: int = 0, width: int = 2, height: int = 2):
    return SimpleNamespace(x=x, y=y, width=width, height=height, counts=counts, area=0)


BAD_MASKS = [
    (binary_mask([1, 2]), "runs sum to 3, but 2 x 2"),
    (binary_mask([1, 4]), "runs sum to 5, but 2 x 2"),
    (binary_mask([4294967295, 4294967295, 6]), "runs sum to 8589934596"),
    (binary_mask([0, 4], x=4), "x 4 image"),
    (binary_mask([0, 4], y=-1), "x 4 image"),
]


@pytest.mark.parametrize(("bad", "message"), BAD_MASKS)
def test_refuses_a_mask_that_contradicts_itself(bad, message):
    with pytest.raises(ValueError, match=message):
        decode_mask(bad, (4, 5))


def test_crop_alone():
    types = MessageTypes.from_typestore(get_typestore(Stores.ROS2_JAZZY))
    (message,) = masks_to_msgs([CUP], np.zeros((1, 2), np.int32), types)
    assert (message.x, message.y) == (1, 1)
    np.testing.assert_array_equal(decode_mask(message), CUP[1:4, 1:4])


DECODER = r"""
#include <amodal_perception/masks.hpp>
#include <iostream>

struct BinaryMask
{
  std::int32_t x, y;
  std::uint32_t width, height;
  std::vector<std::uint32_t> counts;
};

int main()
{
  BinaryMask mask;
  std::uint32_t image_width, image_height, runs;
  while (std::cin >> image_width >> image_height >> mask.x >> mask.y >> mask.width >> mask.height
                  >> runs) {
    mask.counts.resize(runs);
    for (auto & count : mask.counts) {std::cin >> count;}
    try {
      for (int pixel : amodal_perception::decode_mask(mask, image_width, image_height)) {
        std::cout << (pixel == 255 ? '#' : pixel == 0 ? '.' : '?');
      }
    } catch (const std::invalid_argument & error) {
      std::cout << error.what();
    }
    std::cout << "\n";
  }
}
"""


def decode_in_cpp(folder: Path, masks: list, size_hw: tuple[int, int]) -> list[str]:
    source, program = folder / "decode.cpp", folder / "decode"
    source.write_text(DECODER)
    flags = ["-std=c++17", "-Wall", "-Wextra", "-Werror", "-fsanitize=undefined,address"]
    subprocess.run(
        ["g++", *flags, "-I", ROOT / "include", source, "-o", program], check=True, timeout=120
    )
    lines = [
        " ".join(str(v) for v in (size_hw[1], size_hw[0], m.x, m.y, m.width, m.height))
        + f" {len(m.counts)} "
        + " ".join(str(c) for c in m.counts)
        for m in masks
    ]
    done = subprocess.run(
        [program], input="\n".join(lines), capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout.splitlines()


def test_cpp_header_decodes_the_same(tmp_path):
    types = MessageTypes.from_typestore(get_typestore(Stores.ROS2_JAZZY))
    rng = np.random.default_rng(0)
    masks = [np.zeros((12, 17), np.bool_), np.ones((12, 17), np.bool_)]
    masks += [rng.random((12, 17)) < density for density in (0.01, 0.5, 0.99) for _ in range(10)]
    good = masks_to_msgs(masks, np.zeros((len(masks), 2), np.int32), types)
    decoded = decode_in_cpp(tmp_path, good, (12, 17))
    assert decoded == ["".join(".#"[v] for v in m.reshape(-1).astype(int)) for m in masks]


def test_cpp_header_refuses_the_same(tmp_path):
    refusals = decode_in_cpp(tmp_path, [bad for bad, _ in BAD_MASKS], (4, 5))
    assert all("mask" in line and ("runs sum" in line or "leaves" in line) for line in refusals)
    assert len(refusals) == len(BAD_MASKS)


@pytest.mark.parametrize("counts", [[-1, 5], [2.7, 1.3], ["4"], [[4]], None, [float("nan"), 4]])
def test_runs_that_are_no_whole_numbers_are_refused(counts):
    with pytest.raises(ValueError, match="no whole numbers"):
        decode_runs(counts, (2, 2))


def test_runs_above_32_bits_do_not_wrap_around():
    with pytest.raises(ValueError, match="2 x 2 was expected"):
        decode_runs(np.array([2**32 + 2, 2]), (2, 2))


def test_an_array_of_another_size_is_not_drawn_into():
    with pytest.raises(ValueError, match=r"out has the shape \(3, 3\)"):
        decode_mask(binary_mask([0, 4]), (4, 5), out=np.zeros((3, 3), np.bool_))


@pytest.mark.parametrize("counts", [[3], [5], [], [2**32 - 1, 5]])
def test_rle_of_the_wrong_length_is_refused(counts):
    with pytest.raises(ValueError, match="2 x 2 was expected"):
        decode_runs(np.array(counts, np.uint32), (2, 2))
