import numpy as np
import pytest

from training.sim.meshes import (
    box,
    extrude,
    is_outward,
    lathe,
    merge,
    rotation_xyz,
    sheet,
    superellipsoid,
    sweep,
)

SQUARE = [(-1, -1), (1, -1), (1, 1), (-1, 1)]
LINE = np.linspace(0, 1, 5)[:, None]


def enclosed_volume(mesh):
    a, b, c = (mesh.vertices[mesh.faces[:, k]] for k in range(3))
    return float((a * np.cross(b, c)).sum() / 6)


SOLIDS = {
    "box": (box((1, 2, 3)), 6.0),
    "prism": (extrude(SQUARE, 3), 12.0),
    "frustum": (extrude(SQUARE, 3, taper=0.5), 3 / 3 * (4 + 1 + 2)),
    "can": (lathe([(0, 0), (1, 0), (1, 2), (0, 2)], segments=200), 2 * np.pi),
    "flat can": (lathe([(0, 0), (1, 0), (1, 2), (0, 2)], segments=200, squash=0.5), np.pi),
    "hollow cup": (
        lathe([(0, 0), (2, 0), (2, 2), (1, 2), (1, 1), (0, 1)], segments=200),
        np.pi * (4 * 2 - 1),
    ),
    "ball": (superellipsoid((2, 2, 2), segments=100), 4 / 3 * np.pi),
    "rod along x": (sweep(LINE * (1, 0, 0), 0.1, segments=100), np.pi * 0.01),
    "rod along z": (sweep(LINE * (0, 0, 1), 0.1, segments=100), np.pi * 0.01),
}


@pytest.mark.parametrize("name", SOLIDS)
def test_solids_are_closed_and_face_outward(name):
    mesh, volume = SOLIDS[name]
    # The divergence theorem gives the volume only of a closed surface, wound the right way.
    assert enclosed_volume(mesh) == pytest.approx(volume, rel=0.01)
    assert is_outward(mesh) == 1.0


@pytest.mark.parametrize("name", SOLIDS)
def test_every_vertex_has_unit_normal_and_texture_coordinates(name):
    mesh, _ = SOLIDS[name]
    assert np.allclose(np.linalg.norm(mesh.normals, axis=1), 1)
    assert mesh.uv.shape == (len(mesh.vertices), 2)
    assert mesh.faces.min() >= 0
    assert mesh.faces.max() < len(mesh.vertices)


def test_moved_scales_then_turns_then_shifts():
    moved = box((2, 2, 2)).moved((10, 0, 0), rotation_xyz(z=np.pi / 2), (1, 2, 3))
    assert np.allclose(moved.vertices.min(0), (10 - 2, -1, -3))
    assert np.allclose(moved.vertices.max(0), (10 + 2, 1, 3))
    assert is_outward(moved) == 1.0


def test_merge_keeps_both_volumes():
    both = merge([box((1, 1, 1)), box((1, 1, 1)).moved((5, 0, 0))])
    assert enclosed_volume(both) == pytest.approx(2.0)


def test_sharp_profile_corners_keep_two_normals_and_smooth_ones_one():
    can = lathe([(0, 0), (1, 0), (1, 1), (0, 1)], segments=8)
    assert len(can.vertices) == 6 * 9  # each of the two corners is doubled
    bend = np.radians(10)
    barrel = lathe([(1, 0), (1, 1), (1 + np.sin(bend), 1 + np.cos(bend))], segments=8)
    assert len(barrel.vertices) == 3 * 9


def test_sheet_faces_up_and_repeats_its_texture():
    mesh = sheet(2, 4, cells=3, repeat=5)
    assert np.ptp(mesh.vertices, axis=0).tolist() == [2, 4, 0]
    assert mesh.uv.max() == 5
    assert is_outward(mesh) == 1.0
