from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from amodal_perception.drawing.webm import CLUSTER_MS, MAX_SIDE_PX, MAX_STEP_MS, VideoFile

SECOND_NS = 10**9


def grey(level: int, size_hw=(48, 64)) -> np.ndarray:
    return np.full((*size_hw, 3), level, np.uint8)


def write(path: Path, frames: list[tuple[np.ndarray, int]]) -> Path:
    with VideoFile(path) as video:
        for image, stamp_ns in frames:
            video.add(image, stamp_ns)
    return path


def read(path: Path) -> tuple[list[np.ndarray], list[int]]:
    """Read with an independent decoder: FFmpeg's."""
    capture = cv2.VideoCapture(str(path))
    images, times_ms = [], []
    while True:
        there, image = capture.read()
        if not there:
            return images, times_ms
        images.append(image[..., ::-1])
        times_ms.append(round(capture.get(cv2.CAP_PROP_POS_MSEC)))


def test_frames_come_back_at_their_time(tmp_path):
    stamps_ms = [0, 40, 140, 200]
    colors = [(250, 10, 10), (10, 250, 10), (10, 10, 250), (128, 128, 128)]
    frames = [
        (np.full((48, 64, 3), color, np.uint8), 5 * SECOND_NS + ms * 10**6)
        for color, ms in zip(colors, stamps_ms)
    ]
    images, times_ms = read(write(tmp_path / "video.webm", frames))
    assert times_ms == stamps_ms
    for image, color in zip(images, colors):
        assert np.abs(image.reshape(-1, 3).mean(axis=0) - color).max() < 12


def test_any_frame_can_be_sought(tmp_path):
    # Far apart, so that there are several clusters to find.
    count = 4 * CLUSTER_MS // MAX_STEP_MS
    frames = [(grey(10 * i), i * SECOND_NS) for i in range(count)]
    capture = cv2.VideoCapture(str(write(tmp_path / "video.webm", frames)))
    for index in (count - 1, 3, count // 2):
        capture.set(cv2.CAP_PROP_POS_MSEC, index * 1000)
        assert abs(capture.read()[1].mean() - 10 * index) < 5


def test_the_same_frames_give_the_same_bytes(tmp_path):
    frames = [(grey(50 * i), i * SECOND_NS) for i in range(3)]
    one, two = (write(tmp_path / name, frames).read_bytes() for name in ("a.webm", "b.webm"))
    assert one == two


@pytest.mark.parametrize(
    ("stamps_s", "times_ms"),
    [
        ([5, 5.2, 100, 100.2], [0, 200, 200 + MAX_STEP_MS, 400 + MAX_STEP_MS]),
        ([5, 5.2, 3, 3.2], [0, 200, 400, 600]),  # a clock that jumps back
        ([5, 5, 5], [0, 100, 200]),  # one that stands still
    ],
)
def test_strange_clocks_give_a_film_to_watch(tmp_path, stamps_s, times_ms):
    frames = [(grey(9), int(s * SECOND_NS)) for s in stamps_s]
    assert read(write(tmp_path / "video.webm", frames))[1] == times_ms


def test_large_frames_are_shrunk_and_other_sizes_fitted(tmp_path):
    frames = [(grey(9, (500, 2 * MAX_SIDE_PX)), 0), (grey(99, (31, 17)), 10**8)]
    images, _ = read(write(tmp_path / "video.webm", frames))
    assert [image.shape for image in images] == [(250, MAX_SIDE_PX, 3)] * 2


def test_one_pixel_and_no_frame(tmp_path):
    (image,), _ = read(write(tmp_path / "one.webm", [(grey(200, (1, 1)), 0)]))
    assert image.shape == (1, 1, 3)
    assert write(tmp_path / "none.webm", []).read_bytes() == b""
