"""Write the sample bag and its truth: ``python -m training.sim.bag``.

A camera moves over several cluttered scenes, cut one after another: 640 x 480 at 10 Hz, colour as
JPEG, camera info, and depth aligned to colour as 16-bit PNG, millimetres. The seeds lie far from
those of any training set, and shapes held out from training are among the objects.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore
from tqdm import tqdm

import amodal_perception
from amodal_perception.command_line import run_main
from amodal_perception.ordering import TRUTH_CONFIG, occlusion_graph
from amodal_perception.storage import amodal_coco
from amodal_perception.structures import Scene
from training.sim.camera_effects import encode_jpeg
from training.sim.generate import CLASS_NAMES
from training.sim.trajectory import FilmFrame, render_trajectory

SEEDS = (10_000_007, 10_000_011, 10_000_019, 10_000_002, 10_000_020, 10_000_022)
FRAMES_PER_SCENE = 8
PERIOD_NS = 100_000_000
START_NS = 1_750_000_000_000_000_000
FRAME_ID = "camera_color_optical_frame"
JPEG_QUALITY = 85
MAX_DEPTH_MM = 10_000

COLOUR_TOPIC = "/camera/color/image_raw/compressed"
INFO_TOPIC = "/camera/color/camera_info"
DEPTH_TOPIC = "/camera/aligned_depth/image_raw/compressed"


def write_bag(
    bag: Path, truth: Path, *, seeds: tuple[int, ...] = SEEDS, frames: int = FRAMES_PER_SCENE
) -> None:
    """Render the scenes, and write the bag (a folder, replaced) and the truth (amodal COCO).

    Args:
        bag: folder of the bag.
        truth: JSON file; each image record carries the stamp of its picture, ``stamp_ns``, and
            each annotation a ``track_id`` that stays with its object through the film.
        seeds: one scene each.
        frames: pictures per scene.
    """
    temporary = bag.with_name(f".{bag.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.parent.mkdir(parents=True, exist_ok=True)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    occlusions: list[dict[str, Any]] = []
    typestore = get_typestore(Stores.ROS2_JAZZY)
    types = typestore.types
    writer = Writer(temporary / bag.name, version=9, storage_plugin=StoragePlugin.MCAP)
    writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
    with writer:
        image_type, info_type = "sensor_msgs/msg/CompressedImage", "sensor_msgs/msg/CameraInfo"
        colour = writer.add_connection(COLOUR_TOPIC, image_type, typestore=typestore)
        info = writer.add_connection(INFO_TOPIC, info_type, typestore=typestore)
        depth = writer.add_connection(DEPTH_TOPIC, image_type, typestore=typestore)
        film = tqdm(_film(seeds, frames), total=len(seeds) * frames, unit="image", desc=str(bag))
        for index, (seed, frame) in enumerate(film):
            stamp_ns = START_NS + index * PERIOD_NS
            header = _header(types, stamp_ns)
            for connection, message in (
                (colour, _colour_message(types, header, frame)),
                (info, _info_message(types, header, frame)),
                (depth, _depth_message(types, header, frame)),
            ):
                data = typestore.serialize_cdr(message, connection.msgtype)
                writer.write(connection, stamp_ns, data)
            rows, edges = _truth_rows(
                frame, stamp_ns, index, seed=seed, first_id=len(annotations) + 1
            )
            annotations += rows
            occlusions += edges
            images.append(
                amodal_coco.image_record(
                    index + 1,
                    f"{stamp_ns}.jpg",
                    frame.truth.size_hw,
                    stamp_ns=stamp_ns,
                    scene_seed=seed,
                )
            )
    shutil.rmtree(bag, ignore_errors=True)
    (temporary / bag.name).rename(bag)
    temporary.rmdir()
    amodal_coco.write(
        truth,
        images=images,
        annotations=annotations,
        categories=amodal_coco.categories_of(CLASS_NAMES),
        occlusions=occlusions,
        info={"description": f"exact truth of the simulated bag {bag.name}", "families": "mixed"},
    )


def _film(seeds: tuple[int, ...], frames: int) -> Iterator[tuple[int, FilmFrame]]:
    for seed in seeds:
        for frame in render_trajectory(seed, frames, families="mixed"):
            yield seed, frame


def _truth_rows(
    frame: FilmFrame, stamp_ns: int, index: int, *, seed: int, first_id: int
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    scene = Scene(
        stamp_ns=stamp_ns,
        frame_id=FRAME_ID,
        instances=frame.truth,
        graph=occlusion_graph(frame.truth, TRUTH_CONFIG),
        model_id="truth",
        class_names=CLASS_NAMES,
    )
    rows, edges = amodal_coco.scene_to_annotations(
        scene, image_id=index + 1, first_id=first_id, predicted=False
    )
    for row, family, number in zip(rows, frame.families, frame.objects):
        row["family"] = family
        row["track_id"] = f"{seed}/{number}"
    return rows, edges


def _header(types: Any, stamp_ns: int) -> Any:
    sec, nanosec = divmod(stamp_ns, 10**9)
    stamp = types["builtin_interfaces/msg/Time"](sec=sec, nanosec=nanosec)
    return types["std_msgs/msg/Header"](stamp=stamp, frame_id=FRAME_ID)


def _colour_message(types: Any, header: Any, frame: FilmFrame) -> Any:
    jpeg = encode_jpeg(frame.image, JPEG_QUALITY)
    return types["sensor_msgs/msg/CompressedImage"](
        header=header,
        format="rgb8; jpeg compressed bgr8",
        data=np.frombuffer(jpeg, np.uint8),
    )


def _depth_message(types: Any, header: Any, frame: FilmFrame) -> Any:
    depth_mm = np.rint(frame.depth_m * 1000)
    depth_mm[depth_mm > MAX_DEPTH_MM] = 0  # REP 118: no measurement
    png = cv2.imencode(".png", depth_mm.astype(np.uint16), [cv2.IMWRITE_PNG_COMPRESSION, 9])[1]
    return types["sensor_msgs/msg/CompressedImage"](
        header=header, format="16UC1; png compressed", data=png.ravel()
    )


def _info_message(types: Any, header: Any, frame: FilmFrame) -> Any:
    height, width = frame.truth.size_hw
    k = frame.camera_matrix
    p = np.hstack([k, np.zeros((3, 1))])
    roi = types["sensor_msgs/msg/RegionOfInterest"](
        x_offset=0, y_offset=0, height=0, width=0, do_rectify=False
    )
    return types["sensor_msgs/msg/CameraInfo"](
        header=header,
        height=height,
        width=width,
        distortion_model="plumb_bob",
        d=np.zeros(5),
        k=k.ravel(),
        r=np.eye(3).ravel(),
        p=p.ravel(),
        binning_x=0,
        binning_y=0,
        roi=roi,
    )


def main(argv: list[str] | None = None) -> int:
    """Run the command; return the exit code."""
    assets = Path(next(iter(amodal_perception.__path__))) / "assets"
    parser = argparse.ArgumentParser(prog="python -m training.sim.bag", description=__doc__)
    parser.add_argument("--out", type=Path, default=assets / "sample_bag", help="the bag's folder")
    parser.add_argument("--truth", type=Path, default=assets / "sample_truth.json")
    args = parser.parse_args(argv)
    return run_main("training.sim.bag", lambda: _run(args))


def _run(args: argparse.Namespace) -> None:
    write_bag(args.out, args.truth)


if __name__ == "__main__":
    sys.exit(main())
