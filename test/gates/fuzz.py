"""Messages that are damaged in every field and every byte, at a node that must outlive them."""

from __future__ import annotations

import subprocess
from contextlib import ExitStack

import cv2
import numpy as np
from helpers.depth_camera import compress_depth
from helpers.running_node import Camera, Monitor, node_process
from tqdm import tqdm

from amodal_perception.ros.frame_statistics import DROPS
from gates.watch import Figure, growth, rss_mb

ENCODINGS = (
    *("rgb8", "bgr8", "rgba8", "bgra8", "mono8", "mono16", "rgb16", "bgr16", "8UC1", "8UC3"),
    *("bayer_rggb8", "bayer_gbrg16", "uyvy", "yuv422", "yuv422_yuy2", "nv12", "nv21"),
    *("16UC1", "32FC1", "64FC1", "", "RGB8", "yuv420", "\N{PILE OF POO}", "x" * 70_000),
)
NUMBERS = (0, 1, 2, 3, 7, 63, 64, 65, 255, 256, 4096, 2**16, 2**31 - 1, 2**31, 2**32 - 1)
SIGN_OF_LIFE_EVERY = 500
RSS_LIMIT_MB = 20.0
MAX_PIXELS = 1_000_000
# The node works on the newest message; a pause lets it see most of them.
PAUSE_S = 0.001


class Mutator:
    """Makes messages that are wrong, by one generator of random numbers."""

    def __init__(self, rng: np.random.Generator, camera: Camera) -> None:
        from sensor_msgs.msg import CameraInfo

        self._rng, self._camera, self.info_type = rng, camera, CameraInfo
        picture = rng.integers(0, 256, (48, 64, 3), np.uint8)
        self._jpeg = cv2.imencode(".jpg", picture)[1].tobytes()
        self._png = cv2.imencode(".png", picture)[1].tobytes()

    def image(self, depth: bool = False) -> bytes:
        """Make a raw image of any fields, then damage its bytes."""
        rng = self._rng
        height, width = (int(v) for v in rng.integers(1, 80, 2))
        pixel_bytes = int(rng.choice([1, 2, 3, 4, 6, 8]))
        size = int(rng.choice([width * height * pixel_bytes, rng.integers(0, 20_000)]))
        fields = {
            "height": height,
            "width": width,
            "encoding": "16UC1" if depth and rng.random() < 0.7 else str(rng.choice(ENCODINGS)),
            "is_bigendian": int(rng.integers(0, 2)),
            "step": width * pixel_bytes,
        }
        message = self._camera.image(
            int(rng.integers(1, 1000)), rng.integers(0, 256, (1, max(size // 3, 1), 3), np.uint8)
        )
        for name in rng.permutation(["height", "width", "step"])[: rng.integers(0, 3)]:
            fields[str(name)] = int(rng.choice(NUMBERS))
        for name, value in fields.items():
            setattr(message, name, value)
        return self._damaged(message)

    def compressed(self) -> bytes:
        """Make a JPEG or PNG image, damage the picture, then the message."""
        rng = self._rng
        data = bytearray(self._jpeg if rng.random() < 0.5 else self._png)
        for _ in range(int(rng.integers(0, 8))):
            data[rng.integers(len(data))] = rng.integers(256)
        data = data[: rng.integers(1, len(data) + 1)] if rng.random() < 0.3 else data
        message = self._camera.compressed(int(rng.integers(1, 1000)), bytes(data))
        message.format = str(rng.choice(["jpeg", "png", "", "16UC1; compressedDepth", "x" * 9999]))
        return self._damaged(message)

    def compressed_depth(self) -> bytes:
        """Make compressed depth, PNG or RVL, damage the coding, then the message."""
        rng = self._rng
        coder = str(rng.choice(["png", "rvl"]))
        samples = rng.integers(0, 3, (48, 64)).astype(np.uint16) * 700
        data = bytearray(compress_depth(samples, coder, (float(rng.normal()), 1.0)))
        for _ in range(int(rng.integers(0, 8))):
            # Mostly in the headers: there, sizes are at stake.
            data[rng.integers(40 if rng.random() < 0.5 else len(data))] = rng.integers(256)
        data = data[: rng.integers(1, len(data) + 1)] if rng.random() < 0.3 else data
        message = self._camera.compressed(int(rng.integers(1, 1000)), bytes(data))
        encoding = str(rng.choice(["16UC1", "32FC1", "8UC1", ""]))
        message.format = f"{encoding}; compressedDepth {coder}"
        if rng.random() < 0.2:
            message.format = str(rng.choice(["16UC1", ";", "jpeg", "16UC1; compressedDepth x"]))
        return self._damaged(message)

    def camera_info(self) -> bytes:
        """Make a camera model of any numbers, lens, binning and region of interest."""
        rng = self._rng
        message = self.info_type(header=self._camera.header(int(rng.integers(1, 1000))))
        message.width, message.height = int(rng.choice(NUMBERS)), int(rng.choice(NUMBERS))
        if rng.random() < 0.5:
            message.width, message.height = 64, 48
        numbers = [0.0, -1.0, 1e-300, 1e300, np.nan, np.inf, 50.0]
        message.k, message.p = rng.choice(numbers, 9), rng.choice(numbers, 12)
        if rng.random() < 0.5:
            message.k[0] = message.k[4] = message.p[0] = message.p[5] = 50.0
        if rng.random() < 0.5:
            message.d = rng.choice([*numbers, 0.1], int(rng.integers(0, 15))).tolist()
        models = ["plumb_bob", "rational_polynomial", "equidistant", "x" * 9999]
        message.distortion_model = str(rng.choice(models))
        if rng.random() < 0.3:
            message.binning_x, message.binning_y = (int(rng.choice(NUMBERS)) for _ in "xy")
            message.roi.x_offset, message.roi.width = (int(rng.choice(NUMBERS)) for _ in "xy")
        return self._damaged(message)

    def _damaged(self, message) -> bytes:
        """Serialise a message; change some bytes of every second, cut or lengthen some."""
        from rclpy.serialization import serialize_message

        rng = self._rng
        cdr = bytearray(serialize_message(message))
        if rng.random() < 0.5:
            # Mostly in the fields before the pixels: there, lengths and sizes are at stake.
            reach = len(cdr) if rng.random() < 0.2 else min(len(cdr), 100)
            for _ in range(int(rng.integers(1, 8))):
                cdr[rng.integers(reach)] = rng.integers(256)
        if rng.random() < 0.1:
            cdr = cdr[: rng.integers(4, len(cdr) + 1)]
        if rng.random() < 0.05:
            cdr += rng.bytes(int(rng.integers(1, 100)))
        return bytes(cdr)


def run(ros, models, count: int, seed: int) -> list[Figure]:
    """Send messages to two nodes, of which one reads raw and one compressed images."""
    from amodal_perception.msg import ObjectExtents

    camera = Camera(ros)
    monitors = Monitor(camera), Monitor(camera, "packed/amodal_perception")
    mutator = Mutator(np.random.default_rng(seed), camera)
    node = camera.node
    for namespace in ("", "/packed"):
        extents = f"{namespace}/amodal_perception/extents"
        node.create_subscription(ObjectExtents, extents, lambda _: None, camera.reliable)
    # Damaged JPEG headers announce images of any size, and after some large ones the allocator
    # keeps more memory than before; with a limit, what grows is a leak.
    model = f"model_file_path:={models.quick}", f"max_image_pixels:={MAX_PIXELS}"
    quiet = {"stderr": subprocess.DEVNULL}  # the middleware prints a line for each bad message
    with ExitStack() as stack:
        raw = stack.enter_context(node_process(*model, **quiet))
        images = camera.publisher()
        depths = node.create_publisher(camera.image_type, "/depth", camera.reliable)
        infos = node.create_publisher(mutator.info_type, "/camera_info", camera.reliable)
        squeezed = node.create_publisher(
            camera.compressed_type, "/packed/image/compressed", camera.reliable
        )
        squeezed_depths = node.create_publisher(
            camera.compressed_type, "/packed/depth/compressedDepth", camera.reliable
        )
        packed_infos = node.create_publisher(
            mutator.info_type, "/packed/camera_info", camera.reliable
        )
        packed = stack.enter_context(
            node_process(
                *model,
                "image_transport:=compressed",
                "depth_transport:=compressedDepth",
                "lazy:=false",
                remap="__ns:=/packed",
                **quiet,
            )
        )
        camera.spin_until(squeezed.get_subscription_count, "the second node")
        makers = (
            (images, mutator.image),
            (squeezed, mutator.compressed),
            (depths, lambda: mutator.image(depth=True)),
            (infos, mutator.camera_info),
            (squeezed_depths, mutator.compressed_depth),
            (packed_infos, mutator.camera_info),
        )
        nodes = {"raw": raw, "compressed": packed}
        memory_mb: dict[str, list[float]] = {name: [] for name in nodes}
        crashes = hangs = 0
        for number in tqdm(range(count), "messages", unit=""):
            publisher, make = makers[number % len(makers)]
            publisher.publish(make())
            camera.wait(PAUSE_S)
            if number % SIGN_OF_LIFE_EVERY:
                continue
            crashes = sum(process.poll() is not None for process in nodes.values())
            if crashes:
                break
            camera.scenes.clear()
            try:
                camera.see(images, camera.image(2000 + number))
            except AssertionError:
                hangs += 1
            for name, process in nodes.items():
                memory_mb[name].append(rss_mb(process.pid))
        camera.wait(1.5)  # for the last diagnostics
        totals = {
            name: sum(int(monitor.values("processing")[name]) for monitor in monitors)
            for name in ("published", *(f"dropped.{cause}" for cause in DROPS), "callback_errors")
        }
    node.destroy_node()
    return [
        Figure("messages sent", number + 1),
        Figure("crashes", crashes, limit=0),
        Figure("hangs", hangs, limit=0),
        *(
            Figure(f"growth of memory, {name} images, MB", growth(samples), limit=RSS_LIMIT_MB)
            for name, samples in memory_mb.items()
        ),
        *(Figure(f"images {name}", value) for name, value in totals.items()),
    ]
