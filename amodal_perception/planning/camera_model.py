"""Cameras as geometry: pixels to viewing rays and back, with lens distortion."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

ITERATIONS = 40
PRECISION = 1e-9
# A polynomial of distortion turns back somewhere outside the calibrated picture. There a ray that
# is found does not lead back to its pixel.
MAX_RETURN_PX = 0.5


@dataclass(frozen=True)
class Intrinsics:
    """A pinhole camera, perhaps with a lens that distorts; the first pixel's centre is (0, 0).

    Attributes:
        fx_px: focal length across, pixels.
        fy_px: focal length down, pixels.
        cx_px: column of the optical axis.
        cy_px: row of the optical axis.
        distortion: OpenCV's coefficients: none where the image is rectified; 4, 5, 8, 12 or 14 of
            the rational model, 4 of the fisheye model.
        is_fisheye: which of the two they are.
    """

    fx_px: float
    fy_px: float
    cx_px: float
    cy_px: float
    distortion: tuple[float, ...] = ()
    is_fisheye: bool = False

    @property
    def matrix(self) -> Floats:
        """[3, 3] camera matrix K, pixels."""
        return np.array([[self.fx_px, 0, self.cx_px], [0, self.fy_px, self.cy_px], [0, 0, 1]])


def pixel_rays(camera: Intrinsics, xs_px: NDArray, ys_px: NDArray) -> tuple[Floats, Floats]:
    """Unproject pixels onto the plane one metre in front of the camera.

    Args:
        camera: its model.
        xs_px: [N] columns.
        ys_px: [N] rows.

    Returns:
        [N] metres right of, and [N] metres below the optical axis, for each metre along it; NaN
        where the lens model has no answer.
    """
    if not camera.distortion or not len(xs_px):
        x = (np.asarray(xs_px, np.float64) - camera.cx_px) / camera.fx_px
        return x, (np.asarray(ys_px, np.float64) - camera.cy_px) / camera.fy_px
    pixels = np.stack([xs_px, ys_px], axis=-1).astype(np.float64)[:, None]
    coefficients = np.array(camera.distortion)
    if camera.is_fisheye:
        rays = cv2.fisheye.undistortPoints(pixels, camera.matrix, coefficients)
    else:
        stop = cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, ITERATIONS, PRECISION
        unit = np.eye(3)
        rays = cv2.undistortPointsIter(pixels, camera.matrix, coefficients, unit, unit, stop)
    x, y = np.array(rays[:, 0], np.float64).T
    back = project_points(camera, np.column_stack([x, y, np.ones(len(x))]))
    with np.errstate(invalid="ignore"):
        is_found = np.abs(back - pixels[:, 0]).max(axis=1) <= MAX_RETURN_PX
    return np.where(is_found, x, np.nan), np.where(is_found, y, np.nan)


def project_points(camera: Intrinsics, points_xyz: Floats) -> Floats:
    """Project points in front of the camera.

    Args:
        camera: its model.
        points_xyz: [N, 3] metres, in the optical frame (REP 103).

    Returns:
        [N, 2] pixels.
    """
    ahead = points_xyz[:, :2] / points_xyz[:, 2:]
    if not camera.distortion or not len(points_xyz):
        return ahead * (camera.fx_px, camera.fy_px) + (camera.cx_px, camera.cy_px)
    points, still = np.column_stack([ahead, np.ones(len(ahead))])[:, None], np.zeros(3)
    lens = camera.matrix, np.array(camera.distortion)
    if camera.is_fisheye:
        return np.asarray(cv2.fisheye.projectPoints(points, still, still, *lens)[0][:, 0])
    return np.asarray(cv2.projectPoints(points, still, still, *lens)[0][:, 0])
