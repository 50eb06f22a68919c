"""Odd pictures, as people have them: every one is read right, or refused with its reason."""

import struct
import zlib
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amodal_perception.conversions import pictures
from amodal_perception.conversions.images import message_to_rgb
from amodal_perception.conversions.pictures import PictureRules, decode_picture
from amodal_perception.errors import ImageError

# Four patches, none like another, so that every way of lying differs.
PATCHES = np.zeros((48, 32, 3), np.uint8)
PATCHES[:24, :16], PATCHES[:24, 16:] = (220, 30, 40), (30, 210, 50)
PATCHES[24:, :16], PATCHES[24:, 16:] = (40, 50, 230), (240, 240, 60)
RAMP = np.linspace(0, 1, 48 * 32).reshape(48, 32)
FLAGS = {
    ".webp": [cv2.IMWRITE_WEBP_QUALITY, 101],
    ".jpg": [cv2.IMWRITE_JPEG_QUALITY, 100],
    ".tiff": [cv2.IMWRITE_TIFF_COMPRESSION, 5],  # LZW; else colours of floats are rounded
}


def encoded(ending, image=PATCHES):
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR) if image.ndim == 3 else image
    return cv2.imencode(ending, bgr, FLAGS.get(ending, []))[1].tobytes()


def decode(content, **rules):
    return decode_picture(np.frombuffer(content, np.uint8), "a", PictureRules(**rules))


def exif(orientation, order):
    mark, prefix = ("<", b"II") if order == "little" else (">", b"MM")
    return prefix + struct.pack(
        mark + "HIHHHIHHHHIHHI", 42, 8, 2, 0x010F, 2, 4, 0, 0, 0x0112, 3, 1, orientation, 0, 0
    )


def jpeg_lying(orientation, order="little"):
    block = b"Exif\0\0" + exif(orientation, order)
    content = encoded(".jpg")
    return content[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + content[2:]


def webp_lying(orientation, order="little", prefix=b""):
    block = prefix + exif(orientation, order)
    block += b"\0" * (len(block) % 2)
    size = b"".join(n.to_bytes(3, "little") for n in (31, 47))
    extended = b"VP8X" + struct.pack("<I", 10) + b"\x08\0\0\0" + size
    content = encoded(".webp")[12:] if encoded(".webp")[12:16] != b"VP8X" else None
    assert content is not None
    body = b"WEBP" + extended + content + b"EXIF" + struct.pack("<I", len(block)) + block
    return b"RIFF" + struct.pack("<I", len(body)) + body


def agrees(image, expected):
    assert image.shape == expected.shape
    assert np.abs(image.astype(int) - expected).mean() < 4  # lossy at the edges of patches


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("order", ["little", "big"])
@pytest.mark.parametrize("prefix", [b"", b"Exif\0\0"])
def test_a_webp_is_turned_as_a_jpeg_is(orientation, order, prefix):
    upright = decode(jpeg_lying(orientation, order))
    agrees(decode(webp_lying(orientation, order, prefix)), upright)
    agrees(decode(webp_lying(orientation, order, prefix), upright=False), PATCHES)
    assert upright.shape[:2] == ((48, 32) if orientation < 5 else (32, 48))


@given(exif=st.binary(max_size=40) | st.binary(max_size=40).map(lambda b: b"II*\0\x08\0\0\0" + b))
def test_a_damaged_exif_block_turns_nothing_over(exif):
    assert 1 <= pictures._exif_orientation(exif) <= 8


@pytest.mark.parametrize("ending", [".png", ".tiff"])
@pytest.mark.parametrize("bits", [10, 12, 14, 16])
@pytest.mark.parametrize("channels", [1, 3])
def test_16_bit_samples_fill_the_range_they_use(ending, bits, channels):
    samples = np.rint(RAMP * (2**bits - 1)).astype(np.uint16)
    if channels == 3:
        samples = np.dstack([samples] * 3)
    content = encoded(ending, samples)
    image = decode(content, grey_bits=bits)
    agrees(image, np.dstack([np.rint(RAMP * 255)] * 3))


def test_16_bit_colour_that_uses_fewer_bits_says_so(caplog):
    pictures._warn_of_scaling.cache_clear()
    samples = np.rint(np.dstack([RAMP, RAMP[::-1], RAMP]) * 4095).astype(np.uint16)
    for _ in range(2):
        decode(encoded(".png", samples))
    assert len(caplog.records) == 1
    assert "12 bits" in caplog.text


def test_16_bit_grey_is_refused_as_it_may_be_depth():
    depth = np.full((4, 4), 900, np.uint16)
    with pytest.raises(ImageError, match=r"may be depth.*--grey-bits"):
        decode(encoded(".png", depth))
    with pytest.raises(ImageError, match="samples up to 900, more than 9 bits hold"):
        decode(encoded(".png", depth), grey_bits=9)


@pytest.mark.parametrize("ending", [".png", ".tiff"])
def test_16_bit_grey_stored_as_colour_is_grey(ending):
    depth = np.linspace(300, 4000, 16).astype(np.uint16).reshape(4, 4)
    content = encoded(ending, np.dstack([depth] * 3))
    with pytest.raises(ImageError, match=r"may be depth.*--grey-bits"):
        decode(content)
    np.testing.assert_array_equal(decode(content, grey_bits=12)[:, :, 0], depth >> 4)


def test_16_bit_grey_with_alpha_is_grey():
    header = b"IHDR" + struct.pack(">IIBBBBB", 4, 4, 16, 4, 0, 0, 0)
    rows = b"IDAT" + zlib.compress((b"\0" + struct.pack(">HH", 900, 65535) * 4) * 4)
    chunks = [
        struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
        for body in (header, rows, b"IEND")
    ]
    with pytest.raises(ImageError, match="may be depth"):
        decode(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))


def test_16_bit_colour_on_a_topic_may_happen_to_be_grey():
    content = encoded(".png", np.full((4, 4, 3), 40_000, np.uint16))
    assert message_to_rgb(message(content, "bgr16; png compressed bgr16")).max() == 40_000 >> 8


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99), "HEIC.*convert it to JPEG"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        (b"\n <!DOCTYPE html><title>404</title>", "web page"),
        (b"\0" * 99, "not a picture, or is damaged"),
    ],
)
def test_what_is_no_picture_is_called_what_it_is(content, what):
    with pytest.raises(ImageError, match=what):
        decode(content)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, np.int16])
def test_one_number_a_pixel_is_no_photograph(dtype):
    with pytest.raises(ImageError, match="no photograph"):
        decode(encoded(".tiff", np.ones((4, 4), dtype)))


def test_floating_point_colours_are_0_to_1_or_refused():
    colours = (PATCHES / 255).astype(np.float32)
    agrees(decode(encoded(".tiff", colours)), PATCHES)
    for wrong in (colours * 255, colours - 1, colours * np.nan):
        with pytest.raises(ImageError, match="outside 0 to 1"):
            decode(encoded(".tiff", wrong))


@pytest.mark.parametrize("mode", ["P", "L", "LA", "1", "RGBA", "CMYK"])
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "JPEG", "WEBP"])
def test_palettes_alpha_and_print_colours_are_read_as_pillow_does(mode, kind):
    image_module = pytest.importorskip("PIL.Image")
    import io

    picture = image_module.fromarray(PATCHES).convert(mode)
    file = io.BytesIO()
    try:
        picture.save(file, kind, **({"lossless": True} if kind == "WEBP" else {"quality": 100}))
    except OSError:
        pytest.skip(f"no {kind} of mode {mode}")
    file.seek(0)
    theirs = np.asarray(image_module.open(file).convert("RGB"))
    agrees(decode(file.getvalue()), theirs)


def message(content, message_format="jpeg"):
    return SimpleNamespace(format=message_format, data=np.frombuffer(content, np.uint8))


@settings(max_examples=50, deadline=None)
@given(
    zeros=st.integers(0, 300_000),
    rubbish=st.binary(max_size=30),
    progressive=st.booleans(),
)
def test_what_lies_behind_a_jpeg_does_no_harm(zeros, rubbish, progressive):
    flags = [cv2.IMWRITE_JPEG_PROGRESSIVE, int(progressive)]
    content = cv2.imencode(".jpg", PATCHES, flags)[1].tobytes()
    expected = decode(content)
    padded = content + bytes(zeros) + rubbish
    np.testing.assert_array_equal(decode(padded), expected)
    np.testing.assert_array_equal(message_to_rgb(message(padded)), expected)


SCAN_HEADER_BYTES = 14


@settings(max_examples=50, deadline=None)
@given(kept=st.floats(0, 1), zeros=st.integers(0, 10_000), stale=st.booleans())
def test_a_jpeg_that_ends_early_is_refused_whatever_follows(kept, zeros, stale):
    noise = np.random.default_rng(0).integers(0, 256, (48, 32, 3), np.uint8)
    content = encoded(".jpg", noise)
    rest = bytes(zeros) + (encoded(".jpg") + b"rest" if stale else b"")
    samples_at = content.index(b"\xff\xda") + SCAN_HEADER_BYTES
    cut = content[: samples_at + int(kept * (len(content) - 2 - samples_at))] + rest
    for read in (decode, lambda c: message_to_rgb(message(c))):
        with pytest.raises(ImageError, match=r"cut short|is damaged"):
            read(cut)


@given(kept=st.integers(0, 2000), zeros=st.integers(0, 10_000))
def test_a_jpeg_of_which_the_header_is_cut_is_refused(kept, zeros):
    content = encoded(".jpg")
    cut = content[: min(kept, content.index(b"\xff\xda"))] + bytes(zeros)
    with pytest.raises(ImageError, match="damaged"):
        decode(cut)
    with pytest.raises(ImageError):
        message_to_rgb(message(cut))


def test_grey_pngs_on_topics_follow_the_same_rules():
    grey = encoded(".png", np.full((4, 4), 40_000, np.uint16))
    assert message_to_rgb(message(grey, "mono16; png compressed"))[0, 0, 0] == 40_000 >> 8
    with pytest.raises(ImageError, match=r"may be depth.*topic"):
        message_to_rgb(message(grey, "png"))
