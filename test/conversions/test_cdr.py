"""Stamps of serialised messages, in both byte orders."""

from __future__ import annotations

import struct

import pytest

from amodal_perception.conversions.cdr import message_stamp_ns, with_stamp
from amodal_perception.errors import ImageError


@pytest.mark.parametrize(("flags", "order"), [(b"\0\1\0\0", "<"), (b"\0\0\0\0", ">")])
def test_stamp_is_read_and_replaced(flags, order):
    cdr = flags + struct.pack(f"{order}iI", 7, 5) + b"rest"
    assert message_stamp_ns(cdr) == 7_000_000_005
    moved = with_stamp(cdr, 8_000_000_001)
    assert message_stamp_ns(moved) == 8_000_000_001
    assert (moved[:4], moved[12:]) == (flags, b"rest")


def test_message_too_short_for_a_header():
    with pytest.raises(ImageError, match="8 bytes holds no header"):
        message_stamp_ns(bytes(8))
