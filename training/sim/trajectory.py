"""Render one settled scene from a moving camera: colour, depth, poses and truth of each frame."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from amodal_perception.structures import FloatArray, Instances, UInt8Array
from training.sim.camera_effects import CameraEffects, apply_effects
from training.sim.gl import choose_renderer


@dataclass(frozen=True, eq=False)
class FilmFrame:
    """One picture of a film.

    Attributes:
        image: [H, W, 3] uint8 RGB, not yet compressed.
        depth_m: [H, W] float32 along the optical axis, metres.
        camera_matrix: [3, 3] K, pixels.
        T_world_camera: [4, 4] pose; x right, y down, z forward.
        truth: exact masks.
        families: the shape family of each instance of the truth.
        objects: which object of the scene each instance is: the same number in every picture.
    """

    image: UInt8Array
    depth_m: FloatArray
    camera_matrix: NDArray[np.float64]
    T_world_camera: NDArray[np.float64]
    truth: Instances
    families: tuple[str, ...]
    objects: tuple[int, ...]


# A good indoor camera: slight blur and noise, the same for all frames.
FILM_CAMERA = CameraEffects(
    gain_rgb=(1.15, 1.12, 1.08),
    contrast=0.95,
    saturation=0.9,
    vignette=0.12,
    defocus_px=0.6,
    shot_noise=0.015,
    read_noise=0.005,
)


def render_trajectory(
    seed: int,
    frames: int,
    *,
    families: str = "train",
    size_hw: tuple[int, int] = (480, 640),
    fovy_deg: float = 42.0,
    sweep_deg: float = 25.0,
    effects: CameraEffects = FILM_CAMERA,
) -> Iterator[FilmFrame]:
    """Let a camera circle about a scene, rising or sinking a little and coming nearer.

    Args:
        seed: draws the scene, its look and the path.
        frames: number of pictures.
        families: which shapes: train, heldout or mixed.
        size_hw: picture height and width, pixels.
        fovy_deg: vertical field of view.
        sweep_deg: angle travelled around the scene from first to last frame.
        effects: the camera's look.
    """
    choose_renderer()
    from training.sim.render import GlContext, SceneRenderer, look_at, render_truth
    from training.sim.scene import randomise_appearance, settle_scene
    from training.sim.shapes import family_set

    scene = settle_scene(np.random.default_rng([seed, 0]), family_set(families))
    rng = np.random.default_rng([seed, 1])
    randomise_appearance(scene, rng)
    azimuth_deg = rng.uniform(0, 360)
    elevation_deg = np.array([1, 1]) * rng.uniform(max(scene.min_elevation_deg, 32), 60)
    elevation_deg[1] += rng.uniform(-6, 12)
    nearness = np.array([1.0, rng.uniform(0.85, 1.0)]) * rng.uniform(0.8, 0.95)
    distance_m = scene.radius_m / np.tan(np.radians(fovy_deg) / 2) * nearness
    gl = GlContext(size_hw)
    renderer = SceneRenderer(scene, gl)
    try:
        for t in np.linspace(0, 1, frames):
            camera = look_at(
                scene.centre,
                azimuth_deg=azimuth_deg + sweep_deg * t,
                elevation_deg=float(np.interp(t, (0, 1), elevation_deg)),
                distance_m=max(float(np.interp(t, (0, 1), distance_m)), 0.3),
                roll_deg=0.0,
                fovy_deg=fovy_deg,
                size_hw=size_hw,
            )
            renderer.aim(camera)
            truth, objects = render_truth(renderer, camera)
            pose = np.eye(4)
            pose[:3, :3] = camera.rotation @ np.diag([1.0, -1.0, -1.0])
            pose[:3, 3] = camera.position
            yield FilmFrame(
                image=apply_effects(renderer.colour(), effects, rng),
                depth_m=renderer.depth_m(),
                camera_matrix=camera.matrix,
                T_world_camera=pose,
                truth=truth,
                families=tuple(scene.families[i] for i in objects),
                objects=tuple(int(i) for i in objects),
            )
    finally:
        renderer.close()
