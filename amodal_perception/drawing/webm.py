"""WebM (VP8) videos in real time, with the same bytes for the same frames.

A WebM file (Matroska) of VP8 pictures, each a key frame: a lossy WebP picture holds exactly one
VP8 key frame (RFC 9649), so OpenCV's WebP encoder makes them and only the container is written
here. OpenCV's own VideoWriter would do it too, but takes more than twice as long, keeps one fixed
frame rate, and puts random ids into the file. Element ids and layout: RFC 8794 (EBML), RFC 9559
(Matroska) and the WebM container guidelines.
"""

from __future__ import annotations

import struct
from pathlib import Path

import cv2

from amodal_perception.structures import UInt8Array

QUALITY = 70
MAX_SIDE_PX = 1280
MAX_STEP_MS = 1000
FIRST_STEP_MS = 100
CLUSTER_MS = 5_000

EBML, SEGMENT, SEEK_HEAD, SEEK, SEEK_ID, SEEK_POSITION = (
    0x1A45DFA3, 0x18538067, 0x114D9B74, 0x4DBB, 0x53AB, 0x53AC,
)  # fmt: skip
INFO, TIMESTAMP_SCALE, DURATION, MUXING_APP, WRITING_APP = (
    0x1549A966, 0x2AD7B1, 0x4489, 0x4D80, 0x5741,
)  # fmt: skip
TRACKS, TRACK, TRACK_NUMBER, TRACK_UID, TRACK_TYPE, CODEC, LACING, VIDEO, WIDTH, HEIGHT = (
    0x1654AE6B, 0xAE, 0xD7, 0x73C5, 0x83, 0x86, 0x9C, 0xE0, 0xB0, 0xBA,
)  # fmt: skip
CLUSTER, TIMESTAMP, SIMPLE_BLOCK = 0x1F43B675, 0xE7, 0xA3
CUES, CUE, CUE_TIME, CUE_TRACKS, CUE_TRACK, CUE_CLUSTER = (
    0x1C53BB6B, 0xBB, 0xB3, 0xB7, 0xF7, 0xF1,
)  # fmt: skip


class VideoFile:
    """A ``.webm`` file to which frames are added one by one; use it as a context manager.

    All frames take the first one's size; what is larger than `MAX_SIDE_PX` is shrunk.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("wb")
        self._size_wh: tuple[int, int] | None = None
        self._time_ms = 0
        self._step_ms = FIRST_STEP_MS
        self._last_stamp_ns: int | None = None
        self._segment_start = 0
        self._cluster: list[bytes] = []
        self._cluster_ms = 0
        self._cues: list[tuple[int, int]] = []

    def add(self, image: UInt8Array, stamp_ns: int) -> None:
        """Add a frame.

        Args:
            image: [H, W, 3] uint8 RGB.
            stamp_ns: when it was taken. A gap is shown as `MAX_STEP_MS` at most, and a clock that
                stands still or jumps back as if it had gone on as before.
        """
        if self._size_wh is None:
            self._size_wh = _size_to_show(image)
            self._begin(self._size_wh)
        else:
            self._advance(stamp_ns)
        self._last_stamp_ns = stamp_ns
        if self._cluster and self._time_ms - self._cluster_ms >= CLUSTER_MS:
            self._write_cluster()
        if not self._cluster:
            self._cluster_ms = self._time_ms
        key_frame = 0x80
        head = struct.pack(">BhB", 0x81, self._time_ms - self._cluster_ms, key_frame)
        self._cluster.append(_element(SIMPLE_BLOCK, head + _vp8_key_frame(image, self._size_wh)))

    def close(self) -> None:
        """Write the index and close; a video without frames is an empty file."""
        if self._file.closed:
            return
        with self._file:
            if self._size_wh is None:
                return
            self._write_cluster()
            cues_at = self._file.tell() - self._segment_start
            self._file.write(_element(CUES, b"".join(_cue(*cue) for cue in self._cues)))
            end = self._file.tell()
            self._file.seek(self._segment_start - 8)
            self._file.write(struct.pack(">Q", (1 << 56) | (end - self._segment_start)))
            self._file.write(_head(self._size_wh, cues_at, self._time_ms + self._step_ms))

    def __enter__(self) -> VideoFile:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _advance(self, stamp_ns: int) -> None:
        assert self._last_stamp_ns is not None
        step_ms = round((stamp_ns - self._last_stamp_ns) / 1e6)
        if step_ms > 0:
            self._step_ms = min(step_ms, MAX_STEP_MS)
        self._time_ms += self._step_ms

    def _begin(self, size_wh: tuple[int, int]) -> None:
        kind = (
            _number(0x4286, 1) + _number(0x42F7, 1) + _number(0x42F2, 4) + _number(0x42F3, 8)
            + _element(0x4282, b"webm") + _number(0x4287, 2) + _number(0x4285, 2)
        )  # fmt: skip
        # The sizes that are not known yet take 8 bytes, to be written over in the end.
        self._file.write(_element(EBML, kind) + _id(SEGMENT) + b"\x01" + b"\xff" * 7)
        self._segment_start = self._file.tell()
        self._file.write(_head(size_wh, 0, 0))

    def _write_cluster(self) -> None:
        self._cues.append((self._cluster_ms, self._file.tell() - self._segment_start))
        content = _number(TIMESTAMP, self._cluster_ms) + b"".join(self._cluster)
        self._file.write(_element(CLUSTER, content))
        self._cluster = []


def _size_to_show(image: UInt8Array) -> tuple[int, int]:
    height, width = image.shape[:2]
    scale = min(MAX_SIDE_PX / max(height, width), 1.0)
    return max(round(width * scale), 1), max(round(height * scale), 1)


def _vp8_key_frame(image: UInt8Array, size_wh: tuple[int, int]) -> bytes:
    """Encode a picture as WebP and take the one VP8 frame out of it."""
    if (image.shape[1], image.shape[0]) != size_wh:
        image = cv2.resize(image, size_wh, interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    _, encoded = cv2.imencode(".webp", bgr, [cv2.IMWRITE_WEBP_QUALITY, QUALITY])
    webp = encoded.tobytes()
    assert webp[:4] == b"RIFF"
    assert webp[8:16] == b"WEBPVP8 ", webp[8:16]
    return webp[20 : 20 + int.from_bytes(webp[16:20], "little")]


def _head(size_wh: tuple[int, int], cues_at: int, duration_ms: int) -> bytes:
    """Return everything before the first cluster; always of the same length."""
    info = _element(
        INFO,
        _number(TIMESTAMP_SCALE, 1_000_000)
        + _element(DURATION, struct.pack(">d", duration_ms))
        + _element(MUXING_APP, b"amodal_perception")
        + _element(WRITING_APP, b"amodal_perception"),
    )
    track = (
        _number(TRACK_NUMBER, 1)
        + _number(TRACK_UID, 1)
        + _number(TRACK_TYPE, 1)
        + _number(LACING, 0)
        + _element(CODEC, b"V_VP8")
        + _element(VIDEO, _number(WIDTH, size_wh[0]) + _number(HEIGHT, size_wh[1]))
    )
    tracks = _element(TRACKS, _element(TRACK, track))
    seek_length = len(_seek_head({INFO: 0, TRACKS: 0, CUES: 0}))
    places = {INFO: seek_length, TRACKS: seek_length + len(info), CUES: cues_at}
    return _seek_head(places) + info + tracks


def _seek_head(places: dict[int, int]) -> bytes:
    return _element(
        SEEK_HEAD,
        b"".join(
            _element(SEEK, _element(SEEK_ID, _id(kind)) + _number(SEEK_POSITION, place))
            for kind, place in places.items()
        ),
    )


def _cue(time_ms: int, cluster_at: int) -> bytes:
    place = _number(CUE_TRACK, 1) + _number(CUE_CLUSTER, cluster_at)
    return _element(CUE, _number(CUE_TIME, time_ms) + _element(CUE_TRACKS, place))


def _id(kind: int) -> bytes:
    return kind.to_bytes((kind.bit_length() + 7) // 8, "big")


def _element(kind: int, content: bytes) -> bytes:
    return _id(kind) + struct.pack(">Q", (1 << 56) | len(content)) + content


def _number(kind: int, value: int) -> bytes:
    return _element(kind, struct.pack(">Q", value))
