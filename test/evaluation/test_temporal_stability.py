from __future__ import annotations

import numpy as np
import pytest
from helpers.scenes import instances
from hypothesis import given, settings
from hypothesis import strategies as st

from amodal_perception.evaluation.temporal_stability import (
    ComparedScene,
    StableIds,
    compare_scenes,
    temporal_stability,
)
from amodal_perception.structures import Instances

SIZE_HW = (20, 40)


def spans_of(*objects: tuple[str, str], labels=None) -> Instances:
    """Objects of one row of pixels each: (amodal, visible) as texts of columns "3-7"."""

    def drawn(columns: str) -> np.ndarray:
        image = np.zeros(SIZE_HW, np.bool_)
        if columns:
            first, last = map(int, columns.split("-"))
            image[5, first : last + 1] = True
        return image

    amodal, visible = (
        np.array([drawn(pair[i]) for pair in objects], np.bool_).reshape(-1, *SIZE_HW)
        for i in range(2)
    )
    return instances(amodal, visible, labels=labels)


def view(*objects, edges=(), labels=None, tracks=()) -> ComparedScene:
    return ComparedScene(
        spans_of(*objects, labels=labels), np.array(edges, np.int32).reshape(-1, 2), tuple(tracks)
    )


def test_what_changed_computed_by_hand():
    # The first moves by one of its ten columns; of the second two more columns are hidden.
    before = view(("0-9", "0-9"), ("20-29", "20-25"), edges=[(0, 1)])
    after = view(("20-29", "20-23"), ("1-10", "1-10"), edges=[(1, 0)])
    change = compare_scenes(before, after)
    assert change.previous_of.tolist() == [1, 0]
    assert (change.kept, change.appeared, change.vanished) == (2, 0, 0)
    # Best first: the second object's amodal masks are equal.
    np.testing.assert_allclose(change.amodal_iou, [1, 9 / 11])
    np.testing.assert_allclose(change.visible_iou, [4 / 6, 9 / 11])
    np.testing.assert_allclose(change.hidden_iou, [4 / 6, np.nan])
    assert (change.edges_kept, change.edges_new, change.edges_gone) == (1, 0, 0)


def test_edges_between_kept_objects_only():
    objects = [("0-4", "0-4"), ("10-14", "10-14"), ("20-24", "20-24"), ("30-34", "30-34")]
    before = view(*objects, edges=[(0, 1), (1, 2), (3, 0)])
    after = view(*objects[:3], ("36-39", "36-39"), edges=[(1, 0), (1, 2), (3, 1)])
    change = compare_scenes(before, after)
    assert (change.kept, change.appeared, change.vanished) == (3, 1, 1)
    # (1, 2) stays, (0, 1) turns round; the edges of what came and went are not theirs to keep.
    assert (change.edges_kept, change.edges_new, change.edges_gone) == (1, 1, 1)
    assert change.edges_reversed == 1


@pytest.mark.parametrize(
    ("before", "after", "kept"),
    [
        (("0-9", "0-9"), ("5-14", "5-14"), 0),  # IoU 5/15
        (("0-8", "0-8"), ("3-11", "3-11"), 1),  # 6/12: just enough
        (("0-9", "0-4"), ("0-29", "0-4"), 1),  # the amodal mask jumps, the visible one stays
        (("0-9", "0-9"), ("0-9", "0-1"), 1),  # something else comes in front
        (("0-9", ""), ("0-9", ""), 1),  # nothing of it is seen
    ],
)
def test_either_mask_can_identify(before, after, kept):
    assert compare_scenes(view(before), view(after)).kept == kept


def test_each_object_is_found_once_the_better_pair_first():
    change = compare_scenes(view(("0-9", "0-9")), view(("2-11", "2-11"), ("1-10", "1-10")))
    assert change.previous_of.tolist() == [-1, 0]
    assert (change.kept, change.appeared, change.vanished) == (1, 1, 0)


def test_images_of_two_sizes_share_nothing():
    other = Instances.empty((5, 5))
    change = compare_scenes(view(("0-9", "0-9")), ComparedScene(other, np.zeros((0, 2), np.int32)))
    assert (change.kept, change.vanished) == (0, 1)


def test_classes_and_tracks():
    one, two = ("0-9", "0-9"), ("20-29", "20-29")
    change = compare_scenes(
        view(one, two, labels=[0, 1], tracks=["a", "b"]),
        view(one, two, labels=[0, 2], tracks=["b", "b"]),
    )
    assert (change.labels_changed, change.tracks_changed) == (1, 1)
    figures = temporal_stability([change])
    assert (figures["labels_changed"], figures["tracks_changed"]) == (0.5, 0.5)
    assert compare_scenes(view(one), view(one)).tracks_changed is None
    assert "tracks_changed" not in temporal_stability([compare_scenes(view(one), view(one))])


def test_a_film_computed_by_hand():
    still = view(("0-9", "0-9"), ("20-29", "20-24"), edges=[(0, 1)])
    gone = view(("0-9", "0-9"))
    figures = temporal_stability([compare_scenes(still, still), compare_scenes(still, gone)])
    assert figures == {
        "pairs": 2,
        "objects_kept": 0.75,  # 3 kept, 1 gone
        "amodal_iou": 1,
        "visible_iou": 1,
        "hidden_iou": 1,
        "edges_kept": 1,  # the edge of what is gone does not count
        "edges_reversed": 0,
        "labels_changed": 0,
    }
    assert temporal_stability([]) == {"pairs": 0}
    empty = ComparedScene(Instances.empty(SIZE_HW), np.zeros((0, 2), np.int32))
    assert temporal_stability([compare_scenes(empty, empty)]) == {"pairs": 1}


def test_ids_stay_as_long_as_objects_do():
    one, two, three = ("0-5", "0-5"), ("10-15", "10-15"), ("20-25", "20-25")
    film = [view(one, two), view(two, one, three), view(one), view(two, one)]
    names, ids, before = [], StableIds(), None
    for scene in film:
        change = compare_scenes(before, scene) if before else None
        names.append(ids.update(change, len(scene.instances)).tolist())
        before = scene
    assert names == [[0, 1], [1, 0, 2], [0], [3, 0]]


spans = st.tuples(st.integers(0, 30), st.integers(1, 9)).map(lambda s: f"{s[0]}-{s[0] + s[1]}")
scenes = st.lists(spans.map(lambda span: (span, span)), max_size=5, unique=True)


@settings(max_examples=60, deadline=None)
@given(scenes, scenes)
def test_comparing_is_symmetric_and_bounded(a, b):
    there, back = compare_scenes(view(*a), view(*b)), compare_scenes(view(*b), view(*a))
    assert there.kept == back.kept
    assert (there.appeared, there.vanished) == (back.vanished, back.appeared)
    np.testing.assert_allclose(sorted(there.amodal_iou), sorted(back.amodal_iou))
    assert ((there.amodal_iou >= 0.5) & (there.amodal_iou <= 1)).all()
    found = there.previous_of[there.previous_of >= 0]
    assert len(set(found.tolist())) == len(found) == there.kept
    same = compare_scenes(view(*a), view(*a))
    assert same.kept == len(a)
    assert (same.amodal_iou == 1).all()
