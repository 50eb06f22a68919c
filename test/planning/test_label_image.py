"""Instances as an image of ids."""

from __future__ import annotations

import numpy as np
from helpers.scenes import mask, stacked

from amodal_perception.planning.label_image import label_image
from amodal_perception.structures import Instances

PILE = stacked(mask("##...", "##...", "....."), mask(".###.", ".###.", ".###."))


def test_label_image_holds_ids_where_objects_are_seen():
    labels = label_image(PILE, PILE.visible)
    assert labels.dtype == np.uint16
    assert labels.tolist() == [[1, 1, 2, 2, 0], [1, 1, 2, 2, 0], [0, 2, 2, 2, 0]]


def test_label_image_of_nothing_is_empty():
    nothing = Instances.empty((3, 4))
    assert not label_image(nothing, nothing.visible).any()
