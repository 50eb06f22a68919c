import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from amodal_perception.ordering import occlusion_graph
from amodal_perception.postprocess import PostprocessConfig, postprocess
from amodal_perception.preprocess import letterbox
from amodal_perception.runtime import RawDetections

N, M = 5, 4
INPUT_HW = (24, 32)


def view_of(camera_hw):
    return letterbox(np.zeros((*camera_hw, 3), np.uint8), INPUT_HW)[1]


def detections(boxes, scores, amodal=1.0, visible=1.0, occluder=None):
    """Fill the fixed number of rows; a number for a mask means the same everywhere."""
    rows = np.zeros((N, 4), np.float32)
    rows[: len(boxes)] = np.reshape(boxes, (-1, 4))
    padded = np.zeros(N, np.float32)
    padded[: len(scores)] = scores
    grids = [
        None if g is None else np.broadcast_to(np.asarray(g, np.float32), (N, M, M)).copy()
        for g in (amodal, visible, occluder)
    ]
    return RawDetections(rows, padded, np.zeros(N, np.int64), *grids)


def test_padding_and_low_scores_are_left_out():
    raw = detections([[0, 0, 8, 8], [10, 0, 18, 8], [20, 0, 28, 8]], [0.9, 0.5, 0.49])
    found = postprocess(raw, view_of(INPUT_HW))
    np.testing.assert_allclose(found.scores, [0.9, 0.5])
    assert found.amodal_area_px.tolist() == [64, 64]
    assert len(postprocess(raw, view_of(INPUT_HW), PostprocessConfig(score_threshold=0.0))) == 3


def test_nothing_found_is_a_normal_result():
    found = postprocess(detections([], []), view_of((48, 64)))
    assert len(found) == 0
    assert found.amodal.shape == (0, 48, 64)


def test_masks_come_back_at_camera_resolution():
    raw = detections([[8, 6, 16, 12]], [1.0])
    found = postprocess(raw, view_of((48, 64)))
    assert found.windows_xyxy.tolist() == [[16, 12, 32, 24]]
    assert found.amodal[0, 12:24, 16:32].all()
    assert found.amodal.sum() == 12 * 16


def test_of_two_that_claim_a_pixel_the_likelier_shows_it():
    raw = detections([[0, 0, 8, 8], [4, 0, 12, 8]], [0.9, 0.8])
    found = postprocess(raw, view_of(INPUT_HW))
    assert found.visible_area_px.tolist() == [64, 32]
    assert found.amodal_area_px.tolist() == [64, 64]
    graph = occlusion_graph(found)
    assert graph.edges.tolist() == [[0, 1]]


def test_an_instance_whose_pixels_all_belong_to_better_ones_is_left_out():
    raw = detections([[0, 0, 8, 8], [2, 2, 6, 6]], [0.9, 0.8])
    assert len(postprocess(raw, view_of(INPUT_HW))) == 1


def test_an_instance_that_mostly_repeats_better_ones_is_left_out():
    # Of 64 pixels each, the second has 16 of its own; the third 40, or 24 if the second is kept.
    raw = detections([[0, 0, 8, 8], [2, 0, 10, 8], [5, 0, 13, 8]], [0.9, 0.8, 0.7])
    kept = {
        share: postprocess(raw, view_of(INPUT_HW), PostprocessConfig(overlap_threshold=share))
        .windows_xyxy[:, 0]
        .tolist()
        for share in (1.0, 0.75, 0.7, 0.35, 0.0)
    }
    assert kept == {1.0: [0, 2, 5], 0.75: [0, 2, 5], 0.7: [0, 5], 0.35: [0], 0.0: [0]}


def test_an_overlap_of_exactly_the_threshold_is_kept_whatever_the_rounding():
    raw = detections([[0, 0, 10, 9], [3, 0, 13, 9]], [0.9, 0.8])  # 63 of 90 pixels in common
    assert len(postprocess(raw, view_of(INPUT_HW))) == 2
    config = PostprocessConfig(overlap_threshold=0.69)
    assert len(postprocess(raw, view_of(INPUT_HW), config)) == 1


def test_visible_pixels_outside_the_amodal_mask_are_dropped():
    left_half = np.zeros((M, M))
    left_half[:, : M // 2] = 1
    found = postprocess(detections([[0, 0, 8, 8]], [1.0], amodal=left_half), view_of(INPUT_HW))
    np.testing.assert_array_equal(found.visible, found.amodal)
    assert found.amodal_area_px.tolist() == [32]


def test_an_object_cut_by_the_border_is_truncated():
    raw = detections([[-4, 4, 4, 12], [10, 10, 20, 20]], [1.0, 0.9])
    found = postprocess(raw, view_of(INPUT_HW))
    assert found.truncated.tolist() == [True, False]
    assert found.boxes_xyxy[0].tolist() == [0, 4, 4, 12]


def test_most_instances_kept_are_the_best():
    raw = detections([[0, 0, 4, 4], [8, 0, 12, 4], [16, 0, 20, 4]], [0.9, 0.8, 0.7])
    found = postprocess(raw, view_of(INPUT_HW), PostprocessConfig(max_instances=2))
    np.testing.assert_allclose(found.scores, [0.9, 0.8])


def test_the_occluder_layer_is_pasted_where_the_system_predicts_it():
    raw = detections([[0, 0, 8, 8]], [1.0], occluder=0.7)
    assert postprocess(raw, view_of(INPUT_HW)).occluder.sum() == 64
    assert postprocess(detections([[0, 0, 8, 8]], [1.0]), view_of(INPUT_HW)).occluder is None


FLOATS = st.floats(width=32, allow_nan=True, allow_infinity=True)
UNITS = st.floats(0, 1, width=32)


@settings(max_examples=200, deadline=None)
@given(
    data=st.data(),
    camera_hw=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    wild=st.booleans(),
)
def test_whatever_the_network_gives_the_invariants_hold(data, camera_hw, wild):
    coordinate = FLOATS if wild else st.floats(-10, 40, width=32)
    boxes = data.draw(st.lists(st.lists(coordinate, min_size=4, max_size=4), max_size=N))
    scores = data.draw(
        st.lists(FLOATS if wild else UNITS, min_size=len(boxes), max_size=len(boxes))
    )
    seed = data.draw(st.integers(0, 2**16))
    rng = np.random.default_rng(seed)
    raw = detections(
        boxes,
        scores,
        amodal=rng.random((N, M, M)),
        visible=rng.random((N, M, M)),
    )
    with np.errstate(all="ignore"):
        found = postprocess(raw, view_of(camera_hw), PostprocessConfig(score_threshold=0.3))
    assert found.size_hw == camera_hw
    assert not (found.visible & ~found.amodal).any()
    assert found.visible.sum(axis=0).max(initial=0) <= 1
    assert found.visible.any(axis=(1, 2)).all()
    assert (np.diff(found.scores) <= 0).all()
    height, width = camera_hw
    assert ((found.boxes_xyxy >= 0) & (found.boxes_xyxy <= [width, height, width, height])).all()
    for i in range(len(found)):
        assert found.amodal[i].sum() == found.amodal[i][found.window(i)].sum()
    graph = occlusion_graph(found)
    assert sorted(graph.removal_order.tolist()) == list(range(len(found)))
