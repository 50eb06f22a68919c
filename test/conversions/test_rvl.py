from __future__ import annotations

import struct

import numpy as np
import pytest
from helpers.rvl_encoding import encode_rvl
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from amodal_perception.conversions.rvl import decode_rvl
from amodal_perception.errors import ImageError


def data_of(content: bytes) -> np.ndarray:
    return np.frombuffer(content, np.uint8)


def test_a_coding_worked_by_hand():
    """Two unknown pixels; three known ones, by the steps +5, -2 and 0.

    +5 is 10 in zigzag, 1 010 in binary: the group 2 with the sign that more follow (a), then 1.
    -2 is 3, 0 is 0.
    """
    word = int("23a13000", 16)
    decoded = decode_rvl(data_of(struct.pack("<I", word)), 5)
    assert decoded.tolist() == [0, 0, 5, 3, 3]


samples = hnp.arrays(
    np.uint16,
    st.integers(1, 300),
    elements=st.sampled_from([0, 0, 1, 2, 700, 705, 32768, 65535]) | st.integers(0, 65535),
)


@given(samples)
def test_decodes_what_was_encoded(expected):
    np.testing.assert_array_equal(
        decode_rvl(data_of(encode_rvl(expected)), len(expected)), expected
    )


@given(st.binary(max_size=200), st.integers(1, 50))
def test_any_bytes_give_an_image_or_one_line(content, pixels):
    try:
        outcome = str(decode_rvl(data_of(content), pixels).size)
    except ImageError as error:
        outcome = str(error)
    assert outcome == str(pixels) or outcome.startswith("RVL: ")
    assert "\n" not in outcome


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cut short after 0 of 5 pixels"),
        (b"\xff" * 8, "cut short after 0 of 5"),
        (struct.pack("<I", 0xFFFFFFFF) * 2 + struct.pack("<I", 0), "a number without an end"),
        (struct.pack("<I", 0x70000000), "a run of 7 \\+ 0 of 5 pixels"),
        (bytes(100), "too many for 5 pixels"),
    ],
)
def test_refuses_what_is_damaged(content, message):
    with pytest.raises(ImageError, match=message):
        decode_rvl(data_of(content), 5)
