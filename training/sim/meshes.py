"""Triangle meshes with normals and texture coordinates: lathe, extrusion, sweep, box."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Mesh:
    """A triangle mesh, metres, counter-clockwise seen from outside.

    Attributes:
        vertices: [V, 3] positions.
        normals: [V, 3] unit outward normals; sharp edges have doubled vertices.
        uv: [V, 2] texture coordinates.
        faces: [F, 3] int32 vertex indices.
    """

    vertices: Array
    normals: Array
    uv: Array
    faces: NDArray[np.int32]

    def moved(
        self, offset: ArrayLike = (0, 0, 0), rotation: Array | None = None, scale: ArrayLike = 1.0
    ) -> Mesh:
        """Scale (positive, per axis), rotate, then shift."""
        scale_xyz = np.broadcast_to(np.asarray(scale, float), (3,))
        turn = np.eye(3) if rotation is None else rotation
        vertices = (self.vertices * scale_xyz) @ turn.T + np.asarray(offset, float)
        normals = _unit((self.normals / scale_xyz) @ turn.T)
        return Mesh(vertices, normals, self.uv, self.faces)

    def warped(self, displacement: Array) -> Mesh:
        """Move each vertex by [V, 3] metres; normals are kept, which suits small dents."""
        return Mesh(self.vertices + displacement, self.normals, self.uv, self.faces)


def _unit(vectors: Array) -> Array:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)


def rotation_xyz(x: float = 0.0, y: float = 0.0, z: float = 0.0) -> Array:
    """Rotation matrix about x, then y, then z, radians."""
    cx, sx, cy, sy, cz, sz = np.cos(x), np.sin(x), np.cos(y), np.sin(y), np.cos(z), np.sin(z)
    rx = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    ry = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    rz = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return rz @ ry @ rx


def _grid_faces(rows: int, cols: int) -> NDArray[np.int32]:
    """Two triangles per cell of a grid of vertices numbered row by row."""
    i, j = np.meshgrid(np.arange(rows - 1), np.arange(cols - 1), indexing="ij")
    a = (i * cols + j).ravel()
    b, c, d = a + 1, a + cols, a + cols + 1
    return np.concatenate([np.stack([a, b, d], 1), np.stack([a, d, c], 1)]).astype(np.int32)


def merge(meshes: list[Mesh]) -> Mesh:
    """Join meshes that share a material."""
    starts = np.cumsum([0] + [len(m.vertices) for m in meshes[:-1]])
    return Mesh(
        np.concatenate([m.vertices for m in meshes]),
        np.concatenate([m.normals for m in meshes]),
        np.concatenate([m.uv for m in meshes]),
        np.concatenate([m.faces + s for m, s in zip(meshes, starts)]).astype(np.int32),
    )


def lathe(
    profile_rz: ArrayLike, *, segments: int = 28, crease_deg: float = 40.0, squash: float = 1.0
) -> Mesh:
    """Revolve a profile about the z axis.

    Args:
        profile_rz: [P, 2] radius and height, metres, from the bottom up along the outside (and
            back down the inside for a vessel).
        segments: number of facets around.
        crease_deg: profile corners sharper than this keep a hard edge.
        squash: scale of the y axis, for flattened bodies.
    """
    points = np.asarray(profile_rz, float)
    steps = np.diff(points, axis=0)
    keep = np.linalg.norm(steps, axis=1) > 1e-6
    points = points[np.concatenate([[True], keep])]
    steps = _unit(np.diff(points, axis=0))
    side = np.stack([steps[:, 1], -steps[:, 0]], 1)  # outward normal of each profile segment
    rings, ring_normals, lengths = [], [], []
    travelled = 0.0
    for i, point in enumerate(points):
        before, after = side[max(i - 1, 0)], side[min(i, len(side) - 1)]
        if i > 0:
            travelled += float(np.linalg.norm(point - points[i - 1]))
        sharp = float(before @ after) < np.cos(np.radians(crease_deg))
        for normal in (before, after) if sharp else (_unit(before + after),):
            rings.append(point)
            ring_normals.append(normal)
            lengths.append(travelled)
    ring, normal_rz = np.array(rings), np.array(ring_normals)
    angle = np.linspace(0, 2 * np.pi, segments + 1)
    cos, sin = np.cos(angle), np.sin(angle)
    vertices = np.stack(
        [ring[:, :1] * cos, ring[:, :1] * sin * squash, np.repeat(ring[:, 1:], len(angle), 1)], -1
    )
    normals = np.stack(
        [
            normal_rz[:, :1] * cos,
            normal_rz[:, :1] * sin / squash,
            np.repeat(normal_rz[:, 1:], len(angle), 1),
        ],
        -1,
    )
    v = np.array(lengths) / max(travelled, 1e-9)
    uv = np.stack(np.broadcast_arrays(angle[None] / (2 * np.pi), v[:, None]), -1)
    return Mesh(
        vertices.reshape(-1, 3),
        _unit(normals.reshape(-1, 3)),
        uv.reshape(-1, 2).copy(),
        _grid_faces(len(ring), len(angle)),
    )


def extrude(
    polygon_xy: ArrayLike, height: float, *, crease_deg: float = 35.0, taper: float = 1.0
) -> Mesh:
    """Raise a polygon that is star-shaped about its mean point to a prism centred on z = 0.

    Args:
        polygon_xy: [P, 2] metres, counter-clockwise.
        height: metres.
        crease_deg: vertical edges sharper than this stay hard.
        taper: scale of the top face.
    """
    polygon = np.asarray(polygon_xy, float)
    count = len(polygon)
    edge = np.roll(polygon, -1, 0) - polygon
    flat = _unit(np.stack([edge[:, 1], -edge[:, 0]], 1))
    limit = np.cos(np.radians(crease_deg))
    perimeter = np.concatenate([[0], np.cumsum(np.linalg.norm(edge, axis=1))])
    low, high = np.ptp(polygon, 0).max(), polygon.min(0)
    vertices, normals, uv = [], [], []
    for i in range(count):
        j = (i + 1) % count
        for k, other, s in ((i, (i - 1) % count, perimeter[i]), (j, j, perimeter[i + 1])):
            normal = flat[i]
            if float(flat[i] @ flat[other]) > limit:
                normal = _unit(flat[i] + flat[other])
            for z, scale, v in ((-0.5, 1.0, 0.0), (0.5, taper, 1.0)):
                vertices.append([*(polygon[k] * scale), z * height])
                normals.append([*normal, 0.0])
                uv.append([s / perimeter[-1], v])
    a = 4 * np.arange(count)
    faces = [np.stack([a, a + 2, a + 3], 1), np.stack([a, a + 3, a + 1], 1)]
    for z, scale, sign in ((-0.5, 1.0, -1.0), (0.5, taper, 1.0)):
        start = len(vertices)
        rim = np.vstack([polygon, polygon.mean(0)])
        vertices += [[*(p * scale), z * height] for p in rim]
        normals += [[0.0, 0.0, sign]] * (count + 1)
        uv += ((rim - high) / low).tolist()
        corner = np.arange(count)
        after = (corner + 1) % count
        middle = np.full(count, count)
        fan = np.stack([middle, corner, after] if sign > 0 else [middle, after, corner])
        faces.append(fan.T + start)
    return Mesh(
        np.array(vertices), np.array(normals), np.array(uv), np.concatenate(faces).astype(np.int32)
    )


def box(size_xyz: ArrayLike) -> Mesh:
    """A box of full size (metres) centred on the origin, the whole texture on each face."""
    half = np.asarray(size_xyz, float) / 2
    vertices: list[Array] = []
    normals, uv, faces = [], [], []
    for axis in range(3):
        for sign in (-1.0, 1.0):
            # Texture u runs along the horizontal edge, v upwards, as on a printed carton.
            right = np.zeros(3)
            up = np.zeros(3)
            normal = np.zeros(3)
            normal[axis] = sign
            if axis == 2:
                right[0], up[1] = 1, sign
            else:
                up[2] = 1
                right[:] = np.cross(up, normal)
            start = len(vertices)
            for u, v in ((0, 0), (1, 0), (1, 1), (0, 1)):
                vertices.append(half * (normal + (2 * u - 1) * right + (2 * v - 1) * up))
                normals.append(normal)
                uv.append([u, v])
            faces += [[start, start + 1, start + 2], [start, start + 2, start + 3]]
    return Mesh(np.array(vertices), np.array(normals), np.array(uv), np.array(faces, np.int32))


def superellipsoid(size_xyz: ArrayLike, roundness: float = 1.0, *, segments: int = 24) -> Mesh:
    """An ellipsoid (roundness 1) to rounded box (towards 0.2) of full size, metres."""

    def power(x: Array) -> Array:
        return np.sign(x) * np.abs(x) ** roundness

    lat = np.linspace(-np.pi / 2, np.pi / 2, segments // 2 + 1)[:, None]
    lon = np.linspace(0, 2 * np.pi, segments + 1)[None]
    half = np.asarray(size_xyz, float) / 2
    x, y = power(np.cos(lat)) * power(np.cos(lon)), power(np.cos(lat)) * power(np.sin(lon))
    z = np.broadcast_to(power(np.sin(lat)), x.shape)
    grid = np.stack([x, y, z], -1) * half
    back = 2 - roundness  # the normal of x^(2/e) + y^(2/e) + z^(2/e) = 1

    def gradient(c: Array) -> Array:
        return np.sign(c) * np.abs(c) ** back

    normals = np.stack(
        [
            gradient(np.cos(lat)) * gradient(np.cos(lon)),
            gradient(np.cos(lat)) * gradient(np.sin(lon)),
            np.broadcast_to(gradient(np.sin(lat)), x.shape),
        ],
        -1,
    ) / np.maximum(half, 1e-6)
    uv = np.stack(np.broadcast_arrays(lon / (2 * np.pi), lat / np.pi + 0.5), -1)
    return Mesh(
        grid.reshape(-1, 3),
        _unit(normals.reshape(-1, 3)),
        uv.reshape(-1, 2).copy(),
        _grid_faces(*x.shape),
    )


def sweep(
    path_xyz: ArrayLike, radii: ArrayLike, *, segments: int = 10, squash: float = 1.0
) -> Mesh:
    """A tube of varying radius along a path, with flat ends.

    Args:
        path_xyz: [P, 3] metres, without sharp kinks.
        radii: scalar or [P] metres.
        segments: facets around.
        squash: thickness across the path's plane relative to in it.
    """
    path = np.asarray(path_xyz, float)
    radius = np.broadcast_to(np.asarray(radii, float), len(path))
    tangent = _unit(np.gradient(path, axis=0))
    helper = np.array([0.0, 0.0, 1.0])
    if np.abs(tangent @ helper).max() > 0.95:
        helper = np.array([0.0, 1.0, 0.0])
    if np.abs(tangent @ helper).max() > 0.95:
        helper = np.array([1.0, 0.0, 0.0])
    side = _unit(np.cross(tangent, helper))
    up = np.cross(side, tangent)
    angle = np.linspace(0, 2 * np.pi, segments + 1)
    around = side[:, None] * np.cos(angle)[None, :, None]
    around = around + up[:, None] * np.sin(angle)[None, :, None] * squash
    vertices = path[:, None] + around * radius[:, None, None]
    length = np.linspace(0, 1, len(path))
    uv = np.stack(np.broadcast_arrays(angle[None] / (2 * np.pi), length[:, None]), -1)
    tube = Mesh(
        vertices.reshape(-1, 3),
        _unit(around.reshape(-1, 3)),
        uv.reshape(-1, 2).copy(),
        _grid_faces(len(path), segments + 1)[:, ::-1].copy(),
    )
    caps = []
    for ring, centre, normal, flip in (
        (vertices[0], path[0], -tangent[0], False),
        (vertices[-1], path[-1], tangent[-1], True),
    ):
        i = np.arange(segments)
        fan = np.stack([np.full(segments, segments + 1), i, i + 1], 1)
        caps.append(
            Mesh(
                np.vstack([ring, centre]),
                np.tile(normal, (segments + 2, 1)),
                np.tile([[0.5, 0.5]], (segments + 2, 1)),
                (fan[:, ::-1] if flip else fan).astype(np.int32),
            )
        )
    return merge([tube, *caps])


def is_outward(mesh: Mesh) -> float:
    """Fraction of triangles whose winding agrees with their vertices' normals."""
    a, b, c = (mesh.vertices[mesh.faces[:, k]] for k in range(3))
    facing = np.cross(b - a, c - a)
    solid = np.linalg.norm(facing, axis=1) > 1e-12
    mean = mesh.normals[mesh.faces].mean(1)
    return float(((facing * mean).sum(1) > 0)[solid].mean())


def sheet(width: float, depth: float, *, cells: int = 16, repeat: float = 1.0) -> Mesh:
    """A one-sided rectangle facing +z, divided so that per-vertex lighting looks smooth.

    Args:
        width: extent along x, metres.
        depth: extent along y, metres.
        cells: divisions along each side.
        repeat: how often the texture is laid along each side.
    """
    axis = np.linspace(0, 1, cells + 1)
    u, v = np.meshgrid(axis, axis)
    vertices = np.stack([(u - 0.5) * width, (v - 0.5) * depth, 0 * u], -1).reshape(-1, 3)
    normals = np.tile([0.0, 0.0, 1.0], (len(vertices), 1))
    uv = np.stack([u, v], -1).reshape(-1, 2) * repeat
    return Mesh(vertices, normals, uv, _grid_faces(cells + 1, cells + 1))
