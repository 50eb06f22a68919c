"""Image files, written, read, and damaged."""

import numpy as np
import pytest

from amodal_perception.conversions.pictures import decode_picture
from amodal_perception.errors import ImageError
from amodal_perception.storage.image_files import read_image, write_image


def picture(path, height=60, width=80):
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    write_image(path, image)
    return image


def test_an_image_file_comes_back_bit_for_bit(tmp_path):
    image = picture(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), image)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.02])
def test_a_truncated_picture_is_refused(tmp_path, share):
    picture(tmp_path / "a.png")
    content = np.fromfile(tmp_path / "a.png", np.uint8)
    with pytest.raises(ImageError, match=r"camera: (is not a picture|PNG image cut short)"):
        decode_picture(content[: int(len(content) * share)], "camera")
