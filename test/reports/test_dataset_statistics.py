"""How much is hidden in a data set, and the shape of its order."""

import numpy as np
import pytest
from helpers.stacks import MIDDLE, RIGHT, WIDE, write_chain, write_stacks

from amodal_perception.reports.dataset_statistics import rate_bins, summarise
from amodal_perception.storage import amodal_coco


@pytest.fixture
def data_set(tmp_path):
    return write_chain(tmp_path / "set")


def test_numbers_of_table_5(data_set):
    found = summarise(amodal_coco.read(data_set))
    assert (found.images, found.occluded_images) == (2, 1)
    assert (found.objects, found.occluded_objects) == (4, 2)
    assert found.occluded_image_share == 0.5
    assert found.occluded_object_share == 0.5
    assert found.mean_rate == 0.25
    assert found.mean_rate_occluded == 0.5
    assert found.histogram == (2, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0)
    assert [(c.name, c.objects, c.occluded, c.mean_rate) for c in found.classes] == [
        ("cup", 2, 0, 0.0),
        ("box", 2, 2, 0.5),
    ]
    order = found.order
    assert (order.edges, order.images, order.longest_chain) == (2, 1, 3)
    assert (order.mutual, order.cyclic_images) == (0, 0)


def test_crowds_stuff_and_unseen_objects_are_told_apart(tmp_path):
    def change(content):
        content["annotations"][0]["iscrowd"] = 1
        content["annotations"][1]["isstuff"] = 1

    path = write_stacks(tmp_path, [WIDE, WIDE, RIGHT], change=change)
    found = summarise(amodal_coco.read(path))
    assert (found.objects, found.crowds, found.stuff, found.unseen_objects) == (2, 1, 1, 1)


def test_objects_that_hide_each_other(tmp_path):
    def change(content):
        first = content["occlusions"][0]
        turned = {"occluder_id": first["occludee_id"], "occludee_id": first["occluder_id"]}
        content["occlusions"].append(first | turned)

    path = write_stacks(tmp_path, [WIDE, MIDDLE, RIGHT], [WIDE, MIDDLE], change=change)
    order = summarise(amodal_coco.read(path)).order
    assert (order.mutual, order.cyclic_images) == (1, 1)
    assert order.longest_chain == 2  # the edge within the cycle is no step of a chain


def test_rates_that_are_not_stored_are_those_of_the_masks(tmp_path):
    def change(content):
        for row in content["annotations"]:
            del row["occlusion_rate"]

    path = write_stacks(tmp_path, [WIDE, MIDDLE], change=change)
    assert summarise(amodal_coco.read(path)).mean_rate_occluded == 0.5


@pytest.mark.parametrize(
    ("rate", "wanted"),
    [(0, 0), (1e-6, 1), (0.001, 1), (0.1, 1), (0.3, 3), (0.30000001, 3), (0.31, 4), (1, 10)],
)
def test_bins_hold_their_upper_bound(rate, wanted):
    assert rate_bins(np.array([rate])).tolist() == [wanted]
