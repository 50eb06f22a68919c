"""Render a settled scene: colour, depth, and exact visible and amodal masks."""

from __future__ import annotations

from dataclasses import dataclass

import mujoco
import numpy as np
from numpy.typing import NDArray

from amodal_perception.masks import mask_windows
from amodal_perception.structures import BoolArray, FloatArray, Instances, UInt8Array
from training.sim.scene import COLLISION_GROUP, SettledScene

MIN_AMODAL_PX = 64
MIN_VISIBLE_PX = 16
_NOT_DRAWN = -1


@dataclass(frozen=True, eq=False)
class Camera:
    """A pinhole camera.

    Attributes:
        position: [3] metres, world.
        rotation: [3, 3] world from camera; x right, y up, looking along -z (OpenGL).
        fovy_deg: vertical field of view.
        size_hw: picture height and width, pixels.
    """

    position: NDArray[np.float64]
    rotation: NDArray[np.float64]
    fovy_deg: float
    size_hw: tuple[int, int]

    @property
    def matrix(self) -> NDArray[np.float64]:
        """[3, 3] camera matrix K, pixels."""
        height, width = self.size_hw
        f_px = height / 2 / np.tan(np.radians(self.fovy_deg) / 2)
        return np.array([[f_px, 0, width / 2], [0, f_px, height / 2], [0, 0, 1.0]])

    def project(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Project [N, 3] world points to [N, 2] pixels; those behind the camera give nan."""
        local = (points - self.position) @ self.rotation
        depth = -local[:, 2]
        depth = np.where(depth > 0.01, depth, np.nan)
        homogeneous = np.stack([local[:, 0] / depth, -local[:, 1] / depth, np.ones(len(points))])
        return np.asarray((self.matrix @ homogeneous)[:2].T)


def look_at(
    target: NDArray[np.float64],
    *,
    azimuth_deg: float,
    elevation_deg: float,
    distance_m: float,
    roll_deg: float,
    fovy_deg: float,
    size_hw: tuple[int, int],
) -> Camera:
    """Place a camera on a sphere about a target."""
    a, e, r = np.radians([azimuth_deg, elevation_deg, roll_deg])
    back = np.array([np.cos(a) * np.cos(e), np.sin(a) * np.cos(e), np.sin(e)])
    right = np.array([-np.sin(a), np.cos(a), 0.0])
    up = np.cross(back, right)
    turned_right = np.cos(r) * right + np.sin(r) * up
    rotation = np.stack([turned_right, np.cross(back, turned_right), back], 1)
    return Camera(target + distance_m * back, rotation, fovy_deg, size_hw)


class GlContext:
    """An off-screen OpenGL context; one per process serves every scene."""

    def __init__(self, size_hw: tuple[int, int]) -> None:
        height, width = size_hw
        self._context = mujoco.GLContext(width, height)
        self.size_hw = size_hw
        self.make_current()

    def make_current(self) -> None:
        """Make this the OpenGL context of the current thread."""
        self._context.make_current()


class SceneRenderer:
    """Draws one scene; holds its meshes and textures in OpenGL until closed."""

    def __init__(self, scene: SettledScene, gl: GlContext) -> None:
        self.scene = scene
        self._gl = gl
        gl.make_current()
        height, width = self.size_hw = gl.size_hw
        model = scene.model
        model.vis.global_.offwidth, model.vis.global_.offheight = width, height
        font = mujoco.mjtFontScale.mjFONTSCALE_50
        model.vis.quality.offsamples = 4
        self._colour = mujoco.MjrContext(model, font)
        model.vis.quality.offsamples = 0  # masks are exact: one sample at the pixel's centre
        shadow, model.vis.quality.shadowsize = model.vis.quality.shadowsize, 0
        self._truth = mujoco.MjrContext(model, font)
        model.vis.quality.shadowsize = shadow
        self._scene = mujoco.MjvScene(model, maxgeom=400)
        self._option = mujoco.MjvOption()
        self._option.geomgroup[COLLISION_GROUP] = 0
        self._view = mujoco.MjvCamera()
        self._view.type = mujoco.mjtCamera.mjCAMERA_FIXED
        self._view.fixedcamid = 0
        self._rect = mujoco.MjrRect(0, 0, width, height)

    def aim(self, camera: Camera) -> None:
        """Set the camera pose of the pictures that follow."""
        self._gl.make_current()
        scene = self.scene
        scene.data.cam_xpos[0] = camera.position
        scene.data.cam_xmat[0] = camera.rotation.ravel()
        scene.model.cam_fovy[0] = camera.fovy_deg
        mujoco.mjv_updateScene(
            scene.model,
            scene.data,
            self._option,
            mujoco.MjvPerturb(),
            self._view,
            mujoco.mjtCatBit.mjCAT_ALL,
            self._scene,
        )
        geoms = self._scene.geoms[: self._scene.ngeom]
        is_geom = [g.objtype == mujoco.mjtObj.mjOBJ_GEOM for g in geoms]
        self._geoms = [g for g, keep in zip(geoms, is_geom) if keep]
        self._owner = [int(scene.geom_object[g.objid]) for g in self._geoms]

    def colour(self) -> UInt8Array:
        """Draw the [H, W, 3] RGB picture."""
        pixels = np.empty((*self.size_hw, 3), np.uint8)
        self._flag(mujoco.mjtRndFlag.mjRND_SEGMENT, False)
        self._flag(mujoco.mjtRndFlag.mjRND_SHADOW, True)
        self._draw(self._colour, pixels, None)
        return pixels

    def depth_m(self) -> FloatArray:
        """Draw the [H, W] float32 distance along the optical axis, metres."""
        depth = np.empty(self.size_hw, np.float32)
        self._flag(mujoco.mjtRndFlag.mjRND_SEGMENT, False)
        self._flag(mujoco.mjtRndFlag.mjRND_SHADOW, False)
        self._draw(self._truth, None, depth)
        model = self.scene.model
        near = model.vis.map.znear * model.stat.extent
        far = model.vis.map.zfar * model.stat.extent
        return np.asarray(near / (1 - depth * (1 - near / far)), np.float32)

    def visible_ids(self) -> NDArray[np.int32]:
        """Draw the [H, W] index of the object seen at each pixel, -1 for background."""
        ids = [255 if owner < 0 else owner for owner in self._owner]
        drawn = self._segment(ids)
        return np.where((drawn < 0) | (drawn >= 254), -1, drawn)

    def alone_ids(self, group: list[int]) -> NDArray[np.int32]:
        """Draw some objects and nothing else: [H, W] index of the object, -1 where none is."""
        members = set(group)
        return self._segment([i if i in members else _NOT_DRAWN for i in self._owner])

    def _segment(self, ids: list[int]) -> NDArray[np.int32]:
        """Draw geoms flat in the colour of their id; ids of -1 are left out."""
        for geom, value in zip(self._geoms, ids):
            geom.segid = value
        self._flag(mujoco.mjtRndFlag.mjRND_SEGMENT, True)
        self._flag(mujoco.mjtRndFlag.mjRND_IDCOLOR, True)
        self._flag(mujoco.mjtRndFlag.mjRND_SHADOW, False)
        pixels = np.empty((*self.size_hw, 3), np.uint8)
        self._draw(self._truth, pixels, None)
        # MuJoCo writes id + 1, low byte in red.
        return pixels[..., 0].astype(np.int32) + 256 * pixels[..., 1].astype(np.int32) - 1

    def _flag(self, flag: mujoco.mjtRndFlag, value: bool) -> None:
        self._scene.flags[flag] = value

    def _draw(
        self, context: mujoco.MjrContext, pixels: UInt8Array | None, depth: FloatArray | None
    ) -> None:
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, context)
        mujoco.mjr_render(self._rect, self._scene, context)
        mujoco.mjr_readPixels(pixels, depth, self._rect, context)
        for image in (pixels, depth):
            if image is not None:
                image[:] = image[::-1].copy()

    def close(self) -> None:
        """Free the OpenGL memory."""
        self._gl.make_current()
        self._colour.free()
        self._truth.free()


def object_boxes(scene: SettledScene, camera: Camera) -> NDArray[np.float64]:
    """Bound each object's picture by projecting its meshes' boxes.

    Returns:
        [N, 4] xyxy pixels, not clipped; the whole plane for an object that reaches behind the
        camera.
    """
    model, data = scene.model, scene.data
    count = len(scene.families)
    boxes = np.tile([np.inf, np.inf, -np.inf, -np.inf], (count, 1))
    signs = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])
    for geom in np.flatnonzero((scene.geom_object >= 0) & (model.geom_group != COLLISION_GROUP)):
        owner = scene.geom_object[geom]
        centre, half = model.geom_aabb[geom, :3], model.geom_aabb[geom, 3:]
        turn = data.geom_xmat[geom].reshape(3, 3)
        corners = (centre + signs * half) @ turn.T + data.geom_xpos[geom]
        xy = camera.project(corners)
        if np.isnan(xy).any():
            xy = np.array([[-1e6, -1e6], [1e6, 1e6]])
        boxes[owner, :2] = np.minimum(boxes[owner, :2], xy.min(0))
        boxes[owner, 2:] = np.maximum(boxes[owner, 2:], xy.max(0))
    return boxes


def disjoint_groups(boxes: NDArray[np.float64], size_hw: tuple[int, int]) -> list[list[int]]:
    """Group objects by greedy graph colouring: the boxes of a group are apart.

    Objects outside the picture are left out.
    """
    height, width = size_hw
    groups: list[list[int]] = []
    order = np.argsort(boxes[:, 0] - boxes[:, 2], kind="stable")
    for i in order:
        x0, y0, x1, y1 = boxes[i]
        if x1 < 0 or y1 < 0 or x0 > width or y0 > height:
            continue
        for group in groups:
            other = boxes[group]
            meets = (
                (x0 <= other[:, 2] + 1)
                & (x1 >= other[:, 0] - 1)
                & (y0 <= other[:, 3] + 1)
                & (y1 >= other[:, 1] - 1)
            )
            if not meets.any():
                group.append(int(i))
                break
        else:
            groups.append([int(i)])
    return groups


def render_truth(renderer: SceneRenderer, camera: Camera) -> tuple[Instances, list[int]]:
    """Draw the exact masks of every object that can be seen.

    An object's amodal mask is what is drawn when nothing else is, cut at the image border.
    Objects smaller than MIN_AMODAL_PX or with fewer visible pixels than MIN_VISIBLE_PX are left
    out: nothing could find them.

    Args:
        renderer: aimed at the camera's view.
        camera: the same camera.

    Returns:
        The instances, and for each the index of its object in the scene.
    """
    visible_ids = renderer.visible_ids()
    amodal_of: dict[int, BoolArray] = {}
    boxes = object_boxes(renderer.scene, camera)
    for group in disjoint_groups(boxes, camera.size_hw):
        alone = renderer.alone_ids(group)
        for i in group:
            amodal_of[i] = alone == i
    objects, amodal, visible = [], [], []
    for i in sorted(amodal_of):
        seen = (visible_ids == i) & amodal_of[i]
        if amodal_of[i].sum() >= MIN_AMODAL_PX and seen.sum() >= MIN_VISIBLE_PX:
            objects.append(i)
            amodal.append(amodal_of[i])
            visible.append(seen)
    if not objects:
        return Instances.empty(camera.size_hw), []
    amodal_masks = np.stack(amodal)
    windows = mask_windows(amodal_masks)
    instances = Instances.from_masks(
        boxes_xyxy=windows.astype(np.float32),
        scores=np.ones(len(objects), np.float32),
        labels=np.zeros(len(objects), np.int32),
        amodal=amodal_masks,
        visible=np.stack(visible),
        windows_xyxy=windows,
    )
    return instances, objects


def sample_camera(
    scene: SettledScene, rng: np.random.Generator, size_hw: tuple[int, int]
) -> Camera:
    """Draw a view of the objects: from low to overhead, near to far, level to tilted."""
    fovy_deg = float(rng.uniform(27, 58))  # 35 to 75 degrees across a 4:3 picture
    elevation = float(np.clip(rng.normal(46, 18), scene.min_elevation_deg, 89))
    if rng.random() < 0.1:
        elevation = 89.0
    half_view = np.tan(np.radians(fovy_deg) / 2)
    distance = scene.radius_m / half_view * rng.uniform(0.62, 1.2)
    target = scene.centre + rng.normal(0, 0.12, 3) * scene.radius_m * (1, 1, 0.4)
    if rng.random() < 0.15:  # close up: objects cut by the border
        target = target + rng.normal(0, 0.35, 3) * scene.radius_m * (1, 1, 0)
        distance *= rng.uniform(0.5, 0.8)
    roll = rng.uniform(-180, 180) if rng.random() < 0.08 else rng.normal(0, 5)
    return look_at(
        target,
        azimuth_deg=float(rng.uniform(0, 360)),
        elevation_deg=elevation,
        distance_m=float(max(distance, 0.28)),
        roll_deg=float(roll),
        fovy_deg=fovy_deg,
        size_hw=size_hw,
    )
