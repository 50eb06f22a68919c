import numpy as np
from helpers.scenes import mask, scene_of, stacked

from amodal_perception.drawing.overlay import draw_scene, instance_colors, text_color
from amodal_perception.structures import Instances


def test_nothing_found_leaves_the_picture_as_it_is():
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    np.testing.assert_array_equal(draw_scene(image, scene_of(Instances.empty((20, 30)))), image)


def test_visible_pixels_are_tinted_and_others_are_not():
    block = np.zeros((120, 120), np.bool_)
    block[40:80, 20:100] = True
    lower = np.zeros_like(block)
    lower[60:110, 30:90] = True
    image = np.full((120, 120, 3), 90, np.uint8)
    image.flags.writeable = False
    picture = draw_scene(image, scene_of(stacked(block, lower)))
    assert (picture[:30] == 90).all()
    assert (picture[45, 22:26] != 90).any(axis=-1).all()
    assert (picture[105, 40:50] != picture[45, 22]).any(axis=-1).all()
    assert (image == 90).all()


def test_a_one_pixel_object_can_be_drawn():
    dot = mask("...", ".#.", "...")
    picture = draw_scene(np.zeros((3, 3, 3), np.uint8), scene_of(stacked(dot)))
    assert picture[1, 1].any()


def test_colors_differ():
    colors = instance_colors(20)
    assert len({tuple(c) for c in colors.tolist()}) == 20
    assert instance_colors(0).shape == (0, 3)


def test_text_stands_out_from_every_colour():
    def luminance(rgb):
        share = np.asarray(rgb) / 255
        return np.where(share > 0.04045, ((share + 0.055) / 1.055) ** 2.4, share / 12.92) @ (
            0.2126,
            0.7152,
            0.0722,
        )

    for color in instance_colors(100):
        text = text_color(color).removeprefix("#")
        both = luminance(color), luminance([int(text[i : i + 2], 16) for i in (0, 2, 4)])
        # WCAG's contrast ratio; 4.5 is asked for small texts
        assert (max(both) + 0.05) / (min(both) + 0.05) > 4.2
