from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from helpers.depth_camera import compress_depth
from hypothesis import given
from hypothesis import strategies as st

from amodal_perception.conversions.depth_images import message_to_depth
from amodal_perception.errors import ImageError

MILLIMETRES = np.array([[500, 1250, 0], [2000, 0, 65535]], np.uint16)


def raw(samples: np.ndarray, encoding: str, padding: int = 0, bigendian: bool = False):
    """Make a sensor_msgs/Image."""
    samples = samples.astype(samples.dtype.newbyteorder(">" if bigendian else "<"))
    rows = [row.tobytes() + bytes(padding) for row in samples]
    height, width = samples.shape
    return SimpleNamespace(
        encoding=encoding,
        height=height,
        width=width,
        step=len(rows[0]),
        is_bigendian=int(bigendian),
        data=b"".join(rows),
    )


def compressed(data: bytes, message_format: str):
    """Make a sensor_msgs/CompressedImage."""
    return SimpleNamespace(format=message_format, data=data)


@pytest.mark.parametrize("encoding", ["16UC1", "mono16", "32FC1"])
@pytest.mark.parametrize("bigendian", [False, True])
@pytest.mark.parametrize("padding", [0, 6])
def test_depth_is_in_metres_and_unknown_where_it_is_none(encoding, bigendian, padding):
    metres = np.array([[0.5, 1.25], [2.0, np.nan]])
    samples = metres.astype(np.float32)
    if encoding != "32FC1":
        samples = (np.nan_to_num(metres) * 1000).astype(np.uint16)
    depth = message_to_depth(raw(samples, encoding, padding, bigendian))
    assert depth.dtype == np.float32
    assert np.allclose(depth, metres, equal_nan=True)


def test_depth_that_no_sensor_measures_is_unknown():
    samples = np.array([[-1, np.inf], [0, 3]], np.float32)
    depth = message_to_depth(raw(samples, "32FC1"))
    assert np.isnan(depth).tolist() == [[True, True], [True, False]]


@pytest.mark.parametrize(
    ("encoding", "value", "scale", "metres"),
    [
        ("16UC1", 7000, 0.0, 7.0),
        ("16UC1", 7000, 0.0001, 0.7),  # L515: a quarter or a tenth of a millimetre
        ("32FC1", 700.0, 0.001, 0.7),
        ("32FC1", 0.7, 0.0, 0.7),
    ],
)
def test_depth_in_any_unit(encoding, value, scale, metres):
    samples = np.full((2, 3), value, np.float32 if encoding == "32FC1" else np.uint16)
    depth = message_to_depth(raw(samples, encoding), metres_per_unit=scale)
    assert depth == pytest.approx(np.full((2, 3), metres))


def test_colour_is_no_depth():
    with pytest.raises(ImageError, match="'rgb8' holds no depth; known are 16UC1, mono16, 32FC1"):
        message_to_depth(raw(np.zeros((2, 6), np.uint8), "rgb8"))


@pytest.mark.parametrize(
    ("coder", "message_format"),
    [
        ("png", "16UC1"),  # before the transport named itself
        ("png", "16UC1; compressedDepth"),
        ("png", "16UC1; compressedDepth png"),
        ("rvl", "16UC1; compressedDepth rvl"),
    ],
)
def test_compressed_whole_numbers(coder, message_format):
    depth = message_to_depth(compressed(compress_depth(MILLIMETRES, coder), message_format))
    expected = np.where(MILLIMETRES, MILLIMETRES / 1000, np.nan)
    np.testing.assert_allclose(depth, expected, rtol=1e-6)


@pytest.mark.parametrize("coder", ["png", "rvl"])
def test_compressed_metres_are_inverse_depth(coder):
    """A = 100 * 101 and B = 1 - A / 10, as the transport writes by default (depth_max 10)."""
    a, b = 10100.0, -1009.0
    metres = np.array([[0.5, 2.0, np.nan]], np.float32)
    samples = np.nan_to_num(a / metres + b).astype(np.uint16)  # 19191, 4041, 0
    assert samples.tolist() == [[19191, 4041, 0]]
    data = compress_depth(samples, coder, (a, b))
    depth = message_to_depth(compressed(data, f"32FC1; compressedDepth {coder}"))
    np.testing.assert_allclose(depth, metres, rtol=1e-3)


@pytest.mark.parametrize(
    ("data", "message_format", "message"),
    [
        (b"", "16UC1; compressedDepth", "without data"),
        (bytes(12), "16UC1; compressedDepth", "12 bytes are too few"),
        (bytes(13), "16UC1; compressedDepth rvl", "1 bytes are too few"),
        (bytes(40), "16UC1; compressedDepth png", "no PNG image, or cut short"),
        (compress_depth(MILLIMETRES)[:-20], "16UC1; compressedDepth", "cut short"),
        (bytes(12) + b"\xff" * 8, "16UC1; compressedDepth rvl", "more than 32000000 pixels"),
        (compress_depth(MILLIMETRES.astype(np.uint8)), "16UC1; compressedDepth", "16 bits"),
        (compress_depth(MILLIMETRES), "bgr8; jpeg compressed bgr8", "'bgr8' holds no depth"),
        (
            compress_depth(MILLIMETRES),
            "16UC1; compressedDepth zstd",
            "known are 'compressedDepth'",
        ),
    ],
)
def test_refuses_what_is_damaged(data, message_format, message):
    with pytest.raises(ImageError, match=message):
        message_to_depth(compressed(data, message_format))


@given(st.data())
def test_damaged_bytes_give_an_image_or_one_line(data):
    coder = data.draw(st.sampled_from(["png", "rvl"]))
    whole = bytearray(compress_depth(MILLIMETRES, coder))
    for _ in range(data.draw(st.integers(0, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    encoding = data.draw(st.sampled_from(["16UC1", "32FC1"]))
    message = compressed(bytes(whole), f"{encoding}; compressedDepth {coder}")
    depth = np.zeros(0)
    reason = ""
    try:
        depth = message_to_depth(message, max_pixels=10_000)
    except ImageError as error:
        reason = str(error)
    assert "\n" not in reason
    assert depth.size <= 10_000
    assert np.all(np.isnan(depth) | ((depth > 0) & np.isfinite(depth)))
