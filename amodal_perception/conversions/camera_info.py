"""sensor_msgs/CameraInfo -> the model of the camera whose image is looked at, without ROS."""

from __future__ import annotations

import math
import re
from typing import Any

from amodal_perception.errors import ImageError
from amodal_perception.planning.camera_model import Intrinsics

IMAGE_GEOMETRIES = ("auto", "raw", "rectified")

# Distortion models of sensor_msgs/distortion_models.hpp, with the numbers of coefficients.
RATIONAL_MODELS = ("plumb_bob", "rational_polynomial")
FISHEYE_MODELS = ("equidistant", "fisheye")
RATIONAL_LENGTHS = (4, 5, 8, 12, 14)
FISHEYE_LENGTH = 4
MAX_NAME = 32


class CameraInfoError(ImageError):
    """A camera_info that does not say how the image was projected."""


def is_rectified(info: Any, topic: str, geometry: str = "auto") -> bool:
    """Tell whether an image is rectified, which its message does not say.

    Args:
        info: its camera_info.
        topic: name of the image topic.
        geometry: ``raw``, ``rectified``, or ``auto``: rectified where a word of the topic's name
            is rect, rectified or rectify (as in ``/camera/image_rect``), or the lens has no
            distortion.
    """
    if geometry != "auto":
        return geometry == "rectified"
    words = re.split(r"[^a-z]+", topic.lower())
    return bool({"rect", "rectified", "rectify"} & set(words)) or not any(info.d)


def camera_of_image(
    info: Any, size_hw: tuple[int, int], topic: str, geometry: str = "auto"
) -> Intrinsics:
    """Read the camera model that an image was made by: P where it is rectified, else K and D.

    P of the second camera of a stereo pair also moves the origin to the first. Points are wanted
    in the image's own frame, so that part is left out.

    Args:
        info: sensor_msgs/CameraInfo; K and P are of the whole sensor, binning and region of
            interest (``roi``) say what of it the image shows.
        size_hw: height and width of the image, pixels.
        topic: name of the image topic; see `is_rectified`.
        geometry: see `is_rectified`.

    Raises:
        CameraInfoError: not calibrated, of an image of another size, or by an unknown lens model.
    """
    binning_xy = max(int(info.binning_x), 1), max(int(info.binning_y), 1)
    _check_size(info, binning_xy, size_hw)
    p, k = [float(v) for v in info.p], [float(v) for v in info.k]
    of_p, of_k = (p[0], p[5], p[2], p[6]), (k[0], k[4], k[2], k[5])
    rectified = is_rectified(info, topic, geometry)
    if _is_set(of_p) and (rectified or not _is_set(of_k)):
        numbers, rectified = of_p, True
    elif _is_set(of_k):
        numbers = of_k
    else:
        raise CameraInfoError(
            f"camera_info is not calibrated: fx {_text(k[0])} in K and {_text(p[0])} in P"
        )
    fx, fy, cx, cy = numbers
    # The centre of the first pixel is at 0, so a binned pixel's lies half-way between its parts'.
    return Intrinsics(
        fx_px=fx / binning_xy[0],
        fy_px=fy / binning_xy[1],
        cx_px=(cx - info.roi.x_offset + 0.5) / binning_xy[0] - 0.5,
        cy_px=(cy - info.roi.y_offset + 0.5) / binning_xy[1] - 0.5,
        **({} if rectified else _lens(info)),
    )


def _check_size(info: Any, binning_xy: tuple[int, int], size_hw: tuple[int, int]) -> None:
    # All zero means the whole sensor.
    width = (int(info.roi.width) or int(info.width)) // binning_xy[0]
    height = (int(info.roi.height) or int(info.height)) // binning_xy[1]
    if (height, width) == size_hw:
        return
    changes = f", binning {binning_xy[0]} x {binning_xy[1]}" if max(binning_xy) > 1 else ""
    if info.roi.width or info.roi.height:
        changes += f", roi {info.roi.width} x {info.roi.height}"
    by_what = f" ({info.width} x {info.height}{changes})" if changes else ""
    raise CameraInfoError(
        f"camera_info is of {width} x {height} pixels{by_what}, "
        f"the image of {size_hw[1]} x {size_hw[0]}"
    )


def _is_set(numbers: tuple[float, ...]) -> bool:
    fx, fy, *_ = numbers
    return fx > 0 and fy > 0 and all(math.isfinite(value) for value in numbers)


def _lens(info: Any) -> dict[str, Any]:
    """Read what is needed to undistort points; nothing for a lens without distortion."""
    coefficients = tuple(float(value) for value in info.d)
    if not any(coefficients):
        return {}
    name = str(info.distortion_model)
    is_fisheye = name in FISHEYE_MODELS
    lengths = (FISHEYE_LENGTH,) if is_fisheye else RATIONAL_LENGTHS
    if not is_fisheye and name not in RATIONAL_MODELS:
        raise CameraInfoError(
            f"camera_info has the distortion model {name[:MAX_NAME]!r}; known are "
            f"{', '.join(RATIONAL_MODELS + FISHEYE_MODELS)}: give the rectified image"
        )
    if len(coefficients) not in lengths or not all(math.isfinite(v) for v in coefficients):
        raise CameraInfoError(
            f"camera_info has {len(coefficients)} coefficients of distortion or ones that are no "
            f"numbers; {name} takes {', '.join(str(n) for n in lengths)}"
        )
    return {"distortion": coefficients, "is_fisheye": is_fisheye}


def _text(value: float) -> str:
    return f"{value:g}"
