"""Random scenes: objects dropped on a table or into a bin, settled by physics; lights."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import mujoco
import numpy as np
from numpy.typing import NDArray

from training.sim.meshes import Mesh, box, rotation_xyz, sheet
from training.sim.shapes import Shape
from training.sim.textures import Finish, colour, make_finish, make_surface

Rng = np.random.Generator
Families = Mapping[str, Callable[[Rng], Shape]]

MAX_OBJECTS = 20
SURFACES = 6
LIGHTS = 4
TIMESTEP_S = 0.004
SETTLE_S = 1.8
VISIBLE_GROUP, COLLISION_GROUP = 1, 3


@dataclass(frozen=True, eq=False)
class SettledScene:
    """A scene after the objects came to rest.

    Attributes:
        model, data: MuJoCo's; `data` holds the settled poses.
        families: family of each object.
        geom_object: [ngeom] object index of each geom, -1 for background.
        background_geoms: visible geoms of table, walls, mats.
        centre: [3] middle of the objects, metres.
        radius_m: distance from it that holds most of them.
        min_elevation_deg: lowest camera that still sees into the bin.
    """

    model: mujoco.MjModel
    data: mujoco.MjData
    families: tuple[str, ...]
    geom_object: NDArray[np.int32]
    background_geoms: NDArray[np.int32]
    centre: NDArray[np.float64]
    radius_m: float
    min_elevation_deg: float


class SceneBuilder:
    """Collects meshes, materials and colliders into a MuJoCo specification."""

    def __init__(self) -> None:
        self.spec = mujoco.MjSpec()
        self.count = 0

    def _name(self) -> str:
        self.count += 1
        return f"n{self.count}"

    def material(self, finish: Finish) -> str:
        """Add a material; return its name."""
        name = self._name()
        height, width = finish.image.shape[:2]
        texture = self.spec.add_texture(
            name=name,
            type=mujoco.mjtTexture.mjTEXTURE_2D,
            width=width,
            height=height,
            nchannel=3,
        )
        texture.data = finish.image.tobytes()
        material = self.spec.add_material(
            name=name,
            specular=finish.specular,
            shininess=finish.shininess,
            rgba=[1, 1, 1, finish.alpha],
        )
        material.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = name
        return name

    def add_visual_mesh(self, body: mujoco.MjsBody, mesh: Mesh, material: str) -> None:
        """Add a mesh that is seen but weighs nothing and touches nothing."""
        name = self._name()
        self.spec.add_mesh(
            name=name,
            uservert=mesh.vertices.ravel(),
            usernormal=mesh.normals.ravel(),
            usertexcoord=(mesh.uv * (1, -1) + (0, 1)).ravel(),
            userface=mesh.faces.ravel(),
            inertia=mujoco.mjtMeshInertia.mjMESH_INERTIA_SHELL,
        )
        body.add_geom(
            type=mujoco.mjtGeom.mjGEOM_MESH,
            meshname=name,
            material=material,
            contype=0,
            conaffinity=0,
            density=0,
            group=VISIBLE_GROUP,
        )

    def add_collider(
        self,
        body: mujoco.MjsBody,
        kind: str,
        size: Sequence[float],
        offset: Sequence[float] = (0, 0, 0),
        turn: NDArray[np.float64] | None = None,
    ) -> None:
        """Add a primitive that touches others but is not seen; sizes are half sizes, metres."""
        quat = np.array([1.0, 0, 0, 0])
        if turn is not None:
            mujoco.mju_mat2Quat(quat, np.ascontiguousarray(turn).ravel())
        size3 = np.zeros(3)
        size3[: len(size)] = size
        body.add_geom(
            type=getattr(mujoco.mjtGeom, f"mjGEOM_{kind.upper()}"),
            size=size3,
            pos=offset,
            quat=quat,
            group=COLLISION_GROUP,
            density=500,
            friction=[0.7, 0.01, 0.001],
        )


def _add_surroundings(
    build: SceneBuilder, rng: Rng, *, half: float, bin_half: float | None
) -> None:
    """Table, floor, walls, posters, mats, and the bin where there is one."""
    world = build.spec.worldbody
    surfaces = [build.material(make_surface(rng)) for _ in range(SURFACES)]

    def surface() -> str:
        return surfaces[int(rng.integers(SURFACES))]

    world_half = 2.5
    if rng.random() < 0.45:  # the objects lie on the floor, or on a table that fills the view
        build.add_visual_mesh(
            world, sheet(2 * world_half, 2 * world_half, repeat=rng.uniform(1, 10)), surface()
        )
        build.add_collider(world, "plane", (world_half, world_half, 0.1))
    else:
        hx, hy = half * rng.uniform(0.9, 1.6, 2)
        thick, floor_z = rng.uniform(0.015, 0.06), -rng.uniform(0.3, 0.9)
        top = sheet(2 * hx, 2 * hy, repeat=rng.uniform(0.7, 4))
        material = surface()
        build.add_visual_mesh(world, top, material)
        slab = box((2 * hx, 2 * hy, thick)).moved((0, 0, -thick / 2 - 0.0005))
        build.add_visual_mesh(world, slab, material if rng.random() < 0.6 else surface())
        build.add_collider(world, "box", (hx, hy, 0.05), (0, 0, -0.05))
        floor = sheet(2 * world_half, 2 * world_half, repeat=rng.uniform(1, 10))
        build.add_visual_mesh(world, floor.moved((0, 0, floor_z)), surface())
    walls = int(rng.choice([0, 1, 2, 4, 4]))
    start = rng.uniform(0, 2 * np.pi)
    for k in range(walls):
        away = rng.uniform(half * 1.1, world_half)
        angle = start + k * np.pi / 2
        turn = rotation_xyz(y=-np.pi / 2) @ rotation_xyz(z=np.pi / 2)
        turn = rotation_xyz(z=angle) @ turn
        outward = np.array([np.cos(angle), np.sin(angle), 0])
        wall = sheet(2 * world_half, 3.0, repeat=rng.uniform(0.5, 5))
        build.add_visual_mesh(world, wall.moved(outward * away + (0, 0, 0.5), turn), surface())
        for _ in range(int(rng.integers(0, 3))):  # posters, windows, cupboards
            poster = sheet(rng.uniform(0.1, 0.9), rng.uniform(0.1, 0.9), cells=4)
            sideways = np.array([-outward[1], outward[0], 0]) * rng.uniform(-1, 1)
            at = outward * (away - 0.004) + sideways + (0, 0, rng.uniform(-0.1, 1.2))
            finish = make_finish("print" if rng.random() < 0.5 else "pattern", rng)
            build.add_visual_mesh(world, poster.moved(at, turn), build.material(finish))
    for _ in range(
        int(rng.choice([0, 0, 1, 2, 3]))
    ):  # mats, papers, stickers: flat, so no objects
        mat = sheet(rng.uniform(0.04, 0.5), rng.uniform(0.04, 0.5), cells=6)
        place = (*rng.normal(0, half * 0.4, 2), rng.uniform(0.001, 0.002))
        flat = make_finish("print", rng) if rng.random() < 0.5 else make_surface(rng, 128)
        turn = rotation_xyz(z=rng.uniform(0, 6.3))
        build.add_visual_mesh(world, mat.moved(place, turn), build.material(flat))
    if bin_half is not None:
        depth, thick = rng.uniform(0.06, 0.2), rng.uniform(0.004, 0.02)
        aspect = rng.uniform(0.75, 1.3)
        hx, hy = bin_half * aspect, bin_half / aspect
        material = surface()
        build.add_visual_mesh(world, box((2 * hx, 2 * hy, 0.003)).moved((0, 0, 0.0015)), material)
        other = material if rng.random() < 0.7 else surface()
        for sx, sy in ((1, 0), (-1, 0), (0, 1), (0, -1)):
            size = (thick, 2 * hy + 2 * thick, depth) if sx else (2 * hx, thick, depth)
            x, y = sx * (hx + thick / 2), sy * (hy + thick / 2)
            build.add_visual_mesh(world, box(size).moved((x, y, depth / 2)), other)
            # Taller than it looks, so that a heap does not spill over.
            build.add_collider(world, "box", (size[0] / 2, size[1] / 2, 0.4), (x, y, 0.4))


def _start_pose(shape: Shape, rng: Rng, upright: float) -> tuple[NDArray, NDArray]:
    """Rotation for the drop, and the extent [2, 3] after turning."""
    turn = rotation_xyz(z=rng.uniform(0, 2 * np.pi))
    if rng.random() > upright:
        turn = turn @ rotation_xyz(*rng.uniform(0, 2 * np.pi, 2))
    points = np.concatenate([mesh.vertices for mesh, _ in shape.parts]) @ turn.T
    return turn, np.stack([points.min(0), points.max(0)])


def _free_height(
    xy: NDArray[np.float64], extent: NDArray[np.float64], placed: list[NDArray[np.float64]]
) -> float:
    """Find the lowest height at which a box [2, 3] at xy meets none of those already placed."""
    margin_m = 0.003
    low, high = extent
    z = 0.004 - low[2]
    for other_low, other_high in sorted(placed, key=lambda box: float(box[0][2])):
        apart = (xy + low[:2] > other_high[:2] + margin_m) | (
            xy + high[:2] < other_low[:2] - margin_m
        )
        above = z + low[2] >= other_high[2] + margin_m
        below = z + high[2] <= other_low[2] - margin_m
        if not (apart.any() or above or below):
            z = other_high[2] + margin_m - low[2]
    return float(z)


def settle_scene(rng: Rng, families: Families) -> SettledScene:
    """Draw a scene and let it come to rest."""
    build = SceneBuilder()
    spec = build.spec
    names = sorted(families)
    count = int(rng.integers(1, 21)) if rng.random() < 0.5 else int(rng.integers(5, 17))
    in_bin = rng.random() < 0.25
    spread = float(np.sqrt(count) * rng.uniform(0.022, 0.085))
    upright = float(rng.choice([-1.0, 0.2, 1.0], p=[0.55, 0.2, 0.25]))
    bin_half = float(np.clip(spread * 1.3, 0.11, 0.32)) if in_bin else None
    half = max(spread * 2 + 0.15, (bin_half or 0) * 1.6, rng.uniform(0.3, 0.7))
    _add_surroundings(build, rng, half=half, bin_half=bin_half)

    if rng.random() < 0.25:  # a shop shelf or one set: few families, many of each
        names = [names[int(i)] for i in rng.integers(0, len(names), int(rng.integers(1, 4)))]
    drawn, bodies = [], []
    placed: list[NDArray[np.float64]] = []
    for _ in range(count):
        family = names[int(rng.integers(len(names)))]
        shape = families[family](rng)
        turn, extent = _start_pose(shape, rng, shape.upright if upright < 0 else upright)
        if bin_half is not None:
            xy = rng.uniform(-0.6, 0.6, 2) * bin_half
        else:
            xy = rng.normal(0, spread, 2)
        at = np.array([*xy, _free_height(xy, extent, placed)])
        placed.append(at + extent)
        quat = np.zeros(4)
        mujoco.mju_mat2Quat(quat, turn.ravel())
        body = spec.worldbody.add_body(pos=at, quat=quat)
        body.add_freejoint()
        finishes = {}
        for mesh, kind in shape.parts:
            if kind not in finishes:
                finishes[kind] = build.material(make_finish(kind, rng))
            build.add_visual_mesh(body, mesh, finishes[kind])
        for c in shape.colliders:
            build.add_collider(body, c.kind, c.size, c.offset, c.rotation)
        drawn.append(family)
        bodies.append(body)

    _set_options(spec, rng)
    model = spec.compile()
    data = mujoco.MjData(model)
    _settle(model, data)

    body_object = np.full(model.nbody, -1, np.int32)
    body_ids = np.array([body.id for body in bodies])
    body_object[body_ids] = np.arange(count)
    positions = data.xpos[body_ids]
    left = (positions[:, 2] < -0.03) | (np.abs(positions[:, :2]).max(1) > 2.0)
    for i in np.flatnonzero(left):  # gone from the table: out of sight
        data.qpos[7 * i : 7 * i + 3] = (0, 0, -100 - i)
    mujoco.mj_forward(model, data)
    stay = positions[~left] if (~left).any() else np.zeros((1, 3))
    centre = np.median(stay, axis=0)
    distance = np.linalg.norm(stay - centre, axis=1)
    visible = model.geom_group == VISIBLE_GROUP
    geom_object = body_object[model.geom_bodyid]
    return SettledScene(
        model=model,
        data=data,
        families=tuple(drawn),
        geom_object=geom_object,
        background_geoms=np.flatnonzero(visible & (geom_object < 0)).astype(np.int32),
        centre=centre,
        radius_m=float(np.quantile(distance, 0.85)) + 0.07,
        min_elevation_deg=40.0 if in_bin else 18.0,
    )


def _set_options(spec: mujoco.MjSpec, rng: Rng) -> None:
    spec.option.timestep = TIMESTEP_S
    spec.option.iterations = 30
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    spec.stat.extent = 1.0
    spec.stat.center = [0, 0, 0]
    spec.visual.map.znear = 0.02
    spec.visual.map.zfar = 20
    spec.visual.map.shadowclip = 1.0
    spec.visual.quality.shadowsize = 1024
    spec.visual.quality.offsamples = 4
    sky = [colour(rng), colour(rng)]
    spec.add_texture(
        name="sky",
        type=mujoco.mjtTexture.mjTEXTURE_SKYBOX,
        builtin=mujoco.mjtBuiltin.mjBUILTIN_GRADIENT,
        rgb1=sky[0],
        rgb2=sky[1],
        width=64,
        height=384,
    )
    spec.worldbody.add_camera(name="camera")
    for _ in range(LIGHTS):
        spec.worldbody.add_light()


def _settle(model: mujoco.MjModel, data: mujoco.MjData) -> None:
    steps = int(SETTLE_S / TIMESTEP_S)
    for step in range(steps):
        mujoco.mj_step(model, data)
        data.qvel *= 0.985  # air far thicker than real: heaps come to rest soon
        if step > 100 and step % 25 == 0 and np.abs(data.qvel).max(initial=0) < 0.02:
            break


def randomise_appearance(scene: SettledScene, rng: Rng) -> None:
    """Domain randomisation, in place: new lights, other surfaces of the surroundings."""
    model = scene.model
    model.geom_matid[scene.background_geoms[:]] = np.where(
        (rng.random(len(scene.background_geoms)) < 0.6)
        & (model.geom_matid[scene.background_geoms] < SURFACES),
        rng.integers(0, SURFACES, len(scene.background_geoms)),
        model.geom_matid[scene.background_geoms],
    )
    count = int(rng.integers(1, LIGHTS + 1))
    ambient = rng.uniform(0.18, 0.55)
    tint = 1 + rng.normal(0, 0.06, 3)
    model.vis.headlight.ambient[:] = ambient * tint
    model.vis.headlight.diffuse[:] = rng.uniform(0, 0.3) if rng.random() < 0.5 else 0
    model.vis.headlight.specular[:] = rng.uniform(0, 0.3)
    model.light_active[:] = 0
    strength = rng.dirichlet(np.full(count, 1.5)) * rng.uniform(0.55, 1.1)
    softened = count >= 2 and rng.random() < 0.5
    first = None
    for i in range(count):
        azimuth, elevation = rng.uniform(0, 2 * np.pi), np.radians(rng.uniform(25, 88))
        if softened and first is not None:  # neighbours of one lamp: a soft-edged shadow
            azimuth, elevation = first + rng.normal(0, 0.05, 2)
        first = np.array([azimuth, elevation])
        direction = np.array(
            [
                np.cos(azimuth) * np.cos(elevation),
                np.sin(azimuth) * np.cos(elevation),
                np.sin(elevation),
            ]
        )
        lamp = 1 + rng.normal(0, 0.1, 3)
        model.light_active[i] = 1
        kind = "directional" if softened or rng.random() < 0.6 else "spot"
        model.light_type[i] = getattr(mujoco.mjtLightType, f"mjLIGHT_{kind.upper()}")
        model.light_pos[i] = scene.centre + direction * rng.uniform(0.9, 2.0)
        model.light_dir[i] = -direction
        model.light_cutoff[i] = rng.uniform(30, 70)
        model.light_exponent[i] = rng.uniform(0, 10)
        model.light_attenuation[i] = (1, 0, 0)
        model.light_diffuse[i] = np.clip(strength[i] * lamp, 0, 1)
        model.light_specular[i] = np.clip(strength[i] * lamp, 0, 1) * rng.uniform(0.2, 1)
        model.light_ambient[i] = 0
        model.light_castshadow[i] = rng.random() < (1.0 if softened else 0.7)
    # MuJoCo takes light poses from data; these are set by forward kinematics.
    mujoco.mj_forward(model, scene.data)
