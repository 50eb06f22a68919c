from __future__ import annotations

import array
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from amodal_perception.conversions.images import (
    array_to_message,
    message_to_frame,
    message_to_rgb,
    rgb_to_message,
)
from amodal_perception.errors import ImageError

HEADER = SimpleNamespace(stamp=SimpleNamespace(sec=7, nanosec=5), frame_id="camera")
# Flat patches of 4 x 4 pixels: colour subsampling and demosaicing keep their middles exact.
COLOURS = np.array([[200, 40, 20], [30, 180, 60], [20, 50, 220], [128, 128, 128]], np.uint8)
PATCHES = np.repeat(np.repeat(COLOURS.reshape(2, 2, 3), 8, axis=0), 8, axis=1)


def image(
    samples: np.ndarray, encoding: str, size_hw=(16, 16), padding=0, bigendian=False, **over
):
    """Make a raw image message of [rows, ...] samples, as rclpy would hand it over."""
    dtype = samples.dtype.newbyteorder(">" if bigendian else "<")
    rows = np.ascontiguousarray(samples.astype(dtype)).view(np.uint8).reshape(len(samples), -1)
    rows = np.pad(rows, ((0, 0), (0, padding)), constant_values=99)
    fields = {
        "header": HEADER,
        "height": size_hw[0],
        "width": size_hw[1],
        "encoding": encoding,
        "is_bigendian": int(bigendian),
        "step": rows.shape[1],
        "data": array.array("B", rows.tobytes()),
    }
    return SimpleNamespace(**{**fields, **over})


def compressed(data: bytes, message_format: str = "rgb8; jpeg compressed bgr8"):
    return SimpleNamespace(header=HEADER, format=message_format, data=array.array("B", data))


def mosaic(pattern: str) -> np.ndarray:
    samples = np.empty(PATCHES.shape[:2], np.uint8)
    for position, colour in enumerate(pattern):
        row, column = divmod(position, 2)
        samples[row::2, column::2] = PATCHES[row::2, column::2, "rgb".index(colour)]
    return samples


def yuv_planes() -> np.ndarray:
    """Return [16, 16, 3] Y, U, V of the patches (BT.601, 16..235)."""
    planes = cv2.cvtColor(PATCHES, cv2.COLOR_RGB2YUV_I420)
    y, u, v = planes[:16], planes[16:20].reshape(8, 8), planes[20:].reshape(8, 8)
    return np.dstack([y, *(np.repeat(np.repeat(c, 2, axis=0), 2, axis=1) for c in (u, v))])


def packed_422(order: str) -> np.ndarray:
    y, u, v = np.moveaxis(yuv_planes(), 2, 0)
    chroma = np.where(np.arange(16) % 2, v, u)
    pair = (chroma, y) if order == "uyvy" else (y, chroma)
    return np.dstack(pair)


def semi_planar(order: str) -> np.ndarray:
    planes = yuv_planes()
    first, second = (1, 2) if order == "nv12" else (2, 1)
    chroma = np.empty((8, 16), np.uint8)
    chroma[:, 0::2], chroma[:, 1::2] = planes[::2, ::2, first], planes[::2, ::2, second]
    return np.concatenate([planes[..., 0], chroma])


def alpha(rgb: np.ndarray) -> np.ndarray:
    return np.dstack([rgb, np.full(rgb.shape[:2], 9, np.uint8)])


def sixteen(samples: np.ndarray) -> np.ndarray:
    return samples.astype(np.uint16) << 8 | 0x5A


EXACT = {
    "rgb8": PATCHES,
    "bgr8": PATCHES[..., ::-1],
    "rgba8": alpha(PATCHES),
    "bgra8": alpha(PATCHES[..., ::-1]),
    "rgb16": sixteen(PATCHES),
    "bgr16": sixteen(PATCHES[..., ::-1]),
}
CLOSE = {
    **{f"bayer_{pattern}8": mosaic(pattern) for pattern in ("rggb", "bggr", "gbrg", "grbg")},
    **{f"bayer_{p}16": sixteen(mosaic(p)) for p in ("rggb", "bggr", "gbrg", "grbg")},
    "uyvy": packed_422("uyvy"),
    "yuv422": packed_422("uyvy"),
    "yuyv": packed_422("yuyv"),
    "yuv422_yuy2": packed_422("yuyv"),
    "nv12": semi_planar("nv12"),
    "nv21": semi_planar("nv21"),
}


@pytest.mark.parametrize("padding", [0, 6])
@pytest.mark.parametrize("encoding", EXACT)
def test_colour_is_exact(encoding, padding):
    for bigendian in (False, True):
        rgb = message_to_rgb(
            image(EXACT[encoding], encoding, padding=padding, bigendian=bigendian)
        )
        np.testing.assert_array_equal(rgb, PATCHES)
        assert rgb.flags.c_contiguous


@pytest.mark.parametrize("padding", [0, 6])
@pytest.mark.parametrize("encoding", CLOSE)
def test_subsampled_colour_is_right_inside_patches(encoding, padding):
    rgb = message_to_rgb(image(CLOSE[encoding], encoding, padding=padding))
    for rows in (slice(2, 6), slice(10, 14)):
        for columns in (slice(2, 6), slice(10, 14)):
            got, want = rgb[rows, columns].astype(int), PATCHES[rows, columns].astype(int)
            assert np.abs(got - want).max() <= 3


@pytest.mark.parametrize(
    ("encoding", "dtype"), [("mono8", "u1"), ("8UC1", "u1"), ("mono16", "u2")]
)
@pytest.mark.parametrize("bigendian", [False, True])
def test_grey_becomes_three_equal_channels(encoding, dtype, bigendian):
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    samples = grey if dtype == "u1" else sixteen(grey)
    rgb = message_to_rgb(image(samples, encoding, bigendian=bigendian))
    np.testing.assert_array_equal(rgb, np.repeat(grey[..., None], 3, axis=2))


def test_rgb8_is_not_copied():
    message = image(PATCHES, "rgb8")
    rgb = message_to_rgb(message)
    message.data[0] = 77
    assert rgb[0, 0, 0] == 77


def test_data_may_be_an_array_of_numpy():
    message = image(PATCHES, "rgb8")
    message.data = np.frombuffer(message.data, np.uint8)
    np.testing.assert_array_equal(message_to_rgb(message), PATCHES)


def test_last_row_may_lack_its_padding():
    message = image(PATCHES, "rgb8", padding=6)
    message.data = message.data[:-6]
    np.testing.assert_array_equal(message_to_rgb(message), PATCHES)


def test_frame_keeps_the_header():
    frame = message_to_frame(image(PATCHES, "rgb8"))
    assert (frame.stamp_ns, frame.frame_id, frame.size_hw) == (7_000_000_005, "camera", (16, 16))


@pytest.mark.parametrize(
    ("over", "message"),
    [
        ({"width": 0}, "must be positive"),
        ({"height": 0}, "must be positive"),
        ({"width": 100_000, "height": 100_000}, "more than 32000000 pixels"),
        ({"step": 47}, "step is 47, but a row takes 48"),
        ({"step": 2**32 - 1}, "768 bytes of data, but"),
        ({"height": 17}, "768 bytes of data, but step 48 needs 816"),
        ({"data": array.array("B")}, "without data"),
        ({"encoding": "16UC1"}, "holds depth; give the topic of a colour image"),
        ({"encoding": "32FC1"}, "holds depth"),
        ({"encoding": "nonsense"}, "unknown encoding 'nonsense'; known are rgb8, "),
        ({"encoding": "uyvy", "width": 15}, "needs an even size"),
        ({"encoding": "nv12", "height": 15}, "needs an even size"),
    ],
)
def test_refuses(over, message):
    with pytest.raises(ImageError, match=message):
        message_to_rgb(image(PATCHES, **{"encoding": "rgb8", **over}))


def encoded(extension: str, rgb: np.ndarray = PATCHES) -> bytes:
    return cv2.imencode(extension, rgb[..., ::-1])[1].tobytes()


def test_png_is_exact():
    rgb = message_to_rgb(compressed(encoded(".png"), "bgr8; png compressed bgr8"))
    np.testing.assert_array_equal(rgb, PATCHES)


def test_jpeg_is_close_and_may_be_padded():
    for padding in (b"", b"\0" * 1000):
        rgb = message_to_rgb(compressed(encoded(".jpg") + padding))
        assert np.abs(rgb.astype(int) - PATCHES)[2:6, 2:6].max() <= 6


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "without data"),
        (b"\xff", "neither a JPEG nor a PNG"),
        (b"not an image at all" * 10, "neither a JPEG nor a PNG"),
        (encoded(".jpg")[:200], "JPEG image cut short or damaged, its end is missing"),
        (encoded(".png")[:60], "PNG image cut short, its end is missing"),
        (encoded(".png").replace(b"\x08\x02\0\0\0", b"\x07\x02\0\0\0", 1), "damaged"),
        (
            encoded(".png").replace(b"\0\0\0\x10\0\0\0\x10", b"\0\x01\0\0" * 2, 1),
            "65536 x 65536 is more than",
        ),
        (
            b"\xff\xd8\xff\xc0\x00\x11\x08\xff\xff\xff\xff\x03"
            + b"\0" * 9
            + b"\xff\xda\0\2\xff\xd9",
            "is more than",
        ),
    ],
)
def test_refuses_compressed(data, message):
    with pytest.raises(ImageError, match=message):
        message_to_rgb(compressed(data))


@given(
    encoding=st.sampled_from([*EXACT, *CLOSE, "mono8", "mono16", "16UC1", "", "rgb"]),
    height=st.integers(0, 40) | st.integers(0, 2**32 - 1),
    width=st.integers(0, 40) | st.integers(0, 2**32 - 1),
    step=st.integers(0, 300) | st.integers(0, 2**32 - 1),
    length=st.integers(0, 4000),
    bigendian=st.integers(0, 255),
)
def test_any_fields_give_an_image_or_an_image_error(
    encoding, height, width, step, length, bigendian
):
    message = SimpleNamespace(
        header=HEADER,
        height=height,
        width=width,
        encoding=encoding,
        is_bigendian=bigendian,
        step=step,
        data=array.array("B", bytes(length)),
    )
    try:
        rgb = message_to_rgb(message)
    except ImageError:
        return
    assert (rgb.shape, rgb.dtype) == ((height, width, 3), np.uint8)


def test_refuses_compressed_depth():
    with pytest.raises(ImageError, match="holds depth"):
        message_to_rgb(compressed(encoded(".png"), "16UC1; compressedDepth png"))


def test_any_bytes_give_an_image_or_an_image_error():
    rng = np.random.default_rng(0)
    jpeg = np.frombuffer(encoded(".jpg"), np.uint8)
    outcomes = []
    for _ in range(300):
        damaged = jpeg.copy()
        damaged[rng.integers(0, len(jpeg), 5)] = rng.integers(0, 256, 5)
        try:
            outcomes.append(message_to_rgb(compressed(damaged.tobytes())).ndim)
        except ImageError as error:
            outcomes.append(str(error).count("\n"))
    assert set(outcomes) == {0, 3}


def test_written_image_reads_back():
    message = rgb_to_message(PATCHES[::-1, ::-1], HEADER, SimpleNamespace)
    assert isinstance(message.data, array.array)
    np.testing.assert_array_equal(message_to_rgb(message), PATCHES[::-1, ::-1])


@pytest.mark.parametrize("chunk", [b"IHDR", b"IDAT", b"IEND"])
def test_refuses_png_chunks_that_announce_more_than_there_is(chunk):
    """OpenCV would reserve two gigabytes for each of these."""
    png = bytearray(cv2.imencode(".png", PATCHES)[1].tobytes())
    png[png.index(chunk) - 4] = 0x7F
    with pytest.raises(ImageError, match=r"damaged PNG image|PNG image cut short"):
        message_to_rgb(compressed(bytes(png)))


def test_refuses_animations():
    png = cv2.imencode(".png", PATCHES)[1].tobytes()
    at = png.index(b"IDAT") - 4
    animated = png[:at] + b"\0\0\0\x08acTL" + bytes(12) + png[at:]
    with pytest.raises(ImageError, match="an animated PNG is no picture"):
        message_to_rgb(compressed(animated))


def test_labels_are_written_as_they_are():
    labels = np.arange(12, dtype=np.uint16).reshape(3, 4) * 1000
    message = array_to_message(labels, "mono16", HEADER, SimpleNamespace)
    assert (message.encoding, message.step, message.height, message.width) == ("mono16", 8, 3, 4)
    assert np.array_equal(np.frombuffer(message.data, np.uint16).reshape(3, 4), labels)


@pytest.mark.parametrize("nanosec", [1_000_000_000, 2**32 - 1])
def test_refuses_stamps_that_no_scene_could_carry(nanosec):
    header = SimpleNamespace(stamp=SimpleNamespace(sec=1, nanosec=nanosec), frame_id="")
    with pytest.raises(ImageError, match="nanoseconds"):
        message_to_frame(image(PATCHES, "rgb8", header=header))


def test_names_from_the_network_are_cut_short():
    with pytest.raises(ImageError) as raised:
        message_to_rgb(image(PATCHES, "x" * 100_000))
    assert len(str(raised.value)) < 1000


@pytest.mark.parametrize(
    "encoding", ["rgb8", "bgr8", "rgba8", "bgra8", "mono8", "mono16", "bayer_rggb8", "yuv422"]
)
def test_agrees_with_cv_bridge(encoding):
    """Where ROS's own converter works, ours says the same."""
    cv_bridge = pytest.importorskip("cv_bridge", reason="needs cv_bridge, which has no wheel")
    from sensor_msgs.msg import Image

    channels = {"rgb8": 3, "bgr8": 3, "rgba8": 4, "bgra8": 4, "yuv422": 2}.get(encoding, 1)
    dtype = np.uint16 if encoding == "mono16" else np.uint8
    samples = np.random.default_rng(5).integers(0, 256, (16, 16, channels)).astype(dtype)
    if dtype is np.uint16:
        samples *= 256
    message = array_to_message(samples, encoding, Image().header, Image)
    theirs = cv_bridge.CvBridge().imgmsg_to_cv2(message, "rgb8")
    assert np.abs(message_to_rgb(message).astype(int) - theirs).max() <= 1
